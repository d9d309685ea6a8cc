"""Matrix-free eigenpairs against a dense decomposition, where it is easy and where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems
from toylab.curvature import dense_hessian, hvp, top_eigenpair, top_eigenpairs

DIMENSIONS = (16, 40)  # on both sides of 16, up to which a full basis is used


def rotated(spectrum: np.ndarray, seed: int) -> jax.Array:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum), len(spectrum))))
    return jnp.asarray((rotation * spectrum) @ rotation.T)


@jax.jit
def searched(matrix: jax.Array, start: jax.Array):
    return top_eigenpair(lambda v: matrix @ v, start, tolerance=1e-9, limit=2000)


@settings(max_examples=25)
@given(
    dimension=st.sampled_from(DIMENSIONS),
    shape=st.sampled_from(["spread", "negative", "degenerate", "deficient", "zero", "tiny"]),
    seed=st.integers(0, 10**6),
)
def test_top_eigenpair_is_the_one_of_dense_eigh(dimension: int, shape: str, seed: int) -> None:
    spectrum = np.random.default_rng(seed).uniform(-1, 1, dimension)
    if shape == "negative":
        spectrum = -np.abs(spectrum) - 0.1
    elif shape == "degenerate":
        spectrum = np.where(spectrum > 0, 0.7, spectrum)
    elif shape == "deficient":
        spectrum[: dimension - 1] = 0
    elif shape == "zero":
        spectrum[:] = 0
    elif shape == "tiny":
        spectrum *= 1e-150
    matrix = rotated(spectrum, seed)
    pair = searched(matrix, jnp.zeros(dimension))
    scale = max(np.abs(spectrum).max(), 1e-300)
    # eigenvalue error <= residual |value| when the residual is met; 1e-9 is the tolerance asked for, 1e-13 rounding
    assert abs(pair.value - spectrum.max()) <= 2e-9 * scale
    error = np.linalg.norm(matrix @ pair.vector - pair.value * pair.vector)
    assert error <= float(pair.residual) * abs(float(pair.value)) + 1e-13 * scale
    np.testing.assert_allclose(np.linalg.norm(pair.vector), 1, rtol=1e-13)  # a few roundings


@pytest.mark.slow
def test_exact_start_that_is_not_the_top_is_left() -> None:
    """An invariant start would satisfy any residual: the random part leads away from it in repeated calls."""
    spectrum = jnp.linspace(0.1, 2.0, 30)
    pair = jnp.zeros(30).at[0].set(1.0)

    @jax.jit
    def again(start: jax.Array) -> jax.Array:
        return top_eigenpair(lambda v: spectrum * v, start, tolerance=1e-12, limit=400)

    found = again(pair)
    np.testing.assert_allclose(found.value, 2.0, rtol=1e-9)  # the tolerance asked for is met with restarts


@pytest.mark.slow
def test_products_are_counted_and_bounded() -> None:
    matrix = rotated(np.linspace(0.99, 1.0, 60), 0)  # so clustered that the tolerance is out of reach
    calls = top_eigenpair(lambda v: matrix @ v, jnp.zeros(60), tolerance=1e-14, limit=50)
    assert calls.products <= 50
    assert calls.residual > 1e-14


@pytest.mark.slow
def test_several_eigenpairs() -> None:
    dimension = 30
    spectrum = np.random.default_rng(0).uniform(-1, 1, dimension)
    spectrum[:2] = 1.5
    matrix = rotated(spectrum, 3)
    pairs = top_eigenpairs(lambda v: matrix @ v, jnp.zeros((3, dimension)), tolerance=1e-9, limit=2000)
    np.testing.assert_allclose(pairs.value, np.sort(spectrum)[::-1][:3], rtol=2e-9)  # the tolerance asked for
    np.testing.assert_allclose(pairs.vector @ pairs.vector.T, np.eye(3), atol=1e-12)  # orthonormal up to rounding
    with pytest.raises(ValueError, match="at most 2"):
        top_eigenpairs(lambda v: v, jnp.zeros((3, 2)))


def test_preconditioned_with_dead_coordinates() -> None:
    dimension = 30
    rng = np.random.default_rng(1)
    matrix = rotated(rng.uniform(-1, 1, dimension), 2)
    inverse = rng.uniform(0.1, 10, dimension)
    inverse[[0, 2, 3]] = [np.inf, np.nan, -1.0]
    alive = np.isfinite(inverse) & (inverse >= 0)
    root = np.sqrt(inverse[alive])
    expected = np.linalg.eigvalsh(root[:, None] * np.asarray(matrix)[np.ix_(alive, alive)] * root)[-1]
    pair = top_eigenpair(
        lambda v: matrix @ v,
        jnp.zeros(dimension),
        inverse_preconditioner=jnp.asarray(inverse),
        tolerance=1e-9,
        limit=999,
    )
    np.testing.assert_allclose(pair.value, expected, rtol=2e-9)  # the tolerance asked for
    assert pair.excluded == 3
    assert np.all(pair.vector[~alive] == 0)


@pytest.mark.slow
def test_nothing_alive_is_nan_and_not_a_number() -> None:
    dead = top_eigenpair(lambda v: v, jnp.ones(4), inverse_preconditioner=jnp.full(4, jnp.inf))
    assert jnp.isnan(dead.value) and dead.excluded == 4


def test_a_poisoned_start_is_a_cold_start() -> None:
    matrix = rotated(np.linspace(-1, 1, 40), 5)
    cold, poisoned = searched(matrix, jnp.zeros(40)), searched(matrix, jnp.full(40, jnp.nan))
    np.testing.assert_array_equal(cold.value, poisoned.value)


@pytest.mark.slow
def test_vmap_finds_each_of_several() -> None:
    matrices = jnp.stack([rotated(np.linspace(-1, top, 40), top) for top in (1, 2, 3)])
    together = jax.jit(jax.vmap(searched))(matrices, jnp.zeros((3, 40)))
    np.testing.assert_allclose(together.value, [1, 2, 3], rtol=2e-9)  # the tolerance asked for


@pytest.mark.slow
def test_single_precision() -> None:
    matrix = rotated(np.linspace(-1, 3, 40), 0).astype(jnp.float32)
    pair = top_eigenpair(lambda v: matrix @ v, jnp.zeros(40, jnp.float32), tolerance=1e-4, limit=500)
    assert pair.value.dtype == jnp.float32
    np.testing.assert_allclose(pair.value, 3, rtol=1e-5)  # about a hundred float32 roundings


def test_hessian_products_are_the_dense_hessian() -> None:
    problem = problems.digits_mlp(hidden=(2,), examples=20)
    flat, unravel = jax.flatten_util.ravel_pytree(problem.params)
    vector = jnp.cos(jnp.arange(flat.size))
    dense = jax.jit(dense_hessian)(problem, problem.params) @ vector
    for product in (
        jax.jit(problem.hvp)(problem.params, unravel(vector)),
        jax.jit(lambda v: hvp(problem.value, problem.params, v))(unravel(vector)),
    ):
        # the same sums in another order
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(product)[0], dense, rtol=0, atol=1e-12)


def test_dense_hessian_of_a_quadratic_has_the_prescribed_spectrum(key: jax.Array) -> None:
    spectrum = [3.0, 1.0, -0.5, 0.0]
    problem = problems.quadratic(spectrum, key=key)
    found = np.linalg.eigvalsh(jax.jit(dense_hessian)(problem, problem.params))
    np.testing.assert_allclose(found, sorted(spectrum), atol=1e-14)  # a few roundings of numbers of order one
