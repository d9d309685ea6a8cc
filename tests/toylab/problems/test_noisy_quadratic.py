"""The noisy quadratics are what their docstrings say."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems

SOME = st.lists(st.floats(-3, 3), min_size=4, max_size=4)  # one shape: compiled once


@settings(max_examples=5)
@given(SOME, st.floats(-2, 2))
def test_the_line_is_the_mean_of_its_examples(curvatures: list[float], w: float) -> None:
    slopes = np.linspace(-1, 1, len(curvatures))
    problem = problems.noisy_line(curvatures, slopes)
    expected = np.mean(np.array(curvatures) * w - slopes)
    np.testing.assert_allclose(problem.gradient(jnp.asarray(w)), expected, atol=1e-14)  # a sum of six terms
    np.testing.assert_allclose(problem.hvp(jnp.asarray(w), jnp.asarray(1.0)), np.mean(curvatures), atol=1e-14)


def test_without_slopes_every_batch_is_minimal_at_zero() -> None:
    problem = problems.noisy_line([0.3, -1.0, 2.0])
    for batch in ([0], [1, 2], [0, 1, 2]):
        part = replace(problem, data=jax.tree.map(lambda leaf, batch=batch: leaf[jnp.asarray(batch)], problem.data))
        assert part.gradient(jnp.zeros(())) == 0


def test_rank_one_examples_have_the_hessian_of_regression(key: jax.Array) -> None:
    features = jax.random.normal(key, (7, 3))
    targets = jnp.arange(7.0)
    problem = problems.rank_one_quadratic(features, targets)
    hessian = jax.vmap(lambda v: problem.hvp(problem.params, v))(jnp.eye(3))
    np.testing.assert_allclose(hessian, features.T @ features / 7, atol=1e-14)  # a sum of seven terms
    best = jnp.linalg.lstsq(features, targets)[0]
    np.testing.assert_allclose(problem.gradient(best), 0, atol=1e-13)  # least squares, to rounding
    one = replace(problem, data=jax.tree.map(lambda leaf: leaf[2:3], problem.data))
    hessian = jax.vmap(lambda v: one.hvp(one.params, v))(jnp.eye(3))
    np.testing.assert_allclose(hessian, jnp.outer(features[2], features[2]), atol=1e-14)  # products only


def test_they_vmap_over_their_data() -> None:
    losses = jax.vmap(lambda a: problems.noisy_line(a).value(jnp.asarray(2.0)))(jnp.array([[1.0, 3.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(losses, [4.0, 1.0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problems.noisy_line([]), "one number an example"),
        (lambda: problems.noisy_line([1.0, 2.0], [1.0]), "give as many"),
        (lambda: problems.rank_one_quadratic([1.0, 2.0]), "examples, dimensions"),
        (lambda: problems.rank_one_quadratic([[1.0, 2.0]], [1.0, 2.0]), "give 1 targets and 2 weights"),
    ],
)
def test_what_is_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()
