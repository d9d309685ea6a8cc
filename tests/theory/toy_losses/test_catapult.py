"""The catapult's theorems against the real loss: its gradient, its steps, its Hessian, and the limits of each law."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from theory.toy_losses import catapult, gram, linear_net_hessians
from toylab import problems
from toylab.curvature import dense_hessian
from toylab.optimizers import NAMED

LOSS = problems.two_layer_linear(width=1).loss
LAW = catapult.catapult_map(LOSS, NAMED["gd"])
WINDOW = catapult.catapult_window(LOSS, NAMED["gd"])
REFLECTION = catapult.reflection(LOSS, NAMED["gd"])
F_NEXT, CURVATURE_NEXT = LAW.numeric("f_next"), LAW.numeric("curvature_next")
HEAVY_BALL = jax.jit(gram.gram_map(LOSS, NAMED["heavy_ball"]).stepper())
HESSIAN = jax.jit(dense_hessian)
GRADIENT = jax.jit(lambda problem: problem.gradient(problem.params))
A_NEXT, C_NEXT = LAW.numeric("a_next"), LAW.numeric("c_next")

pair = st.tuples(st.floats(-2, 2), st.floats(-2, 2))
weights = st.one_of(*(st.lists(pair, min_size=size, max_size=size) for size in (1, 4)))


def output_and_curvature(u, v):
    return jnp.sum(u * v) / len(u) ** 0.5, (jnp.sum(u**2) + jnp.sum(v**2)) / len(u)


@settings(max_examples=15)
@given(weights, st.floats(0.01, 1.0), st.floats(-2, 2))
def test_one_step_of_optax_on_the_net_is_the_derived_map(pairs, rate, label):
    u, v = (jnp.array(part) for part in zip(*pairs, strict=True))
    problem = problems.two_layer_linear(u=u, v=v, targets=label)
    rule = optax.sgd(rate)
    updates, _ = rule.update(GRADIENT(problem), rule.init((u, v)))
    after = output_and_curvature(*optax.apply_updates((u, v), updates))
    output, curvature = output_and_curvature(u, v)
    numbers = {"f": output, "lambda_": curvature, "n": float(len(u)), "y": label, "learning_rate": rate}
    expected = F_NEXT(**numbers), CURVATURE_NEXT(**numbers)
    # a handful of products of numbers up to 100
    np.testing.assert_allclose(after, expected, rtol=1e-11, atol=1e-11)


@given(st.floats(1e-3, 8), st.floats(0, 1))
def test_feasible_data_stay_feasible_and_the_balance_shrinks_by_its_ratio(a, share):
    c = share**2 * a**2 / 4
    after, height = float(A_NEXT(a=a, c=c)), float(C_NEXT(a=a, c=c))
    ratio = float(WINDOW.numeric("balance_ratio")(c=c))
    scale = 1 + a**2 + after**2 + height  # of the numbers that are subtracted
    assert after**2 / 4 - height >= -1e-13 * scale
    assert abs(after**2 - 4 * height - ratio * (a**2 - 4 * c)) <= 1e-12 * scale * (1 + ratio)


def test_an_infeasible_pair_breaks_the_window():
    """The theorem needs weights: a pair (a, c) that no weights have diverges from inside the window."""
    a, c = 3.0, 6.0
    assert c > LAW.expressions["c_feasible"].subs(catapult.a, a)
    for _ in range(20):
        a, c = float(A_NEXT(a=a, c=c)), min(float(C_NEXT(a=a, c=c)), 1e6)
    assert not (0 < a < 2 and c < 1e-3)


@settings(max_examples=10)
@given(st.floats(0.05, 3.95), st.floats(0.05, 1))
def test_below_the_upper_edge_everything_lands_below_the_lower(a, share):
    c = share**2 * a**2 / 4
    spent = 0.0
    start = a
    for _ in range(3_000):
        a, c, spent = float(A_NEXT(a=a, c=c)), float(C_NEXT(a=a, c=c)), spent + c
    assert a < float(WINDOW.expressions["lower_edge"])
    # 3,000 roundings of 1e-16, and what is left to be spent where convergence is slow
    assert spent <= (start - a) * float(WINDOW.numeric("loss_budget")(a=start)) * (1 + 1e-9) + 1e-9
    assert spent >= (start - a) * float(WINDOW.numeric("loss_budget")(a=0.0)) * (1 - 1e-9) - 1e-9


def test_the_edges_are_those_of_the_paper():
    assert WINDOW.expressions["upper_edge"] == 4 and WINDOW.expressions["lower_edge"] == 2
    assert WINDOW.expressions["edge"] == 2 + catapult.c


def test_the_monotone_edge_separates_starts_that_rise_again():
    edge = float(WINDOW.expressions["monotone_edge"])

    def again(a):
        c = np.linspace(a - 2, a**2 / 4, 4001)[1:]
        a_next, c_next = np.asarray(A_NEXT(a=a, c=c)), np.asarray(C_NEXT(a=a, c=c))
        return np.any((c_next > 0) & (np.asarray(C_NEXT(a=a_next, c=c_next)) > c_next))

    # the worst start is missed by at most half a grid step, 1e-4: its rise then changes by 1e-8
    assert not again(edge - 1e-6) and again(edge + 1e-6)


def test_the_first_integral_is_kept_to_its_order():
    integral = REFLECTION.numeric("integral")
    sizes = 0.1 / 2 ** np.arange(5)

    def leak(size):
        a, c = 2 + 0.7 * size, 0.4 * size**2
        before = integral(delta=a - 2, c=c)
        return abs(float(integral(delta=A_NEXT(a=a, c=c) - 2, c=C_NEXT(a=a, c=c)) - before))

    slope = np.polyfit(np.log(sizes[:4]), np.log([leak(size) for size in sizes[:4]]), 1)[0]
    # kept through weight 7, so at least weight 8 leaks (its coefficient is small here); 0.0125^8 is just above rounding
    assert slope > 7.6


def test_the_landing_is_an_involution():
    """A mirror seen twice: landing(landing(a)) = a to the order of the series."""
    a = catapult.a
    landing = REFLECTION.expressions["landing"]
    twice = sp.series(landing.subs(a, landing).subs(a, 2 + catapult.delta).expand(), catapult.delta, 0, 6).removeO()
    assert sp.expand(twice - 2 - catapult.delta) == 0


@pytest.mark.parametrize("rule", ["heavy_ball", "delayed_gradient"])
def test_near_a_minimum_the_exact_map_has_the_rules_own_characteristic_polynomial(rule):
    edge = theory.cached_edge(NAMED[rule])
    z, k = (next(s for s in edge.characteristic_polynomial.free_symbols if s.name == name) for name in "zk")
    linear = gram.linearised_at_minimum(gram.gram_map(LOSS, NAMED[rule]))
    expected = edge.characteristic_polynomial.subs(k, edge.symbols["learning_rate"] * gram.curvature)
    assert sp.expand(linear.subs(sp.Symbol("z"), z) - expected) == 0


@settings(max_examples=10)
@given(weights, st.floats(0.01, 0.3), st.floats(0, 0.95), st.floats(-1, 1))
def test_heavy_ball_from_any_momentum_moves_the_gram_matrices_by_the_derived_map(pairs, rate, momentum, label):
    u, v = (jnp.array(part) for part in zip(*pairs, strict=True))
    problem = problems.two_layer_linear(u=u, v=v, targets=label)
    rule = optax.sgd(rate, momentum)
    params, state = (u, v), rule.init((u, v))

    def grams(params, state):
        trace = state[0].trace
        rows = [jnp.stack([params[0] + s * params[1], trace[0] + s * trace[1]]) for s in (1, -1)]
        return [row @ row.T / len(u) for row in rows]

    for _ in range(2):
        expected = HEAVY_BALL(
            *grams(params, state), width=float(len(u)), target=label, learning_rate=rate, momentum=momentum
        )
        updates, state = rule.update(GRADIENT(problem.with_params(params)), state)
        params = optax.apply_updates(params, updates)
        scale = 1 + max(float(jnp.abs(g).max()) for g in expected)
        for found, wanted in zip(grams(params, state), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-11 * scale)  # sums of a few products of size `scale`


def test_a_rule_that_adapts_and_a_loss_of_another_form_are_refused():
    with pytest.raises(theory.NoLinearEdge, match="adapts"):
        gram.gram_map(LOSS, NAMED["rmsprop"])
    with pytest.raises(theory.NoLinearEdge, match="memory"):
        catapult.catapult_map(LOSS, NAMED["heavy_ball"])
    with pytest.raises(theory.CannotTrace, match="gradient of the loss"):
        gram.output_slope(lambda params, data: LOSS(params, data) + jnp.sum(params[0] ** 2))


@pytest.mark.slow
@settings(max_examples=10)
@given(st.lists(pair, min_size=3, max_size=3), st.floats(-2, 2))
def test_the_spectrum_is_that_of_the_dense_hessian(pairs, label):
    u, v = (jnp.array(part) for part in zip(*pairs, strict=True))
    problem = problems.two_layer_linear(u=u, v=v, targets=label)
    theorem = linear_net_hessians.two_layer_hessian(LOSS)
    output, curvature = output_and_curvature(u, v)
    numbers = {"f": output, "lambda_": curvature, "n": 3.0, "y": label}
    s, top, partner = (float(theorem.numeric(name)(**numbers)) for name in ("drive", "sharpness", "partner"))
    found = np.linalg.eigvalsh(HESSIAN(problem, (u, v)))
    # entries of order one; where the two roots meet (lambda = 0) each is known to the square root of rounding
    np.testing.assert_allclose(found, np.sort([s, -s, s, -s, top, partner]), atol=1e-7)
    assert top >= abs(s) - 1e-12
