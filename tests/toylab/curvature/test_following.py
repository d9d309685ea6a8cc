"""Eigenpairs followed along moving Hessians: accuracy, cost, crossings, and what must not go wrong."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toylab.curvature import LOOKOUT, begin_track, follow

DIMENSION, STEPS = 60, 100


def rotation(seed: int, dimension: int = DIMENSION) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, dimension)))[0]


def path(spectra: np.ndarray, turn: float, seed: int = 0) -> jax.Array:
    """Matrices (T, n, n) with the given spectra (T, n), whose eigenvectors oscillate with period two and drift."""
    base, n = rotation(seed), spectra.shape[1]
    skew = np.random.default_rng(seed + 1).normal(size=(n, n)) / np.sqrt(n)
    skew = skew - skew.T
    values, vectors = np.linalg.eigh(1j * skew)
    angles = turn * ((-1.0) ** np.arange(len(spectra)) + 0.03 * np.arange(len(spectra)))
    turned = [base @ np.real(vectors * np.exp(-1j * a * values) @ vectors.conj().T) for a in angles]
    return jnp.asarray(np.stack([(q * s) @ q.T for q, s in zip(turned, spectra, strict=True)]))


def network_like(steps: int, top: np.ndarray) -> np.ndarray:
    """A bulk near zero of both signs, and a few outliers."""
    bulk = np.random.default_rng(3).normal(size=DIMENSION - len(top)) * 0.05
    return np.broadcast_to(np.concatenate([bulk, np.sort(top)]), (steps, DIMENSION)).copy()


@partial(jax.jit, static_argnames=("count", "tolerance", "limit", "above"))
def followed(matrices: jax.Array, count: int, **options):
    """The pairs along a path (T, n, n): tests that share T, n and count share a program."""

    def call(track, matrix):
        pairs, track = follow(lambda v: matrix @ v, track, matrix[0], **options)
        return track, pairs

    return jax.lax.scan(call, begin_track(matrices[0, 0], count), matrices)[1]


@pytest.mark.parametrize("count", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_value_is_within_the_tolerance_at_about_one_product_a_pair(count: int) -> None:
    spectra = network_like(STEPS, np.array([7.3, 7.0, 6.3, 6.1, 4.0, 3.0]))
    spectra[:, -1] += 0.2 * (-1.0) ** np.arange(STEPS)  # the oscillation along the top eigenvector at the edge
    pairs = followed(path(spectra, 0.02), count)
    expected = np.sort(spectra, axis=1)[:, ::-1][:, :count]
    assert np.abs(pairs.value / expected - 1).max() <= 1e-3  # the tolerance of `follow`, at every single step
    assert pairs.converged.all()
    # one product a pair, four in sixteen for the lookout, and what a jump of the prediction costs now and then
    assert pairs.products[4:].mean() <= 2 * count


def test_a_crossing_is_seen_at_the_next_lookout() -> None:
    spectra = network_like(STEPS, np.array([5.0, 4.5, 3.0]))
    spectra[:, -2] = np.linspace(4.5, 6.0, STEPS)  # passes 5.0 at a third of the way
    crossed = int(np.argmax(spectra[:, -2] > 5.0))
    matrices = jnp.asarray(np.stack([np.diag(s) for s in spectra]))  # nothing couples the two eigenvectors
    values = followed(matrices, 1).value[:, 0]
    late = np.flatnonzero(values < 0.999 * spectra.max(axis=1))
    assert late.size == 0 or late.max() < crossed + LOOKOUT


@pytest.mark.parametrize("dimension", [pytest.param(DIMENSION, marks=pytest.mark.slow), 1000])
def test_an_eigenvalue_from_nowhere_is_found(dimension: int) -> None:
    """It grows within one step in a direction that the memory has never seen, uncoupled from the others."""
    spectra = np.tile(np.random.default_rng(3).normal(size=dimension) * 0.05, (2, 1))
    spectra[:, :4] = [5.0, 4.0, 3.5, 3.0]
    spectra[1, 10] = 5.25  # five per cent above
    index = jnp.asarray((np.arange(100) >= 20).astype(int))

    def call(track, now):
        pairs, track = follow(lambda v: jnp.asarray(spectra)[now] * v, track, jnp.zeros(dimension))
        return track, pairs.value[0]

    values = jax.jit(lambda: jax.lax.scan(call, begin_track(jnp.zeros(dimension), 1), index)[1])()
    np.testing.assert_allclose(values[:20], 5.0, rtol=1e-3)  # the tolerance of `follow`
    np.testing.assert_allclose(values[20 + 64 :], 5.25, rtol=1e-3)  # as its docstring says


def test_a_jump_costs_a_longer_search_and_no_error() -> None:
    half = STEPS // 2
    matrices = jnp.concatenate([path(network_like(half, np.array([7.0, 6.0])), 0.01, seed) for seed in (0, 7)])
    pairs = followed(matrices, 2)
    np.testing.assert_allclose(pairs.value, np.broadcast_to([7.0, 6.0], (STEPS, 2)), rtol=1e-3)  # the tolerance
    assert pairs.products[half] >= 2 * pairs.products[half - 1]


@pytest.mark.slow
def test_what_is_not_accurate_is_marked() -> None:
    clustered = jnp.asarray((rotation(0) * np.linspace(0.9, 1.0, DIMENSION)) @ rotation(0).T)
    pairs = followed(clustered[None], 2, tolerance=1e-12, limit=10)
    assert not pairs.converged.any() and pairs.products[0] <= 20
    assert (pairs.residual > 1e-12).all()


@pytest.mark.parametrize("shape", ["negative", "degenerate", "zero"])
def test_awkward_spectra(shape: str) -> None:
    spectra = {
        "negative": network_like(STEPS, np.array([0.0])) - 1.0,
        "degenerate": network_like(STEPS, np.array([2.0, 2.0, 2.0])),
        "zero": np.zeros((STEPS, DIMENSION)),
    }[shape]
    pairs = followed(path(spectra, 0.005), 2)
    expected = np.sort(spectra, axis=1)[:, ::-1][:, :2]
    np.testing.assert_allclose(pairs.value, expected, rtol=1e-3, atol=1e-12)  # the tolerance; rounding about zero


@pytest.mark.parametrize(
    "dimension", [1, 8, pytest.param(2, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_few_dimensions_are_exact(dimension: int) -> None:
    matrix = jnp.asarray((rotation(0, dimension) * np.linspace(-1, 3, dimension)) @ rotation(0, dimension).T)
    count = min(dimension, 2)
    pairs = followed(jnp.stack([matrix] * 3), count)
    expected = np.linalg.eigvalsh(matrix)[::-1][:count]
    np.testing.assert_allclose(pairs.value, np.broadcast_to(expected, (3, count)), rtol=1e-12)  # a few roundings
    with pytest.raises(ValueError, match="ask for 1 to"):
        begin_track(jnp.zeros(3), 4)


def test_dead_coordinates_and_poison() -> None:
    rng = np.random.default_rng(1)
    matrix = path(network_like(1, np.array([3.0, 2.0])), 0.0)[0].at[5].set(0).at[:, 5].set(0)
    inverse = rng.uniform(0.1, 10, DIMENSION)
    inverse[[0, 2, 5]] = [np.inf, np.nan, np.inf]
    alive = np.isfinite(inverse)
    root = np.sqrt(inverse[alive])
    expected = np.linalg.eigvalsh(root[:, None] * np.asarray(matrix)[np.ix_(alive, alive)] * root)[::-1][:2]
    poisons = jnp.asarray([1.0, 1.0, jnp.nan, 1.0, 1.0])

    def call(track, poison):
        pairs, track = follow(
            lambda v: poison * matrix @ v, track, matrix[0], inverse_preconditioner=jnp.asarray(inverse)
        )
        return track, pairs

    pairs = jax.lax.scan(call, begin_track(matrix[0], 2), poisons)[1]
    sound = np.array([0, 1, 3, 4])
    np.testing.assert_allclose(pairs.value[sound], np.tile(expected, (4, 1)), rtol=1e-3)  # the tolerance of `follow`
    assert np.isnan(pairs.value[2]).all() and not pairs.converged[2].any()
    assert (pairs.excluded == 3).all() and (pairs.vector[sound][:, :, ~alive] == 0).all()


@pytest.mark.slow
def test_only_what_is_above_a_level_is_followed() -> None:
    top = np.array([7.0, 6.0, 5.0, 3.0, 2.0])
    spectra = network_like(STEPS, top)
    spectra[STEPS // 2 :, -4] = 5.5  # one more comes from below
    pairs = followed(path(spectra, 0.005), 6, above=4.5)
    found = np.isfinite(pairs.value).sum(axis=1)
    assert (found[4 : STEPS // 2] == 3).all() and (found[STEPS // 2 + LOOKOUT :] == 4).all()
    np.testing.assert_allclose(pairs.value[-1, :4], [7.0, 6.0, 5.5, 5.0], rtol=1e-3)  # the tolerance of `follow`
    # three above and one more to see the next: four products, a quarter for the lookout, and some to spare; not six
    assert np.median(pairs.products[4 : STEPS // 2]) <= 5


@pytest.mark.slow
def test_vmap_and_single_precision_agree_with_one_at_a_time() -> None:
    paths = jnp.stack([path(network_like(20, np.array([top, 2.0])), 0.01) for top in (3.0, 4.0)])
    together = jax.jit(jax.vmap(lambda m: followed(m, 1)))(paths)
    single = jax.jit(jax.vmap(lambda m: followed(m, 1)))(paths.astype(jnp.float32))
    assert single.value.dtype == jnp.float32
    for found in (together, single):
        np.testing.assert_allclose(found.value[:, :, 0], np.tile([[3.0], [4.0]], (1, 20)), rtol=1e-3)  # the tolerance
    alone = followed(paths[0], 1)
    np.testing.assert_allclose(together.value[0], alone.value, rtol=1e-12)  # the same sums in another order
    np.testing.assert_array_equal(together.products[0], alone.products)
