"""Local expansions against automatic differentiation and finite differences of the real loss; what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.losses.smooth_losses import SAME, drawn, gradient, seeds, smooth, tensors
from theory.errors import CannotTrace
from theory.losses.taylor import NoExpansion, expand
from theory.losses.taylor import s as s_
from theory.losses.taylor import x as x_


@settings(max_examples=3)
@given(seeds)
def test_every_derivative_is_that_of_automatic_differentiation(seed):
    weights, point, frame = drawn(seed)
    found = expand(lambda w: smooth(weights, w), point.tolist(), frame[:2].tolist(), 4)
    truth = tensors(weights, point, frame[:2])
    for i, j in itertools.product(range(5), repeat=2):
        if i + j <= 4:
            at = (0,) * i + (1,) * j
            np.testing.assert_allclose(float(found.derivative(i, j)), truth[i + j][at], **SAME, err_msg=f"{i}, {j}")


@settings(max_examples=3)
@given(seeds, st.integers(1, 4))
def test_the_remainder_has_the_order_that_is_stated(seed, order):
    weights, point, frame = drawn(seed)
    found = expand(lambda w: smooth(weights, w), point.tolist(), frame[:2].tolist(), order)
    along = np.array([0.6, 0.8])
    sizes = np.array([0.02, 0.01])

    def errors(size):
        c = dict(zip((x_, s_), size * along, strict=True))
        truth = np.asarray(gradient(weights, point + size * along @ frame[:2]))
        off = [float(g.subs(c)) - truth @ d for g, d in zip(found.gradient(), frame[:2], strict=True)]
        return [float(found.polynomial.subs(c) - smooth(weights, point + size * along @ frame[:2])), *off]

    big, small = np.abs([errors(size) for size in sizes])
    powers = np.array([order + 1, order, order])
    # the leading term c size^power, c up to some hundred, may vanish by accident: then what follows, of one power more,
    # may fall by less; 1e-12 is the rounding of a difference of numbers of order ten
    assert np.all(small <= big * 2.0**-powers * 1.3 + 100 * sizes[1] ** (powers + 1) + 1e-12)


def test_exact_numbers_stay_exact():
    found = expand(lambda w: jnp.exp(w[0]) * w[1] ** 3, [0, sp.Rational(1, 3)], [[1, 0], [0, 1]], 4)
    assert found.derivative(1, 2) == 2 and found.derivative(4, 0) == sp.Rational(1, 27)
    assert not found.polynomial.atoms(sp.Float)
    a = sp.Symbol("a", positive=True)
    symbol = expand(lambda w: w[0] ** 2 * w[1], [a, 0], [[1, 0], [0, 1]], 3)
    assert sp.expand(symbol.polynomial - (a + x_) ** 2 * s_) == 0


def test_a_polynomial_is_its_own_expansion():
    """In a rotated frame with exact entries, and in three coordinates of which one is left out."""
    c = sp.symbols("p q", real=True)
    third = sp.Rational(1, 5)
    found = expand(lambda w: w[0] ** 3 - 2 * w[0] * w[1] + 7, [1, 2], [[3 * third, 4 * third], [-4 * third, 3 * third]],
                   3, c)  # fmt: skip
    first, second = 1 + (3 * c[0] - 4 * c[1]) * third, 2 + (4 * c[0] + 3 * c[1]) * third
    assert sp.expand(found.polynomial - (first**3 - 2 * first * second + 7)) == 0
    low = expand(lambda w: w[0] ** 3, [1], [[1]], 2, c)
    assert low.coordinates == (c[0],) and sp.expand(low.polynomial - (1 + 3 * c[0] + 3 * c[0] ** 2)) == 0


@pytest.mark.parametrize(
    ("loss", "degree"),
    [
        (lambda w: jnp.abs(w[0]), 1),
        (lambda w: jnp.sqrt(w[0] ** 2 + w[1] ** 2), 1),
        (lambda w: jnp.maximum(w[0], 0.0) ** 2, 2),
        (lambda w: jax.nn.relu(w[0] - w[1]), 1),
        (lambda w: jnp.log(w[0]), 0),
    ],
    ids=["abs", "norm", "relu squared", "relu", "log"],
)
def test_a_point_where_the_loss_is_not_smooth_is_refused(loss, degree):
    with pytest.raises(NoExpansion):
        expand(loss, [0, 0], [[1, 0], [0, 1]], max(degree, 1))


def test_a_kink_is_no_obstacle_below_its_order():
    """relu^2 has one continuous derivative: expanded to degree 1 it is flat.  logsumexp only looks as if it had one."""
    assert expand(lambda w: jax.nn.relu(w[0]) ** 2, [0, 0], [[1, 0], [0, 1]], 1).polynomial == 0
    found = expand(jax.nn.logsumexp, [0, 0], [[1, 0], [0, 1]], 2)
    assert sp.simplify(found.polynomial - sp.log(2) - (x_ + s_) / 2 - (x_ - s_) ** 2 / 8) == 0


def test_the_same_losses_away_from_there_are_not():
    for loss, slope in ((lambda w: jnp.abs(w[0]), -1), (lambda w: jax.nn.relu(w[0] - w[1]), 0)):
        assert expand(loss, [-1, 0], [[1, 0], [0, 1]], 3).derivative(1, 0) == slope


@pytest.mark.parametrize(
    ("point", "directions", "order"),
    [([0, 0], [[1, 0, 0]], 2), ([0, 0], [[1, 0], [0, 1], [1, 1]], 2), ([0, 0], [[1, 0]], 0), ([0], [[1, 0]], 1)],
    ids=["long direction", "more directions than names", "order 0", "short point"],
)
def test_shapes_that_do_not_fit_are_refused(point, directions, order):
    with pytest.raises(NoExpansion, match="got a point of"):
        expand(lambda w: jnp.sum(w**2), point, directions, order)


def test_a_derivative_beyond_the_order_is_refused():
    found = expand(lambda w: jnp.sum(w**2), [0, 0], [[1, 0], [0, 1]], 2)
    for counts in ((2, 1), (1,), (1, 1, 0)):
        with pytest.raises(NoExpansion):
            found.derivative(*counts)


def test_a_loss_without_translation_is_refused():
    with pytest.raises(CannotTrace):
        expand(lambda w: jnp.sum(jnp.fft.fft(w).real), [0.0, 0.0], [[1, 0]], 2)


def test_the_factor_of_the_expansion_is_a_factorial():
    """Against Taylor's series of exp, so that no shared convention can hide a missing factorial."""
    found = expand(lambda w: jnp.exp(2 * w[0] + 3 * w[1]), [0, 0], [[1, 0], [0, 1]], 4)
    for i, j in itertools.product(range(5), repeat=2):
        if i + j <= 4:
            coefficient = sp.Poly(found.polynomial, x_, s_).coeff_monomial(x_**i * s_**j)
            assert coefficient == sp.Rational(2**i * 3**j, math.factorial(i) * math.factorial(j))
