"""Linear nets are what their docstrings say: losses, known Hessians, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toylab import problems
from toylab.curvature import dense_hessian


def test_the_two_layer_loss_is_a_mean_over_examples() -> None:
    u, v = np.array([1.0, 2.0, -1.0]), np.array([0.5, 1.0, 3.0])
    inputs, targets = np.array([1.0, -2.0]), np.array([0.3, 0.1])
    problem = problems.two_layer_linear(u=u, v=v, inputs=inputs, targets=targets)
    expected = np.mean((inputs * (u @ v) / np.sqrt(3) - targets) ** 2) / 2
    np.testing.assert_allclose(problem.value(problem.params), expected, rtol=1e-14)  # a few roundings


def test_drawn_weights_give_a_kernel_of_order_one(key: jax.Array) -> None:
    u, v = problems.two_layer_linear(width=4096, key=key).params
    # (|u|^2 + |v|^2)/n is a mean of 4096 chi-squared of two degrees: 2 +- 2/64, five standard deviations
    assert abs(float(jnp.sum(u**2 + v**2) / 4096) - 2) < 0.16


def test_one_loss_for_all_so_that_nothing_is_compiled_twice(key: jax.Array) -> None:
    for build in (problems.two_layer_linear, problems.deep_linear, problems.matrix_factorisation):
        assert jax.eval_shape(build).loss is jax.eval_shape(lambda build=build: build(key=key)).loss


@pytest.mark.parametrize(
    ("build", "settings"),
    [("two_layer_linear", {}), ("deep_linear", {"depth": 2, "width": 2}), ("matrix_factorisation", {})],
)
def test_values_over_many_weights_at_once(build: str, settings: dict) -> None:
    problem = problems.NAMED[build](**settings)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), problem.params)
    one_by_one = [problem.value(jax.tree.map(lambda leaf, i=i: leaf[i], many)) for i in range(2)]
    np.testing.assert_allclose(jax.vmap(problem.value)(many), one_by_one, rtol=1e-13)  # reordered sums


def test_the_deep_loss_is_the_distance_to_the_target(key: jax.Array) -> None:
    """Whitened inputs: mean |W x - A x|^2/2 = |W - A|_F^2/2."""
    target = np.array([[1.0, 0.3], [-0.4, 0.8]])
    problem = problems.deep_linear(depth=3, target=target, key=key)
    product = problem.params[2] @ problem.params[1] @ problem.params[0]
    # the inputs are orthogonal to single precision, in which they are drawn, refined by the products of double
    np.testing.assert_allclose(problem.value(problem.params), 0.5 * jnp.sum((product - target) ** 2), rtol=1e-12)


HESSIAN = jax.jit(dense_hessian)


def test_the_deep_net_at_a_balanced_minimum() -> None:
    sigma = np.array([0.7, 1.9])
    weights = jnp.stack([jnp.diag(jnp.asarray(sigma) ** (1 / 3))] * 3)
    problem = problems.deep_linear(depth=3, target=np.diag(sigma))
    found = np.linalg.eigvalsh(HESSIAN(problem, weights))
    np.testing.assert_allclose(found[-1], 3 * sigma.max() ** (4 / 3), rtol=1e-10)  # dense eigensolver
    assert found[0] > -1e-10  # a minimum


def test_a_factorisation_at_a_minimum_and_its_least_sharpness() -> None:
    random = np.random.default_rng(0)
    left, right = jnp.asarray(random.standard_normal((3, 2))), jnp.asarray(random.standard_normal((4, 2)))
    problem = problems.matrix_factorisation(target=left @ right.T, rank=2)
    top = float(np.linalg.eigvalsh(HESSIAN(problem, (left, right)))[-1])
    largest = [float(np.linalg.norm(part, 2)) for part in (left, right, left @ right.T)]
    np.testing.assert_allclose(top, largest[0] ** 2 + largest[1] ** 2, rtol=1e-11)  # dense eigensolver
    assert top >= 2 * largest[2]


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        ("two_layer_linear", {"width": 0}, "width"),
        ("two_layer_linear", {"u": [1.0, 2.0], "v": [1.0]}, "two lists"),
        ("two_layer_linear", {"inputs": [1.0, 2.0], "targets": [1.0, 2.0, 3.0]}, "one number for each"),
        ("deep_linear", {"depth": 0}, "at least 1"),
        ("deep_linear", {"target": [[1.0, 2.0]]}, "square"),
        ("matrix_factorisation", {"rank": 0}, "rank"),
        ("matrix_factorisation", {"target": [1.0]}, "matrix"),
    ],
)
def test_what_is_refused(build: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problems.NAMED[build](**settings)
