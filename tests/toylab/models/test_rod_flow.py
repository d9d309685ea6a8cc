"""The rod flow: the published equations, 2-cycles as its fixed points, the edge as its threshold."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from toylab import problems
from toylab.models import rollout
from toylab.models.rod_flow import SUBSTEPS, rod_flow_steps
from toylab.problems import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.rules.parities import Roles

RATE = 0.1
RULES = {
    "gd": optax.sgd(RATE),
    "heavy_ball": optax.sgd(RATE, 0.9),
    "nesterov": optax.sgd(RATE, 0.9, nesterov=True),
    "rmsprop": optax.rmsprop(RATE, 0.9, eps=1e-12),
    "adam": optax.adam(RATE, b1=0.05, b2=0.9),
}
STEPS = 1000


@cache
def measured(name):
    return edge_data(RULES[name], jnp.zeros(()))


def edge(name):
    return float(measured(name)[1].threshold)


@cache
def scalar(name):
    """(a, c3, c4, start, half) -> the last rod and all averages of 1000 steps on the quartic, one program a rule."""
    known = measured(name)

    @jax.jit
    def run(a, c3, c4, start, half):
        problem = problems.quartic(a, c3, c4, start)
        kernel = rod_flow_steps(problem, RULES[name], known)
        return rollout(kernel, kernel.init(problem.params, None, half), STEPS)

    return lambda *numbers: run(*(jnp.asarray(x, float) for x in numbers))


def cycle(name, a, c3, c4, start):
    """Middle and half of the last two iterates of the optimizer itself."""
    problem, rule = problems.quartic(a, c3, c4, start), RULES[name]

    def step(now, _):
        weights, state = now
        update, state = rule.update(problem.gradient(weights), state, weights)
        return (weights + update, state), weights

    def path():
        return jax.lax.scan(step, (problem.params, rule.init(problem.params)), length=4000)[1]

    last = np.asarray(jax.jit(path)())[-2:]
    return last.mean(), abs(last[1] - last[0]) / 2


@settings(max_examples=10)
@given(st.floats(1.5, 2.5), st.floats(0.05, 1.0))
def test_on_a_quadratic_the_rod_grows_at_the_rate_of_the_edge(k, half):
    found = scalar("gd")(k / RATE, 0.0, 0.0, 0.0, half)[1].variances[:2, 0]
    rate, growth = k**2 / 2 - 2, float(jnp.log(found[1] / found[0]))
    part = rate / SUBSTEPS
    # what Heun's method makes of s' = rate s, to rounding; beyond it the error of the method, the next term of exp
    assert growth == pytest.approx(SUBSTEPS * np.log(1 + part + part**2 / 2), abs=1e-13)
    assert abs(growth - rate) <= 1.3 * SUBSTEPS * abs(part) ** 3 / 6 + 1e-13
    assert found[0] == pytest.approx(half**2, rel=1e-14)


@settings(max_examples=10)
@given(st.floats(2.05, 2.4), st.floats(0.1, 10.0))
def test_on_a_quartic_gradient_descent_settles_where_its_exact_cycle_is(k, quartic):
    sharpness = k / RATE
    end, found = scalar("gd")(sharpness, 0.0, -6 * quartic, 0.0, 0.3 / np.sqrt(quartic))
    stationary = sharpness / quartic - 2 / (RATE * quartic)
    # the slowest approach, k = 2.05, halves the rest every eight steps
    assert found.variances[-1, 0] == pytest.approx(stationary, rel=1e-11)
    half = np.sqrt(stationary)
    assert half - RATE * (sharpness * half - quartic * half**3) == pytest.approx(-half, rel=1e-12)  # rounding: a cycle
    # both ends have the loss and the gradient of the cycle
    assert found.mean_loss[-1] == pytest.approx(sharpness * stationary / 2 - quartic * stationary**2 / 4, rel=1e-10)
    assert found.mean_square[-1] == pytest.approx((2 * half / RATE) ** 2, rel=1e-10)
    assert found.edge_ratios[-1, 0] == pytest.approx(k / 2, rel=1e-10)  # of the middle, at 0
    assert abs(end.params) < 1e-12


@pytest.mark.parametrize(
    ("name", "skew", "start"),
    [
        ("gd", 0.0, 0.1),
        ("gd", 3.0, 0.1),
        ("heavy_ball", 3.0, 0.1),
        pytest.param("nesterov", 3.0, 0.1, marks=pytest.mark.slow),
        # both ends must see the same second moment, so no skewed loss: there the optimizer's alternates
        ("rmsprop", 0.0, 0.3),
        pytest.param("adam", 0.0, 0.3, marks=pytest.mark.slow),
    ],
)
def test_it_settles_where_the_optimizer_itself_has_its_cycle(name, skew, start):
    a = 1.02 * edge(name)
    numbers = (a, skew * a / 10, -0.6 * a)
    end, found = scalar(name)(*numbers, start, 0.05)
    middle, half = cycle(name, *numbers, start)
    assert half > 1e-3
    # both have converged: what is left is rounding, amplified by 1/(1 - |multiplier|) of the cycle, about 1e3
    assert abs(float(end.half)) == pytest.approx(half, rel=1e-10)
    assert float(end.params) == pytest.approx(middle, abs=1e-10)
    assert np.all(np.isnan(found.residual))


@pytest.mark.parametrize("name", ["gd", "heavy_ball"])
def test_at_the_edge_the_oscillation_that_is_asked_for_stays(name):
    found = scalar(name)(edge(name), 0.0, 0.0, 0.0, 0.2)[1]
    # the memory that goes with `half` alternates with it: nothing moves, up to the rounding of 1000 steps
    np.testing.assert_allclose(found.variances[:, 0], 0.04, rtol=1e-11)


def test_the_sign_of_the_rod_means_nothing():
    numbers = (2.1 / RATE, 4.0, -20.0, 0.03)
    there, one = scalar("gd")(*numbers, 0.05)
    back, other = scalar("gd")(*numbers, -0.05)
    # rounding: a sum of two products that is contracted to one operation is not symmetric
    one, other = (said._replace(axes=abs(said.axes)) for said in (one, other))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-14), one, other)
    assert float(there.half) == pytest.approx(-float(back.half), rel=1e-12)


def test_below_the_edge_the_rod_is_half_the_step_of_the_middle_and_vanishes_with_it():
    k = 0.05
    end, found = scalar("gd")(k / RATE, 0.0, 0.0, 1.0, 0.0)
    halves, moves = np.sqrt(found.variances[:, 0]), np.abs(np.diff(found.params))
    # s' = v^2/2 - 2 s with v ~ exp(-k t): half over v is 1/2 up to the order k of the delay and of the step
    np.testing.assert_allclose(halves[10:-1] / moves[10:], 0.5, rtol=2 * k)
    assert halves[0] == 0
    assert abs(end.params) < 1e-10 and abs(end.half) < 1e-10
    assert np.all(found.variances == scalar("gd")(k / RATE, 0.0, 0.0, 1.0, 0.0)[1].variances)
    still = scalar("gd")(k / RATE, 1.0, 1.0, 0.0, 0.0)[1]  # at rest in the minimum, without a direction
    assert np.all(still.variances == 0) and np.all(still.params == 0)


def test_it_costs_what_it_says():
    found = jax.tree.map(lambda x: x[0], scalar("gd")(1.0, 0.0, 0.0, 0.1, 0.1)[1])
    # two stages a substep, two ends a stage; two ends and the middle for the averages; one product for one eigenvalue
    assert (found.cost.substeps, found.cost.gradients, found.cost.products, found.cost.thirds) == (4, 3 + 16, 1 + 16, 0)


# ---------------------------------------------------------------------------------------------------------------
# Several weights.

SCALES = jnp.array([2.0, 0.5])  # the square root of P


def plain(rate):
    """What the edge says of gradient descent, also of one whose rate is traced."""
    return RuleStructure(Roles((), (), ()), 0), EdgeData(2 / rate, rate, 0.0, rate)


def curved(w):
    """Two directions, one near the edge, that turn into each other as the weights move."""
    return 1.05 * w[0] ** 2 + 0.2 * w[1] ** 2 + 0.3 * w[0] ** 2 * w[1] - 0.15 * w[0] ** 4 + 0.1 * w[1] ** 3 + 0.2 * w[1]


def published(start, half, time):
    """The flow of gradient descent with eta = 1, integrated apart: (w, d) at the end, both as printed in the paper."""
    gradient, hessian = jax.jit(jax.grad(curved)), jax.jit(jax.hessian(curved))

    def velocity(_, point):
        w, d = point[:2], point[2:]
        (g, h), (g_, h_) = (map(np.asarray, (gradient(end), hessian(end))) for end in (w + d, w - d))
        forces = (np.outer(g, g) + np.outer(g_, g_)) / 4
        size = np.linalg.norm(d)
        along = forces @ d / size**2
        return np.concatenate([-(g + g_) / 2 - (h + h_) @ (g + g_) / 8, along - d * (d @ along) / (2 * size**2) - d])

    return solve_ivp(velocity, (0, time), np.concatenate([start, half]), method="DOP853", rtol=1e-11, atol=1e-13).y[
        :, -1
    ]


def test_a_preconditioned_rule_has_the_published_flow_in_scaled_weights_to_second_order():
    problem = Problem(lambda w: curved(SCALES * w), jnp.array([0.05, 0.3]) / SCALES)
    rule = optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda g, state, params=None: (-g / SCALES**2, state),
    )
    half, steps, errors = jnp.array([0.3, 0.05]), 6, []  # long against v, see `SUDDEN`
    truth = published(SCALES * problem.params, half, steps)
    for substeps in (4, 16):  # one program each
        kernel = rod_flow_steps(problem, rule, plain(1.0), substeps=substeps)
        end = jax.jit(
            lambda kernel=kernel: rollout(kernel, kernel.init(problem.params, None, half / SCALES), steps)[0]
        )()
        errors.append(np.linalg.norm(np.concatenate([SCALES * end.params, SCALES * end.half]) - truth))
    # order 2 over a factor of four; measured well above the oracle's own 1e-10
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(2, abs=0.25)
    assert errors[1] < 1e-2 * np.linalg.norm(half)


def test_below_the_edge_it_is_one_order_closer_to_the_optimizer_than_gradient_flow():
    problem, steps = Problem(curved, jnp.array([0.3, 0.8])), 4
    rates = jnp.array([0.04, 0.02, 0.01])

    def ended(rate):
        kernel = rod_flow_steps(problem, optax.sgd(rate), plain(rate))
        end, found = rollout(kernel, kernel.init(problem.params), steps)
        return end.params, end.half, found.mean_loss

    def discrete(rate):
        def step(w, _):
            return w - rate * problem.gradient(w), None

        return jax.lax.scan(step, problem.params, length=steps)[0]

    together = jax.jit(jax.vmap(ended))(rates)
    alone = jax.jit(ended)
    for index, rate in enumerate(rates[:2]):
        one = alone(rate)
        # members do not disturb each other: rounding of 4 steps
        for mine, shared in zip(one, together, strict=True):
            np.testing.assert_allclose(mine, shared[index], rtol=1e-11, atol=1e-14)
    errors = np.linalg.norm(together[0] - jax.vmap(discrete)(rates), axis=1)
    # eta^3 in a step, where gradient flow errs by eta^2; the steps are as many for every rate
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] > 2.7


def test_single_precision_and_the_shape_of_the_weights_are_kept():
    def loss(params):
        return jnp.sum(jnp.cosh(params["w"]) * jnp.asarray([1.0, 4.0], jnp.float32)) + params["b"] ** 2

    params = {"w": jnp.full(2, 0.5, jnp.float32), "b": jnp.ones((), jnp.float32)}
    problem, rule = Problem(loss, params), RULES["adam"]
    # the state's leaves in order: the count, two first moments, two second moments
    known = RuleStructure(Roles((0,), (3, 4), (1, 2)), 0), EdgeData(2 * 1.05 / (0.95 * RATE), 0.95 * RATE, 0.0, RATE)
    kernel = rod_flow_steps(problem, rule, known)
    end, found = jax.jit(lambda: rollout(kernel, kernel.init(params, None, params), 3))()
    leaves = jax.tree.leaves((end._replace(track=None), found))
    assert {leaf.dtype.name for leaf in leaves} <= {"float32", "int32", "bool"}
    assert jax.tree.structure(end.half) == jax.tree.structure(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))
    assert end.state[0].count == 3  # counters go with the steps


def test_no_substeps_are_refused():
    with pytest.raises(ValueError, match="substeps=0"):
        rod_flow_steps(problems.quartic(), optax.sgd(0.1), substeps=0)
