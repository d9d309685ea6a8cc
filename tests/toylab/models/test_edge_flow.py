"""The edge flow: its linear part, its order, self-stabilization, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.scipy.linalg import expm

from toylab import problems
from toylab.models import rollout
from toylab.models.edge_flow import edge_flow_steps
from toylab.problems import Problem
from toylab.rules.edge import EdgeData, RuleStructure
from toylab.rules.parities import Roles

STEPS = 40
NOTHING = RuleStructure(Roles((), (), ()), 0)
HEAVY = RuleStructure(Roles((), (), (0,)), 0)


def valley(w, data):
    """A quadratic (its matrix), the cubic y x^2/2 and a slope along y, the second weight."""
    matrix, coupling, slope = (part[0] for part in data)
    return w @ matrix @ w / 2 + coupling * w[0] ** 2 * w[1] / 2 - slope * w[1]


def path(rate, matrix, coupling, slope, start, half, substeps=2):
    problem = Problem(valley, start, (matrix[None], coupling[None], slope[None]))
    kernel = edge_flow_steps(
        problem, optax.sgd(rate), (NOTHING, EdgeData(2 / rate, rate, 0.0, rate)), substeps=substeps
    )
    return rollout(kernel, kernel.init(start, None, half), STEPS)


@pytest.fixture(scope="module")
def runs():
    """{substeps: the program}, compiled when it is first used and shared by all tests."""
    return {n: jax.jit(lambda *args, n=n: path(*args, substeps=n)) for n in (2, 8)}


def arrays(*numbers):
    return tuple(jnp.asarray(x, float) for x in numbers)


def vector(swing):
    return swing.direction * jnp.exp(swing.size)


ZERO = np.zeros(2)


@settings(max_examples=10)
@given(st.floats(0.02, 1.0), st.floats(0.5, 2.5), st.floats(-3, 3))
def test_along_an_eigenvector_the_size_grows_by_the_distance_to_the_edge(runs, rate, k, other):
    matrix = np.diag([k / rate, other])
    found = runs[2](*arrays(rate, matrix, 0, 0, ZERO, [1e-3, 0]))[1].variances[:, 0]
    # the logarithm of the size is linear in time, so the method is exact; rounding of its square
    np.testing.assert_allclose(np.log(found / 1e-6) / 2, (k - 2) * np.arange(STEPS), rtol=1e-12, atol=1e-12)


def test_on_a_quadratic_the_oscillation_is_the_linear_flow_to_second_order(runs):
    rate, start, half = 0.5, np.array([0.1, -0.2]), np.array([0.01, 0.03])
    matrix = np.array([[3.0, 0.7], [0.7, 2.5]])
    numbers = arrays(rate, matrix, 0, 0, start, half)
    truth = expm(STEPS * (rate * matrix - 2 * np.eye(2))) @ half
    mean = expm(-STEPS * rate * matrix) @ start
    errors = []
    for substeps in (2, 8):
        end = runs[substeps](*numbers)[0]
        errors.append(np.linalg.norm(vector(end) / truth - 1))
        assert np.linalg.norm(end.params - mean) < 1e-10  # both have decayed
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(2, abs=0.3)
    # the direction has become the top eigenvector: the gap is 0.7 a step
    top = np.linalg.eigh(matrix)[1][:, -1]
    assert abs(end.direction @ top) == pytest.approx(1, abs=1e-10)


def test_where_the_valley_closes_it_rests_at_the_amplitude_of_self_stabilization(runs):
    rate, slope = 0.3, 0.01
    # grad L . grad S = r^2/2 - slope = 0 at S = y = 2/eta: r^2 = 2 alpha/beta with alpha = slope, beta = 1
    rest = arrays(rate, np.zeros((2, 2)), 1, slope, [0, 2 / rate], [np.sqrt(2 * slope), 0])
    end, found = runs[2](*rest)
    np.testing.assert_allclose(found.variances[:, 0], 2 * slope, rtol=1e-12)  # a fixed point, up to rounding
    np.testing.assert_allclose(end.params, [0, 2 / rate], atol=1e-12)
    np.testing.assert_allclose(found.edge_ratios[:, 0], 1, rtol=1e-12)
    # L over both ends: y r^2/2 - slope y
    np.testing.assert_allclose(found.mean_loss, slope * 2 / rate - slope * 2 / rate, atol=1e-12)


def test_away_from_rest_it_circles_and_conserves_what_the_averaged_equations_do(runs):
    rate, slope = 0.3, 0.1

    def drift(substeps):
        found = runs[substeps](*arrays(rate, np.zeros((2, 2)), 1, slope, [0, 2 / rate + 0.1], [0.3, 0]))[1]
        squared, excess = found.variances[:, 0], found.params[:, 1] - 2 / rate
        energy = excess**2 / 2 + squared / 4 - slope * np.log(squared) / 2
        assert np.ptp(excess) > 0.15  # it has moved
        return np.abs(energy - energy[0]).max()

    # log r' = eta y1, y1' = eta (alpha - r^2/2) conserves it exactly; the drift is the error of the method
    assert np.log(drift(2) / drift(8)) / np.log(4) == pytest.approx(2, abs=0.3)
    assert drift(8) < 1e-4


def test_the_sign_of_the_oscillation_means_nothing(runs):
    numbers = (0.3, [[0.5, 0.1], [0.1, 0.2]], 1, 0.1, [0.02, 6.5])
    there, one = runs[2](*arrays(*numbers, [0.3, 0.05]))
    back, other = runs[2](*arrays(*numbers, [-0.3, -0.05]))
    # rounding: fused multiplications are not symmetric
    one, other = (said._replace(axes=abs(said.axes)) for said in (one, other))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), one, other)
    np.testing.assert_allclose(there.direction, -back.direction, rtol=1e-9, atol=1e-12)


def test_the_size_does_not_fall_below_the_rounding_of_the_weights(runs):
    numbers = arrays(0.1, np.diag([1.0, 0.0]), 0, 0, [0, 5.0], [1.0, 0])
    end, found = runs[2](*numbers)
    least = 5 * np.finfo(float).eps
    assert float(jnp.exp(end.size)) == pytest.approx(least, rel=1e-12)
    assert np.all(found.variances[:, 0] >= 0.999 * least**2)


def test_costs_and_what_is_not_said(runs):
    found = jax.tree.map(lambda x: x[0], runs[2](*arrays(0.1, np.eye(2), 0, 0, [1, 1], [0.1, 0]))[1])
    # two stages a substep with two gradients and a product each; three gradients for the averages, and the dense matrix
    assert (found.cost.substeps, found.cost.gradients, found.cost.products, found.cost.thirds) == (2, 3 + 8, 2 + 4, 0)
    assert np.isnan(found.residual) and found.converged


@pytest.mark.slow
def test_members_do_not_disturb_each_other(runs):
    rest = arrays([[4.0, 0.3], [0.3, 1.0]], 0.2, 0.1, [0.3, 0.1], [0.1, 0.1])
    rates = jnp.array([0.3, 0.45])
    together = jax.jit(jax.vmap(lambda rate: path(rate, *rest)[1]))(rates)
    for index, rate in enumerate(rates):
        alone = runs[2](rate, *rest)[1]
        for field in ("params", "mean_loss", "variances", "edge_ratios"):
            # the rounding of 40 steps
            np.testing.assert_allclose(getattr(together, field)[index], getattr(alone, field), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_single_precision_is_kept_and_the_start_is_the_optimizers_own():
    start = {"w": jnp.ones(2, jnp.float32), "b": jnp.ones((), jnp.float32)}
    problem = Problem(lambda p: jnp.sum(jnp.cosh(p["w"])) + p["b"] ** 2, start)
    kernel = edge_flow_steps(problem, optax.sgd(0.1), (NOTHING, EdgeData(20.0, 0.1, 0.0, 0.1)))
    begun = kernel.init(start)
    gradient = problem.gradient(start)
    for name, part in gradient.items():
        np.testing.assert_allclose(begun.direction[name] * jnp.exp(begun.size), -0.05 * part, rtol=1e-6)  # float32
    end, found = jax.jit(lambda: rollout(kernel, begun, 2))()
    leaves = jax.tree.leaves((end._replace(track=None), found))
    assert {leaf.dtype.name for leaf in leaves} <= {"float32", "int32", "bool"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))


def test_rules_with_memory_and_no_substeps_are_refused():
    problem, number = problems.quartic(), EdgeData(38.0, 0.1, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"1 leaves of memory.*plain gradient descent.*try rod_flow_steps"):
        edge_flow_steps(problem, optax.sgd(0.1, 0.9), (HEAVY, number))
    with pytest.raises(ValueError, match="substeps=0"):
        edge_flow_steps(problem, optax.sgd(0.1), substeps=0)
