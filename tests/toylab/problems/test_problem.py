"""The problems are what their docstrings say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems

NORMAL = st.floats(-10, 10).map(lambda x: x if abs(x) > 1e-300 else 0.0)
"""Numbers that XLA does not flush to zero, nor their products with weights and factorials."""


@settings(max_examples=10)
@given(st.lists(NORMAL, min_size=1, max_size=3))
def test_a_quadratic_and_its_gradient(spectrum: list[float]) -> None:
    problem = problems.quadratic(spectrum)
    weights = np.arange(1.0, len(spectrum) + 1)
    np.testing.assert_array_equal(problem.gradient(jnp.asarray(weights)), np.array(spectrum) * weights)
    # a sum of three terms
    np.testing.assert_allclose(problem.value(jnp.asarray(weights)), 0.5 * np.dot(spectrum, weights**2), atol=1e-13)


def test_a_rotated_quadratic_starts_the_same_in_its_own_basis(key: jax.Array) -> None:
    problem = problems.quadratic([3.0, 2.0, 1.0], key=key)
    np.testing.assert_allclose(problem.value(problem.params), 3.0, rtol=1e-14)  # a few roundings
    assert not np.allclose(problem.params, 1)


@pytest.mark.parametrize(
    ("spectrum", "start", "message"),
    [
        ([], None, "at least one"),
        ([1.0, np.nan], None, "position 1"),
        ([np.inf], None, "finite"),
        ([[1.0]], None, "list"),
        ([1.0], [1.0, 2.0], "give 1 numbers"),
    ],
)
def test_spectra_that_are_refused(spectrum: list, start: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problems.quadratic(spectrum, start=start)


NEEDED = {
    "cubic_normal_form": {"threshold": 2.0},
    "curved_valley": {"threshold": 2.0},
    "noisy_line": {"curvatures": [0.5, 1.5]},
    "rank_one_quadratic": {"features": [[1.0, 2.0]]},
    "quadratic": {"eigenvalues": [1.0, 0.1]},
    "gaussian_mixture_mlp": {"hidden": (3,), "examples": 20},  # as it is, one million weights
}
"""Arguments without which, or with which sooner, a problem can be built."""


@pytest.mark.slow
def test_every_built_in_problem_starts_at_a_finite_loss_and_gradient() -> None:
    builders = {name: build for name, build in problems.NAMED.items() if not name.startswith("cifar10")}  # needs files

    def start(build, arguments):
        problem = build(**arguments)
        return problem.value_and_gradient(problem.params)

    # as one program, with random numbers that compile fast: whether it is finite does not depend on which they are
    with jax.default_prng_impl("rbg"):
        starts = jax.jit(lambda: {name: start(build, NEEDED.get(name, {})) for name, build in builders.items()})()
    assert [name for name, both in starts.items() if not all(np.isfinite(x).all() for x in jax.tree.leaves(both))] == []


def test_the_start_of_digits_is_pinned() -> None:
    """What was published of this problem stays reproducible, whatever becomes of the code that builds it."""
    problem = problems.digits_mlp()
    # weights are drawn in single precision, whose last place is the compiler's: 6e-8 each, independent in the mean
    np.testing.assert_allclose(problem.value(problem.params), 0.6944873921245309, rtol=1e-8)
    assert float(problem.params[0][0][0, 0]) == pytest.approx(0.12550178170204163, rel=1.2e-7)
    other = problems.digits_mlp(loss="cross_entropy", examples=100, seed=3)
    np.testing.assert_allclose(other.value(other.params), 2.2464391641159542, rtol=1e-8)  # as above


def test_digits() -> None:
    problem = problems.digits_mlp()
    assert [tuple(leaf.shape) for leaf in jax.tree.leaves(problem.params)] == [
        (64, 32), (32,), (32, 32), (32,), (32, 10), (10,)
    ]  # fmt: skip
    inputs, targets = problem.data
    assert inputs.shape == (500, 64) and targets.shape == (500, 10)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-15)  # rounding of a mean of numbers below one
    assert (targets.sum(axis=1) == 1).all()
    assert problem.value(problem.params).shape == ()


def test_the_loss_of_digits_is_half_the_squared_error_per_example() -> None:
    problem = problems.digits_mlp(hidden=(), examples=30)
    (weight, bias), (inputs, targets) = problem.params[0], problem.data
    error = np.asarray(inputs) @ np.asarray(weight) + np.asarray(bias) - np.asarray(targets)
    np.testing.assert_allclose(problem.value(problem.params), 0.5 * (error**2).sum() / 30, rtol=1e-13)  # reordered sum


def test_a_uniform_guess_costs_log_of_the_classes() -> None:
    problem = problems.digits_mlp(hidden=(2,), loss="cross_entropy", examples=30)
    zeros = jax.tree.map(jnp.zeros_like, problem.params)
    np.testing.assert_allclose(problem.value(zeros), np.log(10), rtol=1e-14)  # a few roundings


def test_the_same_seed_as_int_and_as_key(key: jax.Array) -> None:
    one, other = problems.digits_mlp(seed=0), problems.digits_mlp(seed=key)
    np.testing.assert_array_equal(one.params[0][0], other.params[0][0])


@pytest.mark.parametrize("settings", [{"loss": "mean"}, {"examples": 0}, {"examples": 1798}, {"hidden": (0,)}])
def test_digits_that_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="digits_mlp: got"):
        problems.digits_mlp(**settings)


def test_the_registry_is_found() -> None:
    networks = {"digits_cnn", "chebyshev_mlp", "teacher_student", "gaussian_mixture_mlp", "sorting_attention"}
    assert {"quadratic", "digits_mlp", "cifar10_mlp", "cifar10_cnn"} | networks <= set(problems.NAMED)
    assert problems.NAMED["quadratic"] is problems.quadratic
    with pytest.raises(AttributeError, match="no problem is called 'nothing'"):
        _ = problems.nothing
