"""Vectors of an orthonormal basis that grows: what is normalised, what counts as zero, what replaces it."""

import jax.numpy as jnp
from jax import Array, lax


def orthogonalised(basis: Array, vector: Array) -> Array:
    """`vector` (p,) without its part in the span of the orthonormal or zero rows of `basis` (m, p)."""
    for _ in range(2):  # twice is enough (Giraud, Langou, Rozloznik 2005)
        vector = vector - (basis @ vector) @ basis
    return vector


def unit_or_zero(vector: Array, floor: Array | float) -> tuple[Array, Array]:
    """`vector` / |vector| and True, or zeros and False where its norm is at most `floor` or not finite."""
    length = norm(vector)
    good = jnp.isfinite(length) & (length > floor)
    return jnp.where(good, vector / jnp.where(good, length, 1), 0), good


def random(seed: Array | int, live: Array, dtype: jnp.dtype) -> Array:
    """A pseudo-random vector (p,) on the `live` coordinates of root mean square length 1, zero on the others: the same
    for the same `seed`.

    Entries are uniform from an integer hash: a tenth of the time that normal numbers take to compile and to draw, and a
    search needs no more than a direction that is special for no operator.
    """
    bits = jnp.arange(live.size, dtype=jnp.uint32) + jnp.asarray(seed, jnp.uint32) * jnp.uint32(0x9E3779B1)
    for multiplier in (0x7FEB352D, 0x846CA68B):
        bits = (bits ^ (bits >> jnp.uint32(16))) * jnp.uint32(multiplier)
    uniform = (bits >> jnp.uint32(8)).astype(dtype) / 2**23 - 1
    return jnp.where(live, uniform * (3 / live.size) ** 0.5, 0)


def random_unit(seed: Array | int, live: Array, dtype: jnp.dtype) -> Array:
    """`random` as a unit vector."""
    return unit_or_zero(random(seed, live, dtype), 0.0)[0]


def added(
    basis: Array, place: Array | int, candidate: Array, floor: Array | float, live: Array, seed: Array | int
) -> Array:
    """The basis with `candidate` as its row number `place`, orthogonal to all others; a random direction where what is
    left of the candidate is below `floor`, and zeros where no live direction is left."""
    epsilon = jnp.finfo(basis.dtype).eps
    direction, good = unit_or_zero(orthogonalised(basis, candidate), floor)
    direction = lax.cond(good, lambda: direction, lambda: orthogonalised(basis, random_unit(seed, live, basis.dtype)))
    # Normalising magnifies what is left of the other directions when little is left: orthogonalise once more.
    # What is then below sqrt(eps) was rounding: the basis already spans every live direction.
    direction, _ = unit_or_zero(orthogonalised(basis, direction), jnp.sqrt(epsilon))
    return lax.dynamic_update_index_in_dim(basis, direction, place, 0)


def ritz(projected: Array, inside: Array) -> tuple[Array, Array]:
    """Eigenvalues (m,), descending, and weights (m, m), one row each, of a symmetric projection V^T A V, of which the
    lower triangle is read; the rows that are not `inside` (zero rows of V) come last, whatever the sign of the
    spectrum."""
    # In units of its largest entry, so that a tiny operator is resolved like any other.
    unit = largest(projected)
    below = -2.0 * len(projected)
    shifted = projected / unit + jnp.diag(jnp.where(inside, 0, below))
    values, weights = jnp.linalg.eigh(shifted, symmetrize_input=False)
    return unit * values[::-1], weights[:, ::-1].T


def largest(array: Array) -> Array:
    """The largest absolute entry; 1 for zeros."""
    largest = jnp.max(jnp.abs(array))
    return jnp.where(largest == 0, 1, largest)


def norm(vector: Array) -> Array:
    """The Euclidean norm without squaring numbers that underflow: a residual that vanishes must have vanished."""
    unit = largest(vector)
    return unit * jnp.linalg.norm(vector / unit)
