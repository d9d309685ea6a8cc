"""Numbers and integers in traced code: literals, comparisons, rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import theory
from theory.tracing.primitives import rational

x, y = sp.symbols("x y", real=True)


@pytest.mark.parametrize(
    ("literal", "exact"),
    [
        (0.1, sp.Rational(1, 10)), (1 / 3, sp.Rational(1, 3)), (0.1 + 0.2, sp.Rational(3, 10)),
        (2 / 7, sp.Rational(2, 7)),
        (1e-8, sp.Rational(1, 10**8)), (0.9999, sp.Rational(9999, 10000)), (np.pi, sp.pi),
        (2.5e10, sp.Integer(25 * 10**9)),
        (-0.7, -sp.Rational(7, 10)), (1.4142135623730951, sp.Rational("1.4142135623730951")), (0.0, sp.Integer(0)),
        (float("inf"), sp.oo),
    ],
)  # fmt: skip
def test_literals_become_the_simplest_number_that_rounds_to_them(literal, exact):
    assert rational(literal) == exact
    assert theory.symbolically(lambda u: literal + u)(x) == exact + x


@pytest.mark.parametrize("digits", ["0.1", "0.9", "0.99", "0.999", "0.9999", "0.123", "0.0003", "1e-8", "3.4445"])
def test_single_precision_literals_are_read_as_they_were_typed(digits):
    assert rational(np.float32(digits)) == sp.Rational(digits)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_any_literal_rounds_back_to_itself(p, q):
    # "rounds to": within one unit in the last place, so that 0.1 + 0.2 may be 3/10
    assert float(rational(p / q)) == pytest.approx(p / q, rel=5e-16)


@given(st.floats(-1e30, 1e30, allow_subnormal=False))
def test_arbitrary_floats_round_back(value):
    assert float(rational(value)) == pytest.approx(value, rel=5e-16, abs=1e-300)


def test_truth_values_are_compared_as_such():
    f = theory.symbolically(lambda u: jnp.where((u > 1) != (u > 2), 1.0, 0.0))
    assert [f(x).subs(x, sp.Rational(n, 2)) for n in (1, 3, 5)] == [0, 1, 0]
    step = sp.Symbol("n", integer=True, nonnegative=True)
    assert theory.symbolically(lambda n: n % 3)(step).subs(step, 7) == 1


@pytest.mark.parametrize("bound", [127.0, 32767.0, 2147483647.0])
def test_a_comparison_with_a_float_that_looks_like_the_largest_integer_stays_open(bound):
    """Only an integer counter saturates; `u > 127.0` is the user's own case distinction."""
    out = theory.symbolically(lambda u: jnp.where(u > bound, 1.0, u))(x)
    assert out.subs(x, sp.Integer(2) ** 40) == 1 and out.subs(x, 5) == 5


def test_the_saturating_counter_of_optax_is_decided():
    import optax

    count = sp.Symbol("count", integer=True)
    out = theory.symbolically(lambda n: optax.safe_increment(jnp.asarray(n, jnp.int32)))(count)
    assert out == count + 1


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda u: u * (jnp.arange(4) // 2), [0, 0, x, x]),
        (lambda u: u * jax.lax.div(jnp.arange(1, 4), 2), [0, x, x]),
        (lambda u: u * jax.lax.div(-jnp.arange(1, 4), 2), [0, -x, -x]),
        (lambda u: u * jax.lax.rem(-jnp.arange(1, 4), 2), [-x, 0, -x]),
        (lambda u: u * jnp.arange(4)[jnp.array([0, 2])], [0, 2 * x]),
        (lambda u: u * jnp.pad(jnp.arange(3), 1), [0, 0, x, 2 * x, 0]),
        (lambda u: u * jnp.array([5, 7, 9])[jnp.array([2, 0])], [9 * x, 5 * x]),
        (lambda u: jnp.cumsum(jnp.stack([u, u, u])), [x, 2 * x, 3 * x]),
        (lambda u: jax.lax.scan(lambda c, e: (c, c * e), u, jnp.array([1.0, 2.0]), reverse=True)[1], [x, 2 * x]),
        (lambda u: jnp.polyval(jnp.array([1.0, 2.0]), u)[None], [x + 2]),
        (lambda u: jax.lax.scan(lambda c, e: (c, c * e), u, jnp.zeros((0,)))[1], []),
    ],
)
def test_integers_and_positions(fn, expected):
    assert [sp.expand(e) for e in np.ravel(theory.symbolically(fn)(x))] == expected


@pytest.mark.parametrize("number", ["5/2", "7/2", "-5/2", "0.4"])
def test_rounding_is_to_even(number):
    exact = sp.Rational(number)
    assert float(theory.symbolically(jnp.round)(exact)) == float(jnp.round(float(exact)))
