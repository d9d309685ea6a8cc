"""The central flow: the flow of gradients below the edge, and at it the variance of the theory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.theory.formulas import formula
from tests.toylab.models.cubic_models import RULES, cubic, kernel, long, one_eigenvalue
from tests.toylab.training.reference import arrays, begun, problem, rule
from theory import central_flow_scalar_rmsprop
from toylab import Problem
from toylab.claims import observed_order
from toylab.curvature import dense_hessian
from toylab.models import central_flow, rollout
from toylab.models.central_flow import central_flow_steps
from toylab.models.central_map import central_map_steps
from toylab.optimizers import scalar_rmsprop
from toylab.problems.criteria import half_square
from toylab.problems.networks import mlp
from toylab.problems.problem import NetworkLoss


def weights(*first):
    return jnp.zeros(5).at[: len(first)].set(jnp.asarray(first, float))


def test_below_the_edge_it_is_gradient_flow_to_first_order_in_the_tolerance():
    spectrum, start, rate = np.array([1.0, 0.5, 0.2, 0.1, 0.02]), weights(1, -1, 2, 1, 1), 0.5
    truth = np.exp(-rate * spectrum * 39) * np.asarray(start)
    tolerances, errors = [0.02, 0.01, 0.005], []
    for tolerance in tolerances:
        begun = kernel(central_flow_steps, "gd", 1, cubic(spectrum), {"rate": rate}, {}).init(start)
        begun = begun._replace(proposed=jnp.asarray(tolerance / 4))  # by itself it begins with half a step
        _, said = long(central_flow_steps, "gd", cubic(spectrum), {"rate": rate}, begun, tolerance=tolerance)
        errors.append(np.linalg.norm(said.params[-1] - truth) / np.linalg.norm(truth))
        assert not np.any(said.variances)
        np.testing.assert_allclose(said.edge_ratios[:, 0], rate / 2, rtol=1e-12)  # rounding
    assert errors[-1] < tolerances[-1]
    assert observed_order(tolerances, errors) == pytest.approx(1, abs=0.3)


def test_a_step_that_runs_out_of_substeps_is_not_converged(monkeypatch):
    data, start = cubic(np.array([1.0, 0.5])), weights(1, -1)
    for most, whole in ((1, False), (100, True)):  # the first substep is a sixteenth of a step
        monkeypatch.setattr(central_flow, "MOST", most)
        flow = kernel(central_flow_steps, "gd", 1, data, {"rate": 0.5}, {})
        assert jax.jit(flow.step)(flow.init(start))[1].converged == whole


def test_it_rests_where_the_map_does():
    eps, start = 4e-3, weights(0.0, 2 / 0.3 - 1e-4)
    flow = long(central_flow_steps, "gd", one_eigenvalue(eps, 0.6), {"rate": 0.3}, start, 10, tolerance=0.02)[1]
    place = long(central_map_steps, "gd", one_eigenvalue(eps, 0.6), {"rate": 0.3}, start, 10)[1]
    for field in ("params", "variances", "mean_loss", "mean_square", "edge_ratios"):
        # a point of rest of both, which does not depend on the length of the steps: rounding
        one, other = (np.asarray(getattr(said, field)[-1]) for said in (flow, place))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=field)
    assert np.all(flow.cost.substeps <= 4)  # at rest, rounding is no reason for short steps


@pytest.mark.parametrize("b2", [0.9, 0.975])
def test_scalar_rmsprop_has_the_variance_of_the_theory(b2):
    """L = y x^2/2 - c y, from the edge y = 2 sqrt(nu)/eta on: between gradient descent's 2 c and eta^2/4."""
    slope, sharpness, rate = 0.02, 2.0, 0.3
    data = cubic(push=(0, slope), third={(0, 0, 1): 1.0})
    moment = jnp.asarray((rate * sharpness / 2) ** 2)
    start = (weights(0, sharpness), scalar_rmsprop(rate).init(weights())._replace(nu=moment))
    law = formula(central_flow_scalar_rmsprop(), "variance")
    hyper = {"rate": rate, "decay": b2}
    end, said = long(central_flow_steps, "scalar_rmsprop", data, hyper, start, tolerance=0.002)
    y = np.asarray(said.params[:, 1])
    numbers = {"sharpening": slope, "slope_sq": 1.0, "gradient_sq": slope**2, "learning_rate": rate, "b2": b2}
    theory = law(sharpness=y, **numbers)
    found = np.asarray(said.variances[:, 0] / (rate * y / 2))  # from units of P
    # nu was at the edge without an oscillation: one memory of the gradient's variance later it is with it.
    # Then what is left is 1 - b2 of the change in a step, and the length of the substeps, both below 1e-2
    np.testing.assert_allclose(found[10:], theory[10:], rtol=1e-2)
    assert np.all(np.abs(theory / (2 * slope) - 1) > 0.05)
    np.testing.assert_allclose(end.mean.state.nu, (rate * y[-1] / 2) ** 2, rtol=5e-3)
    np.testing.assert_allclose(said.edge_ratios[10:, 0], 1, atol=3e-3)  # S' of one substep


def test_the_loss_of_gradient_descent_falls_along_it_and_the_edge_holds():
    rate = 0.3
    push, third = (0.002, 0.02, 0, 0.02), {(0, 0, 1): 1.0, (0, 2, 3): 0.8, (0, 0, 0): 0.5}
    data = cubic((0, 0, 0.5), push, third)
    start = weights(0, 2 / rate - 0.1, 0, 0.3)
    below, first = long(central_flow_steps, "gd", data, {"rate": rate}, start, tolerance=0.02)
    _, then = long(central_flow_steps, "gd", data, {"rate": rate}, below, 3, tolerance=0.02)
    assert then.critical[-1] == 1
    for said in (first, then):
        assert np.all(np.diff(said.loss) < 0)
        assert np.all(said.residual < 1e-12)
        # the eigenvector turns by 1e-2 in a step: the constraint is linear in the displacement, the eigenvalue not
        assert np.all(said.edge_ratios <= 1 + 1e-5)


network = mlp((3, 8, 8, 1))
error_of = NetworkLoss(network.apply, half_square)


@pytest.mark.slow
@pytest.mark.parametrize("model", [central_map_steps, central_flow_steps])
def test_a_network_stays_below_its_edge(model):
    """113 weights, up to three critical directions, against the dense Hessian."""
    rate, steps = 0.6, 400
    draw = np.random.default_rng(0)
    inputs = jnp.asarray(draw.normal(size=(20, 3)))
    targets = jnp.sin(3 * inputs[:, :1]) * inputs[:, 1:2]
    small = Problem(error_of, network.init(jax.random.key(0)), (inputs, targets))
    known = (RULES["gd"].structure, RULES["gd"].edge(rate))
    of = model(small, optax.sgd(rate), known, count=3)
    said = jax.jit(lambda: rollout(of, of.init(small.params), steps)[1])()
    dense = jax.jit(lambda params: jnp.linalg.eigvalsh(dense_hessian(small, params))[::-1][:3] * rate / 2)
    found = np.array([dense(jax.tree.map(lambda leaf, t=t: leaf[t], said.params)) for t in range(0, steps, 10)])
    rises = np.diff(said.loss).max()
    wrong = np.abs(said.edge_ratios[::10] / found - 1)[found > 0.95].max()
    assert np.all(said.converged) and said.critical[-1] >= 1
    # followed to 1e-3 of its value; the constraint itself errs by the square of the change in a step
    assert found.max() < 1 + 2e-3 and wrong < 1e-3
    assert model is central_map_steps or rises < 0  # the map's steps on the critical directions need not descend


# name: steps, first step at the edge; room for the loss, the top eigenvalue (2 at the edge) and the variance there
COMPARED = {
    "gd": (500, 140, 5e-3, 1e-4, 0.05),
    "rmsprop": (292, 200, 1e-2, 4e-3, 0.05),
    "scalar_rmsprop": (500, 280, 3e-2, 2e-3, 0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_an_independent_implementation(name):
    """Once the edge is reached, up to where a further eigenvalue enters with a jolt there.

    It takes Euler substeps of a quarter of a step, we of about half of one: paths differ by a fraction of a step, and
    for second moments by (1 - b2)/b2 against 1 - b2, one per cent, on the way to the edge.  At the edge that is
    forgotten by the curvature, but not by the place along the valley, of which the loss tells.
    """
    steps, onset, *rooms = COMPARED[name]
    data, start = arrays(name), begun(name)
    of = central_flow_steps(problem(name), rule(name), count=4)
    said = jax.jit(lambda now: rollout(of, now, steps)[1])(of.init(*start))
    assert np.all(said.converged) and np.mean(said.cost.substeps) < 3
    window = slice(onset, steps)
    np.testing.assert_allclose(said.loss[window], data["central_loss"][window], rtol=rooms[0])
    expected = np.nanmax(data["central_edge"], axis=1)
    np.testing.assert_allclose(2 * said.edge_ratios[window, 0], expected[window], atol=rooms[1])
    predicted = data["central_predicted_loss"]
    np.testing.assert_allclose(said.mean_loss[window], predicted[window], rtol=2 * rooms[0])
    variance = np.sum(said.variances, axis=1) / data["lr"]  # there P carries 1/eta
    there = np.nansum(data["central_variances"], axis=1)
    later = slice(onset + 20, steps)
    np.testing.assert_allclose(variance[later], there[later], rtol=rooms[2])
