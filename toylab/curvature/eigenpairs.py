"""The top eigenpairs of a symmetric operator, sought until their residuals are small: restarted block Lanczos."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature.orthonormal import added, norm, random_unit, ritz, unit_or_zero
from toylab.numerics.full_precision import fully_precise

PyTree = Any

RESTART = 16  # products of one Lanczos restart once the first, short one was not enough
STIR = 1e-4  # random part mixed into a start, so that no eigendirection is ever exactly absent


class EigenPair(NamedTuple):
    """An eigenvalue, its unit eigenvector, and how far they are from being one.

    `value`: (), or (k,) descending. `vector`: pytree like the parameters, with a leading axis k if there is
    one; unit Euclidean norm over all coordinates. `residual`: |A v - value v| / |value|, from a stored
    product and not an estimate: some eigenvalue lies within residual * |value| of `value`. `products`:
    products with A spent. `excluded`: coordinates left out because the inverse preconditioner is not a finite
    number >= 0 there. `converged`: whether the tolerance asked for was met. A value that is not marked so is a Rayleigh
    quotient all the same, hence a lower bound of the eigenvalue up to rounding; it must not be used without a look at
    its residual. Where there are fewer than k directions left, value and residual are NaN, `converged` False.
    """

    value: Array
    vector: PyTree
    residual: Array
    products: Array
    excluded: Array
    converged: Array


def top_eigenpair(
    matvec: Callable[[PyTree], PyTree],
    start: PyTree,
    *,
    inverse_preconditioner: PyTree = None,
    products: int | Array = 2,
    tolerance: float = 1e-3,
    limit: int = 96,
) -> EigenPair:
    """The largest eigenvalue (not: in absolute value) of a symmetric operator. See `top_eigenpairs`."""
    stacked = jax.tree.map(lambda leaf: leaf[None], start)
    pairs = top_eigenpairs(
        matvec,
        stacked,
        inverse_preconditioner=inverse_preconditioner,
        products=products,
        tolerance=tolerance,
        limit=limit,
    )
    return pairs._replace(
        value=pairs.value[0],
        residual=pairs.residual[0],
        converged=pairs.converged[0],
        vector=jax.tree.map(lambda leaf: leaf[0], pairs.vector),
    )


@fully_precise
def top_eigenpairs(
    matvec: Callable[[PyTree], PyTree],
    start: PyTree,
    *,
    inverse_preconditioner: PyTree = None,
    products: int | Array = 2,
    tolerance: float = 1e-3,
    limit: int = 96,
) -> EigenPair:
    """The k largest eigenvalues of A = H, or of A = P^-1/2 H P^-1/2, by restarted block Lanczos with
    Rayleigh-Ritz.

    `matvec`: v -> H v on pytrees like the parameters, H symmetric. `start`: a pytree with a leading axis k,
    for instance the `vector` of the last call (a warm start); a vector that is zero or not finite is replaced
    by a random one (a cold start). `inverse_preconditioner`: the diagonal of P^-1 as a pytree; coordinates
    where it is not a finite number >= 0 are excluded and counted. First k * `products` products are spent,
    which suffices on a slowly moving Hessian; while some residual exceeds `tolerance`, restarts follow until
    about k * `limit` products are spent. The residual is returned whatever happens. If the space has at most
    16 dimensions, a basis of all of it is used: then exact.

    A residual proves that `value` is near an eigenvalue, not that this is the largest: that rests on the
    random part mixed into each start (relative size 1e-4, which costs at most about 1e-8 of the value). Every
    product is stored and the basis is orthogonalised twice, so asking for more products than the Krylov space
    has dimensions does no harm: a breakdown continues with a random direction and a full basis is left as it
    is. Pure; for jit, scan and vmap. Raises ValueError if k exceeds the dimension.

    Source: Golub and Van Loan, Matrix Computations, 4th ed., sections 10.1-10.3; Ritz values from the
    explicit projection V^T A V instead of the recurrence's tridiagonal matrix.
    """
    first = jax.tree.map(lambda leaf: leaf[0], start)
    flat, unravel = ravel_pytree(first)
    count, dimension = jax.tree.leaves(start)[0].shape[0], flat.size
    if count > dimension:
        raise ValueError(f"got {count} eigenpairs to find in {dimension} dimensions: ask for at most {dimension}")
    apply, live = flattened(matvec, first, inverse_preconditioner)
    capacity = min(dimension, count * RESTART)
    everything = capacity == dimension
    first_size = capacity if everything else jnp.clip(count * jnp.asarray(products, jnp.int32), count, capacity)

    def unfinished(carry: tuple) -> Array:
        _, _, residuals, spent = carry
        more = jnp.any(residuals > tolerance) & (spent + capacity <= count * limit) & (not everything)
        return (spent == 0) | more

    def search(carry: tuple) -> tuple:
        _, vectors, _, spent = carry
        size = jnp.where(spent == 0, first_size, capacity).astype(jnp.int32)
        return *_block_lanczos(apply, vectors, live, capacity, size), spent + size

    starts = jax.vmap(lambda vector: ravel_pytree(vector)[0])(start)
    unknown = jnp.full((count,), jnp.nan, flat.dtype)
    carry = (unknown, starts, unknown, jnp.zeros((), jnp.int32))
    values, vectors, residuals, spent = lax.while_loop(unfinished, search, carry)
    return EigenPair(values, jax.vmap(unravel)(vectors), residuals, spent, jnp.sum(~live), residuals <= tolerance)


def flattened(
    matvec: Callable[[PyTree], PyTree], like: PyTree, inverse_preconditioner: PyTree = None
) -> tuple[Callable[[Array], Array], Array]:
    """H, or P^-1/2 H P^-1/2, on flat vectors (p,) in the order of `ravel_pytree(like)`, and which coordinates are live.

    Coordinates where the diagonal of P^-1 is not a finite number >= 0 are not: the operator is zero there.
    """
    flat, unravel = ravel_pytree(like)
    if inverse_preconditioner is None:
        return lambda vector: ravel_pytree(matvec(unravel(vector)))[0], jnp.ones(flat.shape, dtype=bool)
    inverse = ravel_pytree(inverse_preconditioner)[0].astype(flat.dtype)
    live = jnp.isfinite(inverse) & (inverse >= 0)
    scale = jnp.sqrt(jnp.where(live, inverse, 0))
    return lambda vector: scale * ravel_pytree(matvec(unravel(scale * vector)))[0], live


def _block_lanczos(
    apply: Callable[[Array], Array], starts: Array, live: Array, capacity: int, size: Array
) -> tuple[Array, Array, Array]:
    """Rayleigh-Ritz on an orthonormal basis of `size` <= `capacity` vectors of the block Krylov space of
    `starts` (k, n).

    Returns the top k Ritz values, vectors (k, n) and relative residuals. Basis vector j + k is the j-th one's
    product, orthogonalised against all before it.
    """
    count, dimension = starts.shape
    dtype = starts.dtype
    epsilon = jnp.finfo(dtype).eps

    basis = jnp.zeros((capacity + count, dimension), dtype)  # the last `count` rows are written and never used
    for index in range(count):
        initial, _ = unit_or_zero(jnp.where(live, starts[index], 0), 0.0)
        stirred = initial + STIR * random_unit(capacity + index, live, dtype)
        basis = added(basis, index, stirred, 10 * STIR * jnp.sqrt(epsilon), live, index)

    def extend(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, images = carry
        image = apply(basis[index])
        images = lax.dynamic_update_index_in_dim(images, image, index, 0)
        # A candidate smaller than rounding in the product itself says nothing about the operator any more.
        floor = 10 * epsilon * norm(image)
        return added(basis, index + count, image, floor, live, index + count), images

    basis, images = lax.fori_loop(0, size, extend, (basis, jnp.zeros((capacity, dimension), dtype)))
    basis = jnp.where(jnp.arange(capacity)[:, None] < size, basis[:capacity], 0)
    inside = jnp.linalg.norm(basis, axis=1) > 0.5
    values, weights = ritz(basis @ images.T, inside)
    values, weights = values[:count], weights[:count]
    vectors, products = weights @ basis, weights @ images
    error = jax.vmap(norm)(products - values[:, None] * vectors)
    residuals = jnp.where(error == 0, 0, error / jnp.abs(values))
    exists = jnp.arange(count) < jnp.sum(inside)
    return jnp.where(exists, values, jnp.nan), vectors, jnp.where(exists, residuals, jnp.nan)
