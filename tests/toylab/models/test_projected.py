"""Principal axes of a model's oscillation, and the optimizer's own oscillation seen along them."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems
from toylab.models.comparison.run import compare
from toylab.models.comparison.timed import driven
from toylab.models.predictions import principal
from toylab.models.projected import projected_steps


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_along_its_axes_an_oscillation_has_its_variances_and_no_covariance(seed, rank):
    random = np.random.default_rng(seed)
    count, size = 3, 6
    preconditioner = random.uniform(0.1, 3, size)
    spread = random.normal(size=(count, rank)) @ random.normal(size=(rank, size))
    variances, axes = map(np.asarray, principal(jnp.asarray(preconditioner), jnp.asarray(spread)))
    covariance, root = spread.T @ spread, np.sqrt(preconditioner)
    dense = np.linalg.eigvalsh(root[:, None] * covariance * root)[::-1][:count]
    scale = dense[0] if rank else 1
    np.testing.assert_allclose(variances, dense, atol=1e-12 * scale)  # rounding
    # the square root of an eigenvalue may have lost half of the digits
    np.testing.assert_allclose(axes @ covariance @ axes.T, np.diag(variances), atol=1e-9 * scale)
    # where there is no oscillation there is no axis, and axes are orthonormal in P^-1
    assert np.all(~np.any(axes[rank:], axis=1))
    np.testing.assert_allclose((axes / preconditioner) @ axes.T, np.diag(np.arange(count) < rank), atol=1e-6)


@pytest.mark.parametrize("every", [1, 4])
def test_the_oscillation_is_that_of_the_iterates_along_the_nearest_axes(every):
    problem, transform, steps = problems.quadratic(jnp.array([1.0, 0.5, 0.1])), optax.sgd(1.9, 0.3), 11
    axes = np.random.default_rng(0).normal(size=(-(-steps // every), 2, 3))
    start = problem.params, transform.init(problem.params), jnp.asarray(axes)
    (_, squares), _ = driven(projected_steps(problem, transform, every), start, steps, every)
    w = [np.asarray(problem.params)]
    velocity = np.zeros(3)
    for _ in range(steps + 1):
        velocity = 0.3 * velocity + np.array([1.0, 0.5, 0.1]) * w[-1]
        w.append(w[-1] - 1.9 * velocity)
    oscillation = (np.array(w[:-2]) - 2 * np.array(w[1:-1]) + np.array(w[2:])) / 4
    nearest = [min(range(len(axes)), key=lambda i, t=t: (abs(i * every - t), -i)) for t in range(steps)]
    expected = [(axes[i] @ o) ** 2 for i, o in zip(nearest, oscillation, strict=True)]
    np.testing.assert_allclose(squares, expected, rtol=1e-10)


def test_with_one_weight_the_axis_sees_all_of_the_oscillation():
    """Where the curvature falls with the amplitude, gradient descent ends in a 2-cycle."""
    found = compare(problems.log_cosh(curvature=1.0, start=0.5), optax.sgd(2.4), 40, models=["rod_flow"], count=1)
    run = found.runs[1]
    np.testing.assert_allclose(run.along[:, 0], found.measured.variance, rtol=1e-12)
    assert run.errors.axis_error == pytest.approx(run.errors.variance_error, rel=1e-12)
    assert found.runs[0].along is None and found.runs[0].errors.axis_error is None
