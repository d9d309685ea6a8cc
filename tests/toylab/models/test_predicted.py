"""Constrained trajectory and predicted dynamics: constraints, exact cases, and every way of failing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import Problem, problems
from toylab.curvature import dense_hessian
from toylab.models import constrained, rollout
from toylab.models.constrained import Validity, constrained_trajectory
from toylab.models.optimizer import discrete_steps
from toylab.models.predicted import predicted_dynamics


@partial(jax.jit, static_argnames="steps")
def both(eta, alpha, beta, start, centre, steps=120):
    """Predicted and real iterates on the pure cubic normal form, and the status."""
    problem = problems.cubic_normal_form(2 / eta, alpha, beta, start=start)
    kernel, real = predicted_dynamics(problem, eta), discrete_steps(problem, optax.sgd(eta))
    last, info = rollout(kernel, kernel.init(start, centre), steps)
    return info, rollout(real, real.init(start), steps)[1], last.centre.status


@pytest.mark.slow
@settings(max_examples=10)
@given(st.floats(0.1, 1.0), st.floats(1e-4, 1e-2), st.floats(0.2, 5.0), st.floats(-1.5, 1.5), st.floats(-2.0, 0.5))
def test_on_the_cubic_normal_form_they_are_gradient_descent_below_and_at_the_edge(eta, alpha, beta, x, y):
    scale = np.sqrt(alpha / beta)
    start, centre = jnp.array([x * scale, y * scale]), jnp.array([0.0, min(y, 0.0) * scale])
    info, visited, status = both(eta, alpha, beta, start, centre)
    assert status == Validity.ok
    size = float(jnp.max(jnp.abs(visited.params)))
    # the centre reaches the edge in one Newton step: only the rounding of 120 steps near a centre is left
    np.testing.assert_allclose(info.params, visited.params, atol=1e-11 * size)
    # the loss of the prediction leaves out y x^2/2
    np.testing.assert_allclose(info.loss + info.y * info.x**2 / 2, visited.loss, atol=1e-12)
    active = np.asarray(info.centre.active)
    assert active[-1] or y < 0
    # at the edge the held-back part is alpha/beta grad S exactly: there M is the line s = 0
    np.testing.assert_allclose(info.centre.variance[1:][active[:-1] & active[1:]], 2 * alpha / beta, rtol=1e-9)


@pytest.mark.slow
def test_the_projection_lands_on_the_constraints_and_pushes_only_down():
    problem = problems.cubic_normal_form(20.0, 0.01, 2.0, third=3.0, fourth=5.0, sharpness_curvature=0.5, tilt=0.05)
    kernel = constrained_trajectory(problem, 0.1, 20.0)

    @jax.jit
    @jax.vmap
    def run(start):
        return rollout(kernel, kernel.init(start), 60)

    last, held = run(jnp.array([[0.02, 0.03], [0.02, -0.02]]))
    assert (last.status == Validity.ok).all()
    points = held.params[:, ::20].reshape(-1, 2)
    hessians, gradients = jax.jit(jax.vmap(lambda w: (dense_hessian(problem, w), problem.gradient(w))))(points)
    values, vectors = np.linalg.eigh(hessians)
    slopes = np.abs(np.sum(gradients * vectors[:, :, -1], axis=1))
    assert (
        slopes < 2e-8 * np.linalg.norm(gradients, axis=1)
    ).all()  # the square root of the rounding, the projection's
    assert (values[:, -1] <= 20 * (1 + 2e-8)).all()  # own tolerance
    np.testing.assert_allclose(held.sharpness[0], 20, rtol=2e-8)  # the same
    assert held.active[0].all()
    # the other starts below, rises, and stays at the edge once it is there
    assert held.sharpness[1, 0] < 19.99 and (np.diff(held.sharpness[1]) > -1e-6).all()
    assert not held.active[1, 0] and (np.diff(held.active[1].astype(int)) >= 0).all()


def quadratic_bowl(eigenvalues):
    return problems.quadratic(eigenvalues, start=jnp.zeros(2))


def with_nan(problem):
    return problem.with_params(problem.params * jnp.nan)


@jax.jit
def three_steps(problem):
    kernel = predicted_dynamics(problem, 1.0)
    return rollout(kernel, kernel.init(problem.params), 3)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (quadratic_bowl([1.0, 0.3]), Validity.ok),
        (quadratic_bowl([1.0, 0.999]), Validity.eigengap_closed),
        (quadratic_bowl([1.995, 1.99]), Validity.second_at_edge),
        (quadratic_bowl([3.0, 0.3]), Validity.projection_failed),
        (with_nan(quadratic_bowl([1.0, 0.3])), Validity.nonfinite),
    ],
)
def test_every_way_of_failing_has_its_code_and_freezes(problem, code):
    last, found = three_steps(problem)
    assert int(last.centre.status) == code
    if code:
        np.testing.assert_array_equal(found.params[0], found.params[-1])


@pytest.mark.slow
def test_a_second_eigenvalue_that_arrives_stops_the_trajectory_on_its_way():
    problem = problems.berthier_two_eigenvalues(0.02, forcing=0.0, start=(0.0, 0.0, 2 / 0.3, 6.0, 0.0))
    kernel = constrained_trajectory(problem, 0.3, 2 / 0.3)
    last, held = jax.jit(lambda params: rollout(kernel, kernel.init(params), 200))(problem.params)
    assert int(last.status) == Validity.second_at_edge
    assert held.second[0] < 6.1 and held.second[-1] < 0.98 * 2 / 0.3 and held.second[-1] > 6.4
    np.testing.assert_array_equal(held.params[-2], held.params[-1])


def large(params, data):
    """A steep direction whose sharpness grows along the last of 20 coordinates, and a bowl."""
    sharp, push = data
    bowl = jnp.sum(jnp.linspace(0.1, 0.9, params.size) * params**2) / 2
    return jnp.mean((sharp + params[-1]) * params[0] ** 2 / 2 + bowl - push * params[-1])


@pytest.mark.slow
def test_with_lanczos_it_is_the_same_as_with_a_dense_hessian(monkeypatch):
    problem = Problem(large, jnp.zeros(20).at[1].set(0.3), (jnp.array([1.85]), jnp.array([0.1])))
    kernel = constrained_trajectory(problem, 1.0, 2.0)
    run = lambda params: rollout(kernel, kernel.init(params), 8)  # noqa: E731
    last, lanczos = jax.jit(run)(problem.params)
    monkeypatch.setattr(constrained, "DENSE", 20)
    _, dense = jax.jit(lambda params: run(params))(problem.params)
    assert int(last.status) == Validity.ok and bool(dense.active[-1])
    # eigenvectors to a residual of 1.5e-8, gaps of order one
    np.testing.assert_allclose(lanczos.params, dense.params, atol=1e-7)
    np.testing.assert_allclose(lanczos.second, dense.second, rtol=1e-7)


@pytest.mark.slow
def test_in_single_precision():
    with jax.enable_x64(False):
        problem = problems.cubic_normal_form(2.0, 1e-2, third=0.5, start=(0.1, 0.0))
        kernel = predicted_dynamics(problem, 1.0)
        last, found = jax.jit(lambda params: rollout(kernel, kernel.init(params), 10))(problem.params)
        assert found.params.dtype == jnp.float32 and int(last.centre.status) == Validity.ok
        np.testing.assert_allclose(found.centre.sharpness, 2, rtol=4e-4)  # the square root of its rounding
