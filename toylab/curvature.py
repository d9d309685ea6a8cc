"""Curvature without matrices: Hessian products and top eigenpairs, each with its residual."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.problems.base import Problem

PyTree = Any

RESTART = 16  # products of one Lanczos restart once the first, short one was not enough
STIR = 1e-4  # random part mixed into a start, so that no eigendirection is ever exactly absent


class EigenPair(NamedTuple):
    """An eigenvalue, its unit eigenvector, and how far they are from being one.

    `value`: (), or (k,) descending. `vector`: pytree like the parameters, with a leading axis k if there is
    one; unit Euclidean norm over all coordinates. `residual`: |A v - value v| / |value|, from a stored
    product and not an estimate: some eigenvalue lies within residual * |value| of `value`. `products`:
    products with A spent. `excluded`: coordinates left out because the inverse preconditioner is not a finite
    number >= 0 there. Where there are fewer than k directions left, value and residual are NaN.
    """

    value: Array
    vector: PyTree
    residual: Array
    products: Array
    excluded: Array


def hvp(function: Callable[[PyTree], Array], params: PyTree, vector: PyTree) -> PyTree:
    """The Hessian of a scalar `function` at `params` times `vector` (a pytree like `params`), forward over
    reverse."""
    return jax.jvp(jax.grad(function), (params,), (vector,))[1]


def dense_hessian(problem: Problem, params: PyTree) -> Array:
    """The full Hessian (p, p) of the loss, rows and columns in the order of
    `jax.flatten_util.ravel_pytree(params)`.

    Costs p Hessian products and p^2 numbers: the oracle for small p.
    """
    flat, unravel = ravel_pytree(params)

    def flat_gradient(point: Array) -> Array:
        return ravel_pytree(problem.gradient(unravel(point)))[0]

    hessian = jax.jacfwd(flat_gradient)(flat)
    return 0.5 * (hessian + hessian.T)


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
        value=pairs.value[0], residual=pairs.residual[0], vector=jax.tree.map(lambda leaf: leaf[0], pairs.vector)
    )


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
    for instance the `vector` of the last call (a warm start); a member that is zero or not finite is replaced
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
    scale = jnp.ones_like(flat)
    live = jnp.ones(flat.shape, dtype=bool)
    if inverse_preconditioner is not None:
        inverse = ravel_pytree(inverse_preconditioner)[0].astype(flat.dtype)
        live = jnp.isfinite(inverse) & (inverse >= 0)
        scale = jnp.sqrt(jnp.where(live, inverse, 0))

    def apply(vector: Array) -> Array:
        return scale * ravel_pytree(matvec(unravel(scale * vector)))[0]

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

    starts = jax.vmap(lambda member: ravel_pytree(member)[0])(start)
    unknown = jnp.full((count,), jnp.nan, flat.dtype)
    carry = (unknown, starts, unknown, jnp.zeros((), jnp.int32))
    values, vectors, residuals, spent = lax.while_loop(unfinished, search, carry)
    return EigenPair(values, jax.vmap(unravel)(vectors), residuals, spent, jnp.sum(~live))


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

    def orthogonalised(basis: Array, vector: Array) -> Array:
        for _ in range(2):  # twice is enough (Giraud, Langou, Rozloznik 2005)
            vector = vector - (basis @ vector) @ basis
        return vector

    def unit_or_zero(vector: Array, floor: Array | float) -> tuple[Array, Array]:
        norm = _norm(vector)
        good = jnp.isfinite(norm) & (norm > floor)
        return jnp.where(good, vector / jnp.where(good, norm, 1), 0), good

    def random_unit(index: Array | int) -> Array:
        normal = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (dimension,), dtype=dtype)
        return unit_or_zero(jnp.where(live, normal, 0), 0.0)[0]

    def added(basis: Array, index: Array | int, candidate: Array, floor: Array | float) -> Array:
        """The basis with `candidate` as its vector number `index`; a random direction where that is too
        small."""
        direction, good = unit_or_zero(orthogonalised(basis, candidate), floor)
        direction = lax.cond(good, lambda: direction, lambda: orthogonalised(basis, random_unit(index)))
        # Normalising magnifies what is left of the other directions when little is left: orthogonalise once more.
        # What is then below sqrt(eps) was rounding: the basis already spans every live direction.
        direction, _ = unit_or_zero(orthogonalised(basis, direction), jnp.sqrt(epsilon))
        return lax.dynamic_update_index_in_dim(basis, direction, index, 0)

    basis = jnp.zeros((capacity + count, dimension), dtype)  # the last `count` rows are written and never used
    for index in range(count):
        begun, _ = unit_or_zero(jnp.where(live, starts[index], 0), 0.0)
        stirred = begun + STIR * random_unit(capacity + index)
        basis = added(basis, index, stirred, 10 * STIR * jnp.sqrt(epsilon))

    def extend(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, images = carry
        image = apply(basis[index])
        images = lax.dynamic_update_index_in_dim(images, image, index, 0)
        # A candidate smaller than rounding in the product itself says nothing about the operator any more.
        floor = 10 * epsilon * _norm(image)
        return added(basis, index + count, image, floor), images

    basis, images = lax.fori_loop(0, size, extend, (basis, jnp.zeros((capacity, dimension), dtype)))
    basis = jnp.where(jnp.arange(capacity)[:, None] < size, basis[:capacity], 0)
    inside = jnp.linalg.norm(basis, axis=1) > 0.5
    projected = basis @ images.T
    projected = 0.5 * (projected + projected.T)
    # In units of its largest entry, so that a tiny operator is resolved like any other.
    unit = _largest(projected)
    projected = projected / unit
    # Unused rows are zero; move their eigenvalues below all others, else they would beat a negative spectrum.
    below = -1 - 2 * jnp.linalg.norm(projected)
    values, weights = jnp.linalg.eigh(projected + jnp.diag(jnp.where(inside, 0, below)))
    values, weights = unit * values[::-1][:count], weights[:, ::-1][:, :count].T
    vectors, products = weights @ basis, weights @ images
    error = jax.vmap(_norm)(products - values[:, None] * vectors)
    residuals = jnp.where(error == 0, 0, error / jnp.abs(values))
    exists = jnp.arange(count) < jnp.sum(inside)
    return jnp.where(exists, values, jnp.nan), vectors, jnp.where(exists, residuals, jnp.nan)


def _largest(array: Array) -> Array:
    """The largest absolute entry; 1 for zeros."""
    largest = jnp.max(jnp.abs(array))
    return jnp.where(largest == 0, 1, largest)


def _norm(vector: Array) -> Array:
    """The Euclidean norm without squaring numbers that underflow: a residual that vanishes must have vanished."""
    largest = _largest(vector)
    return largest * jnp.linalg.norm(vector / largest)
