"""Products of weights and the second-order model are what their docstrings say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toylab import problems
from toylab.problems.scalar_nets import flow_minimum, flow_sharpness
from toylab.problems.second_order_regression import tangent_kernel


def spectrum(problem, weights):
    return np.linalg.eigvalsh(jax.jit(jax.hessian(problem.value))(jnp.asarray(weights)))


@pytest.mark.parametrize(
    ("name", "steepness"), [("product_regression", 1), ("minimalist", 2), ("hyperbolic_product", 1)]
)
def test_spectrum_on_the_curve_of_minima(name, steepness):
    problem = problems.NAMED[name]()
    point = np.array([1.6, 1 / 1.6])
    np.testing.assert_allclose(problem.gradient(jnp.asarray(point)), 0, atol=1e-15)  # roundings of x y - 1
    np.testing.assert_allclose(
        spectrum(problem, point), [0, steepness * (point**2).sum()], atol=1e-14
    )  # of numbers < 7


def test_spectrum_of_a_chain():
    weights = np.array([2.0, 1.5, 0.5, 0.8])
    problem = problems.scalar_chain(weights, target=weights.prod())
    top = weights.prod() ** 2 * (weights**-2).sum()
    np.testing.assert_allclose(spectrum(problem, weights), [0, 0, 0, top], atol=1e-14)  # a few roundings


def test_losses_by_hand():
    point = jnp.asarray([2.0, 0.75])
    for name, value in {
        "product_regression": 0.5 * 0.5**2,
        "minimalist": 0.25 * (1 - 2.25**2) ** 2 * 1.0,
        "hyperbolic_product": np.cosh(0.5) - 1,
    }.items():
        if name == "minimalist":
            value = 0.25 * (1 - 1.5**2) ** 2
        np.testing.assert_allclose(problems.NAMED[name]().value(point), value, rtol=1e-14)  # one rounding or two
    np.testing.assert_allclose(problems.scalar_chain([2.0, 3.0, 0.5], 1.0).value(jnp.asarray([2.0, 3.0, 0.5])), 2.0)
    model = problems.second_order_model(0.5, 0.25)
    np.testing.assert_allclose(model.value(jnp.asarray([2.0, 1.0])), 0.5 * (0.5 * (4 - 0.5) - 0.25) ** 2)


def test_the_tangent_kernel_is_the_sharpness_where_the_model_fits():
    epsilon, target, second = 0.1, 0.4, 1.5
    weights = np.array([np.sqrt(2 * target + epsilon * second**2), second])
    problem = problems.second_order_model(epsilon, target, weights)
    np.testing.assert_allclose(
        spectrum(problem, weights), [0, tangent_kernel(jnp.asarray(weights), epsilon)], atol=1e-14
    )


def test_problems_vmap_over_starts_and_parameters():
    starts = jnp.asarray([[2.0, 1.0, 0.7], [1.0, 1.0, 1.0]])
    targets = jnp.asarray([1.0, 3.0])
    found = jax.vmap(lambda w, t: problems.scalar_chain(w, t).value(w))(starts, targets)
    np.testing.assert_allclose(found, 0.5 * (np.asarray(starts).prod(axis=1) - np.asarray(targets)) ** 2, rtol=1e-14)
    epsilon = jnp.asarray([0.1, 0.2])
    values = jax.vmap(lambda e: problems.second_order_model(e).gradient(jnp.ones(2)))(epsilon)
    assert values.shape == (2, 2)


def test_the_flow_ends_where_its_conserved_quantities_say():
    """Euler steps of the flow, extrapolated, against the root."""
    start = jnp.asarray([1.4, 0.5, 0.9])
    problem = problems.scalar_chain(start)

    def flow(size, count):
        step = lambda _, w: w - size * problem.gradient(w)  # noqa: E731
        return jax.lax.fori_loop(0, count, step, start)

    coarse, fine, finest = (jax.jit(flow)(0.02 / n, 2000 * n) for n in (1, 2, 4))
    first, second = 2 * fine - coarse, 2 * finest - fine
    end = (4 * second - first) / 3
    np.testing.assert_allclose(end, flow_minimum(start), atol=1e-6)  # Euler extrapolated twice: 0.02^3 of its scale
    np.testing.assert_allclose(jnp.prod(flow_minimum(start)), 1, rtol=1e-13)  # the root is known to rounding
    np.testing.assert_allclose(
        flow_sharpness(start), spectrum(problem, np.asarray(flow_minimum(start)))[-1], rtol=1e-12
    )


def test_the_root_is_found_for_extreme_weights():
    for start in ([1e4, 1e-4, 2.0], [30.0, 20.0, 10.0], [1e-3, 1e-3], [1.0, 1.0, 1.0, 1.0]):
        end = jax.jit(flow_minimum)(jnp.asarray(start))
        np.testing.assert_allclose(jnp.prod(end), 1, rtol=1e-12)  # log of the product is zero to rounding
        imbalance = np.subtract.outer(np.square(start), np.square(start))
        np.testing.assert_allclose(
            np.subtract.outer(end**2, end**2), imbalance, atol=1e-15 * np.square(start).max() * 8
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problems.minimalist([1.0]), "minimalist: got"),
        (lambda: problems.product_regression([[1.0, 2.0]]), "needs 2 numbers"),
        (lambda: problems.hyperbolic_product([1.0, np.nan]), "not finite"),
        (lambda: problems.scalar_chain([]), "at least one"),
        (lambda: problems.second_order_model(0.1, 0.2, [1.0]), "two numbers"),
    ],
)
def test_starts_that_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
