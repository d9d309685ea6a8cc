"""The tracer's round-trip law: SymPy evaluated at numbers = the JAX value, its derivative = the JAX gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import theory
from theory.tracing.primitives import ELEMENTWISE

x, y = sp.symbols("x y", real=True)

# Functions of a vector of length three, bounded in value and slope on [-2, 2] so that compositions stay tame.
UNARY = {
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,  # custom_jvp
    "abs": lambda v: jnp.abs(v - 0.1),
    "rsqrt": lambda v: jax.lax.rsqrt(1.5 + v**2),
    "sqrt": lambda v: jnp.sqrt(0.3 + v**2),
    "exp": lambda v: jnp.exp(-(v**2)),
    "log1p": lambda v: jnp.log1p(v**2),
    "expm1": lambda v: jnp.expm1(0.3 * jnp.tanh(v)),
    "cube": lambda v: v**3 / 3,
    "inverse": lambda v: (2.0 + v**2) ** -2,
    "atan": jnp.arctan,
    "erf": jax.lax.erf,
    "where": lambda v: jnp.where(v > 0.25, v, 0.5 * v),
    "compare": lambda v: v * (v < 0.5) + (v >= -0.5) * 0.25,
    "logic": lambda v: jnp.where((v > -1) & ~(v > 1) | (v == 0), v, 1 / 3),
    "clip": lambda v: jnp.clip(v, -0.7, 0.9),
    "centre": lambda v: v - v.mean(),
    "normalise": lambda v: v / jnp.sqrt(0.1 + jnp.sum(v * v)),
    "softmax": jax.nn.softmax,
    "logsumexp": lambda v: v - jax.nn.logsumexp(v),
    "max": lambda v: v - 0.5 * v.max(),
    "min": lambda v: v + 0.1 * jnp.min(v),
    "product": lambda v: v + jnp.prod(v) / 3,
    "matmul": lambda v: jnp.array([[0.5, -0.25, 0.1], [0.0, 1.0, 0.3], [1 / 3, 0.2, -0.7]]) @ v,
    "outer": lambda v: (v[:, None] * v[None, :]).sum(axis=0) / 3,
    "reverse": lambda v: v[::-1],
    "gather": lambda v: v[jnp.array([2, 0, 0])],
    "slice": lambda v: jnp.concatenate([v[1:], v[:1]]),
    "stack": lambda v: jnp.stack([v[0], v[1] * v[2], v[2]]),
    "reshape": lambda v: jnp.tile(v, 2).reshape(2, 3).T.mean(axis=1),
    "cumsum": lambda v: jnp.cumsum(v) / 3,
    "pad": lambda v: jnp.pad(v, 1)[1:4],
    "update": lambda v: v.at[1].set(v[0] * 0.5),
    "dynamic": lambda v: v * jax.lax.dynamic_slice(v, (1,), (1,))[0],
    "jit": jax.jit(lambda v: jax.jit(jnp.sin)(v) + v),
    "remat": jax.checkpoint(lambda v: jnp.sin(v) * v),
    "vmap": jax.vmap(lambda s: s * jnp.tanh(s)),
    "cond": lambda v: jax.lax.cond(v[0] > v[1], lambda u: u, lambda u: 0.5 * u + 0.1, v),
    "scan": lambda v: jax.lax.scan(lambda c, _: (jnp.tanh(c) + 0.1, None), v, None, length=3)[0],
    "scan_over": lambda v: jax.lax.scan(lambda c, e: (0.5 * c + e, c * e), 0.2, v)[1],
    "loop": lambda v: jax.lax.fori_loop(0, 2, lambda i, c: 0.5 * c + 0.1 * i, v),
    "counter": lambda v: v * (jnp.arange(3) // 2 + 1),
    "table": lambda v: v * jnp.arange(1, 4)[jnp.array([2, 0, 1])] / 3,
    "weights": lambda v: v * jnp.array([0.1, 1 / 3, 0.7]),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - 0.5 * b,
    "mul": lambda a, b: a * b / 2,
    "div": lambda a, b: a / (1.5 + b**2),
    "max": jnp.maximum,
    "min": jnp.minimum,
    "where": lambda a, b: jnp.where(a > b, a, 0.3 * b),
    "dot": lambda a, b: a + jnp.dot(a, b) / 3,
    "hypot": lambda a, b: jnp.sqrt(a**2 + b**2 + 0.1),
    "atan2": lambda a, b: jnp.arctan2(a, 2.0 + b**2),
}


@st.composite
def programs(draw):
    """A function of a vector of length three, and its description: a list of (operation, operands) on a stack."""
    code = []
    for n in range(draw(st.integers(1, 5))):
        if draw(st.booleans()) or n == 0:
            code.append((draw(st.sampled_from([*UNARY])), (draw(st.integers(0, n)),)))
        else:
            code.append((draw(st.sampled_from([*BINARY])), (draw(st.integers(0, n)), n)))
    return tuple(code)


def runner(code):
    def run(v):
        stack = [v]
        for name, operands in code:
            table = UNARY if len(operands) == 1 else BINARY
            stack.append(table[name](*(stack[i] for i in operands)))
        return jnp.sum(stack[-1] * jnp.array([1.0, 0.7, -0.4]))

    return run


# three decimals and never a tie: kinks (where, max, abs) are then not met
points = st.lists(st.integers(-1999, 1999), min_size=3, max_size=3, unique_by=abs).map(lambda v: [i / 1000 for i in v])


def check_round_trip(run, point):
    v = sp.symbols("v:3", real=True)
    expression = theory.symbolically(run)(np.array(v, dtype=object))
    at = {s: sp.Rational(str(p)) for s, p in zip(v, point, strict=True)}
    inputs = jnp.array(point)
    value, slope = jax.value_and_grad(run)(inputs)
    # a few dozen operations, each of condition at most ~10, against 25 digits
    tolerance = 1e-12 * (1 + abs(float(value)))
    assert abs(float(sp.N(expression.xreplace(at), 25)) - float(value)) < tolerance
    nearby = [jax.grad(run)(inputs + s * 1e-9) for s in (-1, 1)]
    if not all(np.allclose(n, slope, atol=1e-6) for n in nearby):  # on a kink, where the slope is a convention
        return
    for s, expected in zip(v, slope, strict=True):
        mine = sp.diff(expression, s).xreplace(at)
        mine = mine.replace(sp.DiracDelta, lambda *_: sp.Integer(0))  # away from kinks
        assert abs(float(sp.N(mine.doit(), 25)) - float(expected)) < 1e-10 * (1 + abs(float(expected)))


@pytest.mark.parametrize("name", UNARY)
def test_each_operation_survives_the_round_trip(name):
    check_round_trip(runner(((name, (0,)),)), [0.613, -1.207, 0.341])


@pytest.mark.parametrize("name", BINARY)
def test_each_pair_survives_the_round_trip(name):
    check_round_trip(runner((("sin", (0,)), (name, (0, 1)))), [0.613, -1.207, 0.341])


# expressions of nested kinks grow fast under differentiation: a quarter of the usual number of programs
@settings(max_examples=max(10, settings.default.max_examples // 4), suppress_health_check=list(HealthCheck))
@given(programs(), points)
def test_random_programs_survive_the_round_trip(code, point):
    kinks = sum(n in ("logsumexp", "softmax", "max", "min", "clip", "where", "relu", "softplus") for n, _ in code)
    assume(kinks < 2 and len(code) < 5)
    check_round_trip(runner(code), point)


def test_the_round_trip_notices_a_wrong_translation(monkeypatch):
    monkeypatch.setitem(ELEMENTWISE, "tanh", sp.sin)
    with pytest.raises(AssertionError):
        check_round_trip(runner((("tanh", (0,)),)), [0.613, -1.207, 0.341])


def test_arguments_may_be_any_pytree_of_symbols_numbers_and_object_arrays():
    out = theory.symbolically(lambda d, n: {"a": d["u"] * n, "b": [d["v"].sum()]})(
        {"u": x, "v": np.array([x, y, 1], dtype=object)}, 3
    )
    assert out == {"a": 3 * x, "b": [x + y + 1]}
    matrix = theory.symbolically(lambda m: m @ m)(sp.Matrix([[x, y], [0, x]]))
    assert matrix.tolist() == [[x**2, 2 * x * y], [0, x**2]]


def test_open_conditions_become_piecewise_and_numbers_decide_them():
    f = theory.symbolically(lambda u: jnp.where(u > 1, u, 2.0))
    assert f(x) == sp.Piecewise((x, x > 1), (2, True))
    assert f(3) == 3 and f(sp.Rational(1, 2)) == 2


def uses_while(u):
    return jax.lax.while_loop(lambda c: c < 10, lambda c: 2 * c, u)


def uses_sort(u):
    return jnp.sort(jnp.stack([u, 2 * u]))


def uses_random(u):
    return u + jax.random.normal(jax.random.key(0))


def uses_inverse(u):
    return jnp.linalg.inv(u * jnp.eye(2))


def uses_long_scan(u):
    return jax.lax.scan(lambda c, _: (c * u, None), 1.0, None, length=1000)[0]


@pytest.mark.parametrize(
    ("fn", "primitive"),
    [
        (uses_while, "while"), (uses_sort, "sort"), (uses_random, "random"), (uses_inverse, "lu"),
        (uses_long_scan, "1000"),
    ],
)  # fmt: skip
def test_what_has_no_translation_is_named_with_the_users_line(fn, primitive):
    with pytest.raises(theory.CannotTrace) as refusal:
        theory.symbolically(fn)(x)
    reason = refusal.value.reason
    assert primitive in reason and "\n" not in reason
    line = fn.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}" in reason, reason


@pytest.mark.parametrize(
    "fn", [jnp.sort, jnp.argmax, lambda v: jax.lax.switch(jnp.int32(v[0]), [jnp.sin, jnp.cos, jnp.tan], v)]
)
def test_refusals_do_not_blame_the_lab(fn):
    """A library function passed as it is has no line of the user's: the lab's own must not stand there instead."""
    with pytest.raises(theory.CannotTrace) as refusal:
        theory.symbolically(fn)(np.array([x, y], dtype=object))
    assert "theory/tracing/interpreter.py" not in refusal.value.reason


def test_a_python_branch_on_a_symbol_is_refused_with_a_hint():
    with pytest.raises(theory.CannotTrace, match="branches on a traced value") as refusal:
        theory.symbolically(lambda u: u if u > 0 else -u)(x)
    assert "jnp.where" in refusal.value.hint


def complex_phase(u):
    return jnp.real(jnp.exp(1j * u))


def out_of_range(u):
    return jnp.take(jnp.stack([u, 2 * u]), jnp.array([5]))


@pytest.mark.parametrize("fn", [complex_phase, out_of_range])
def test_what_is_outside_the_reals_is_refused_not_a_crash(fn):
    with pytest.raises(theory.CannotTrace):
        theory.symbolically(fn)(x)
