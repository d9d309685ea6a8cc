"""The central map: the optimizer itself below the edge, exact 2-cycles at it, and the constraint in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import fsolve

from tests.toylab.models.cubic_models import (
    RULES,
    STEPS,
    cubic,
    edge_of,
    kernel,
    long,
    one_eigenvalue,
    optimizer,
    program,
    two_eigenvalues,
)
from toylab.claims import observed_order
from toylab.models import rollout
from toylab.models.central_map import central_map_steps

unit = st.floats(0, 1)
FAST = ("nesterov", "adamw")
EVERY_RULE = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in RULES]


def weights(*first):
    return jnp.zeros(5).at[: len(first)].set(jnp.asarray(first, float))


def hyperparameters(rule, rate, b, b2, decay):
    names = {"adam": ("b1", "b2"), "adamw": ("b1", "b2", "weight_decay"), "gd": ()}
    memory = ("decay",) if "rmsprop" in rule else ("momentum",)
    values = {"momentum": b, "b1": b, "b2": b2, "decay": b2, "weight_decay": decay}
    return {"rate": rate, **{name: values[name] for name in names.get(rule, memory)}}


@pytest.mark.parametrize("rule", EVERY_RULE)
@settings(max_examples=15)
@given(st.floats(1e-3, 0.1), st.floats(0, 0.95), st.floats(0.99, 0.9999), unit, st.lists(unit, min_size=5, max_size=5))
def test_below_the_edge_it_is_the_optimizer(rule, rate, b, b2, decay, numbers):
    """Weights and state, on a convex quadratic of eigenvalues up to 1, far from its minimum: P stays of order one."""
    data = cubic(hessian=0.1 + 0.9 * np.array(numbers))
    start = weights(*(np.array([1, -1, 1, -1, 1]) * (0.5 + np.roll(numbers, 1))))
    hyper = hyperparameters(rule, rate, b, b2, decay)
    end, found = long(central_map_steps, rule, data, hyper, start)
    state, visited = optimizer(rule)(data, hyper, start)
    assert np.all(found.edge_ratios < 0.95)
    assert not np.any(found.variances) and not np.any(found.critical)
    # the same operations, compiled in another order: rounding of 40 steps
    np.testing.assert_allclose(found.params, visited, rtol=1e-11, atol=1e-13)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13), end.state, state)


def cycle(threshold, eps, zeta):
    """Berthier's toy at an edge: mean (x, y), alternating part (a, c), loss; of any rule with a flip at `threshold`.

    Period two means that the mean gradient vanishes, and that the alternating one is `threshold` times the swing.
    """

    def gradient(x, y):
        return np.array([y * x + 1.5 * zeta * x**2 - eps, x**2 / 2 - eps])

    def loss(x, y):
        return (y + zeta * x) * x**2 / 2 - eps * (x + y)

    def missing(v):
        there, back = gradient(v[0] + v[2], v[1] + v[3]), gradient(v[0] - v[2], v[1] - v[3])
        return np.concatenate([there + back, there - back - 2 * threshold * v[2:]])

    found = fsolve(missing, [0, threshold, np.sqrt(2 * eps), 0], xtol=1e-13)
    assert np.abs(missing(found)).max() < 1e-13 * threshold  # rounding
    x, y, a, c = found
    return np.array([x, y]), a**2 + c**2, (loss(x + a, y + c) + loss(x - a, y - c)) / 2


@pytest.mark.parametrize("rule", ["gd", "nesterov", pytest.param("ema_momentum", marks=pytest.mark.slow)])
@pytest.mark.parametrize("zeta", [0.0, 0.6])
def test_it_rests_at_the_mean_of_the_exact_two_cycle(rule, zeta):
    """The loss is a cubic: grad L + grad tr(H Sigma)/2 is the mean gradient over a swing exactly."""
    hyper = hyperparameters(rule, 0.3, 0.5, None, None)
    threshold, eps = float(edge_of(rule, hyper)[1].threshold), 4e-3
    _, said = long(central_map_steps, rule, one_eigenvalue(eps, zeta), hyper, weights(0.0, threshold - 1e-4), 10)
    mean, variance, value = cycle(threshold, eps, zeta)
    # a fixed point that 400 steps have reached to rounding; the variance is what moves it
    np.testing.assert_allclose(said.params[-1, :2], mean, atol=1e-13 * threshold)
    np.testing.assert_allclose(said.variances[-1, 0], variance, rtol=1e-10)
    np.testing.assert_allclose(said.mean_loss[-1], value, atol=1e-12)
    np.testing.assert_allclose(said.edge_ratios[-1, 0], 1, rtol=1e-12)
    assert said.variances[-1, 0] == pytest.approx(2 * eps, rel=eps)  # 2 alpha/beta of self-stabilization
    assert np.all(said.residual < 1e-12)


@pytest.mark.parametrize(
    "rule", ["adamw", *(pytest.param(r, marks=pytest.mark.slow) for r in ("scalar_rmsprop", "adam"))]
)
@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_adaptive_rules_rest_at_the_two_cycle_that_their_second_moment_allows(rule, decay):
    """One weight, L = S x^2/2: x = a, -a needs S = T sqrt(nu), nu = S^2 a^2, so a = 1/T: for RMSProp nu = eta^2 S^2/4.

    T the threshold, which decay lowers.  The map takes P to first order in X: sqrt(nu) errs by (1 - b2)^2/8.
    """
    sharpness, shares, errors = 1.7, np.array([0.1, 0.05, 0.025]), []
    for share in shares.tolist():
        hyper = hyperparameters(rule, 0.3, 0.6, 1 - share, decay)
        threshold = float(edge_of(rule, hyper)[1].threshold)
        end, said = long(central_map_steps, rule, cubic(hessian=[sharpness]), hyper, weights(0.3), 20)
        nu = jnp.max(jax.tree.leaves(end.state)[RULES[rule].structure.roles.slow[0]])
        # the variance is in units of P: u^T P u = 1
        found = np.array([nu, said.mean_square[-1], said.variances[-1, 0] * threshold * sharpness])
        errors.append(np.abs(found * (threshold / sharpness) ** 2 - 1))
        assert said.edge_ratios[-1, 0] == pytest.approx(1, abs=share**2)
        np.testing.assert_allclose(said.params[-1, 0], 0, atol=1e-12)
    assert np.max(errors[-1]) < shares[-1] ** 2, errors
    for column in np.array(errors).T:
        assert observed_order(shares, column) > 1.8


def bent(eps):
    """y x^2/2 with a slope along y and an eigenvector that turns towards z as q, the fourth weight, drifts."""
    return cubic(hessian=[0, 0, 0.5], push=(0, eps, 0, eps), third={(0, 0, 1): 1.0, (0, 2, 3): 0.8})


def test_the_constraint_is_kept_to_second_order_in_the_step():
    """A + B[X] is linear in what the step moves; here the top eigenvalue is not."""
    rate, sizes, excess = 0.3, np.array([0.04, 0.02, 0.01]), []
    for eps in sizes:
        data = bent(eps)
        _, said = long(
            central_map_steps, "gd", data, {"rate": rate}, weights(0, 2 / rate - 0.1, 0, 0.3), int(0.16 / eps)
        )
        assert said.critical[-1] == 1 and said.variances[-1, 0] > eps
        dense = [jnp.linalg.eigvalsh(hessian(data, w))[-1] * rate / 2 for w in said.params[-3:]]
        np.testing.assert_allclose(said.edge_ratios[-3:, 0], dense, rtol=1e-12)  # the same matrix
        excess.append(abs(dense[-1] - 1))
    assert excess[-1] > 1e-10  # more than rounding
    assert observed_order(sizes, excess) == pytest.approx(2, abs=0.2)


def hessian(data, w):
    return data.hessian[0] + data.third[0] @ w


@pytest.mark.slow
def test_two_eigenvalues_stay_at_the_edge_with_a_covariance_of_rank_two(two):
    eps = 4e-3
    _, said = two
    assert np.all(said.critical[-STEPS // 2 :] == 2)
    np.testing.assert_allclose(said.edge_ratios[-1], 1, rtol=1e-10)
    # the mean force along y vanishes: Sigma of x = [[4, sqrt 2], [sqrt 2, 2]] eps, up to the small tilt of U
    np.testing.assert_allclose(said.variances[-1], (3 + 3**0.5 * np.array([1, -1])) * eps, rtol=2 * eps)


TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]


@pytest.fixture(scope="module")
def two():
    return entered(np.eye(5))


def entered(rotation):
    """Both eigenvalues enter one after the other; all states of the last of 5 calls, in turned coordinates."""
    start = jnp.asarray(rotation) @ jnp.array([0.0, 0.0, 2 / 0.3 - 0.02, 2 / 0.3 - 0.05, 0.01])
    return long(
        central_map_steps, "gd", two_eigenvalues(4e-3).turned(jnp.asarray(rotation)), {"rate": 0.3}, start, 5, 2
    )


@pytest.mark.slow
def test_gradient_descent_does_not_see_the_coordinates(two):
    """An orthogonal change of the weights turns the path and leaves everything else."""
    _, turned = entered(TURN)
    _, straight = two
    # at rest: rounding of the fixed point
    np.testing.assert_allclose(turned.params, straight.params @ TURN.T, atol=1e-11)
    for field in ("loss", "mean_loss", "edge_ratios", "variances"):
        np.testing.assert_allclose(getattr(turned, field), getattr(straight, field), rtol=1e-9, err_msg=field)


def test_members_in_single_precision_are_those_in_double():
    """vmap over learning rates, with the numbers of the rule as data."""
    eps, rates = 0.02, jnp.array([0.3, 0.4, 0.5], jnp.float32)
    data = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), one_eigenvalue(eps, 0.3))

    def member(rate):
        start = jnp.zeros(5, jnp.float32).at[1].set(2 / rate - 0.1)
        model = kernel(central_map_steps, "gd", 1, data, {"rate": rate}, {})
        return rollout(model, model.init(start), 2 * STEPS)[1]

    together = jax.jit(jax.vmap(member))(rates)
    leaves = jax.tree.leaves(together)
    assert {leaf.dtype.name for leaf in leaves} <= {"float32", "int32", "bool"}
    for index, rate in enumerate(np.asarray(rates, float).tolist()):
        _, alone = long(
            central_map_steps, "gd", one_eigenvalue(eps, 0.3), {"rate": rate}, weights(0, 2 / rate - 0.1), 2
        )
        assert alone.critical[-1] == 1
        # y near 6 is known to 5e-7 and moves by 1e-3 to 1e-2 a step: what is decided by it has three digits, and the
        # mean loss has half the sharpness of a variance
        room = 2e-4
        rooms = {"params": 1e-5, "variances": room, "edge_ratios": 1e-6, "mean_loss": room / rate}
        for field, atol in rooms.items():
            np.testing.assert_allclose(
                getattr(together, field)[index, -STEPS:], getattr(alone, field), atol=atol, err_msg=field
            )


def test_another_problem_rate_or_state_compiles_nothing():
    run = program(central_map_steps, "gd", 1)
    long(central_map_steps, "gd", one_eigenvalue(0.01), {"rate": 0.3}, weights(0.1, 5.0), 1)
    long(central_map_steps, "gd", bent(0.02), {"rate": 0.7}, weights(0.3, 1.0), 2)
    assert run._cache_size() == 1
