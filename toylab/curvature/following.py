"""Top eigenpairs followed from one point of a run to the next: one product each where that is enough."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature.eigenpairs import EigenPair, flattened
from toylab.curvature.orthonormal import added, norm, random_unit, ritz

PyTree = Any

LOOKOUT = 16  # every so many calls the first pair that is not followed, the lookout, is brought up to date
LOOKS = 4  # products spent on that: a quarter of a product a call
STIRRED = 1e-2  # random part mixed into the lookout, so that it leaves an eigenvector that is not the next one
SAFETY = 2  # on the estimate of a value's error, which takes the distance to the next eigenvalue from the lookout


class Track(NamedTuple):
    """What is remembered between calls of `follow`: flat vectors in the order of `ravel_pytree`, all zero at first.

    `vectors`, `before`, `earlier` (k, p): the next start's basis, and the ones of the two calls before; `lookout` (p,),
    `level` (): the next eigenvector and its value when last looked at; `active` (): how many pairs are followed;
    `count` (): calls so far.
    """

    vectors: Array
    before: Array
    earlier: Array
    lookout: Array
    level: Array
    active: Array
    count: Array


class _Search(NamedTuple):
    """An orthonormal basis (c, p), its products and V^T A V, with the Ritz pairs of the top k + 1 and their errors."""

    basis: Array
    images: Array
    projected: Array
    size: Array
    spent: Array
    values: Array
    vectors: Array
    products: Array
    errors: Array


def begin_track(params: PyTree, count: int) -> Track:
    """The memory before the first call of `follow` for `count` eigenpairs on vectors like `params`.

    Raises ValueError if there are not that many, or fewer than one is asked for.
    """
    flat, _ = ravel_pytree(params)
    if not 1 <= count <= flat.size:
        raise ValueError(f"begin_track: got {count} eigenpairs in {flat.size} dimensions: ask for 1 to {flat.size}")
    nothing, zero = jnp.zeros((count, flat.size), flat.dtype), jnp.zeros((), jnp.int32)
    return Track(nothing, nothing, nothing, nothing[0], jnp.zeros((), flat.dtype), zero + 1, zero)


def follow(
    matvec: Callable[[PyTree], PyTree],
    track: Track,
    like: PyTree,
    *,
    inverse_preconditioner: PyTree = None,
    tolerance: float = 1e-3,
    limit: int = 96,
    above: float | Array | None = None,
) -> tuple[EigenPair, Track]:
    """The k largest eigenvalues of A = H or P^-1/2 H P^-1/2 on a slowly moving H, and the memory for the next call.

    `matvec`: v -> H v on pytrees like `like`; `inverse_preconditioner` as in `top_eigenpairs`. Rayleigh-Ritz on a basis
    that first holds one vector for each pair, predicted from the last calls, and then grows by the residual of the
    worst pair until twice the *estimated relative error of each value* is at most `tolerance` or k * `limit` products
    are spent. The estimate is the smaller of residual and residual^2 / relative distance to the next eigenvalue. So
    where the prediction is good each pair costs one product a call; a jump, or a first call, costs a longer search in
    the same loop. `converged` says for each pair whether the estimate met the tolerance; `residual` is exact.

    The eigenvalue after the last one followed is the lookout: in calls 0, 16, 32, ... four products are spent on it,
    and if it has overtaken, it takes its place among the followed. An eigenvector of which the memory knows nothing
    enters through the random part of the lookout. Tested: a crossing is seen at the next lookout (within 16 calls),
    an eigenvalue 5 per cent above that comes from nowhere within 64. In at most 2k + 6 dimensions a full basis is used:
    then exact. The sign of each vector follows the last call's.

    With `above`, only the pairs with value > above are followed, with one more to see the next coming; values,
    residuals and vectors of the others are NaN, NaN and 0, and cost nothing.

    Pure, for jit, scan and vmap, one product in the program; under vmap the loop runs as long as its slowest member.
    Cost beside the products: about (8 + 2k) (2k + 6) p multiplications each. Source: Davidson's method without a
    preconditioner, restarted with the top Ritz vectors (Morgan & Scott, SIAM J. Sci. Stat. Comput. 7 (1986) 817); the
    correction for the next start is Rayleigh-Schroedinger perturbation theory to first order, with the lookout's value
    for its direction and zero for all others.
    """
    _, unravel = ravel_pytree(like)
    apply, live = flattened(matvec, like, inverse_preconditioner)
    count, dimension = track.vectors.shape
    dtype = track.vectors.dtype
    capacity = min(dimension, 2 * count + 6)
    everything, few = capacity == dimension, min(count + 1, capacity)
    rounding = 10 * jnp.finfo(dtype).eps
    starts = jnp.where(live[None], _predicted(track), 0)
    first = jnp.asarray(count, jnp.int32) if above is None else jnp.minimum(track.active, count)
    looking = (track.count % LOOKOUT == 0) & (not everything)
    least = dimension if everything else first + jnp.where(looking, LOOKS, 0)
    lookout = lax.cond(
        looking, lambda: track.lookout + STIRRED * random_unit(track.count, live, dtype), lambda: track.lookout
    )

    def wanted(values: Array) -> Array:
        """How many pairs must be accurate."""
        if above is None:
            return jnp.asarray(count, jnp.int32)
        return jnp.minimum(count, 1 + jnp.sum(values[:count] > above)).astype(jnp.int32)

    def relative(values: Array, vectors: Array, products: Array) -> Array:
        rest = jax.vmap(norm)(products - values[:, None] * vectors)
        return jnp.where(rest == 0, 0, rest / jnp.abs(values))

    def estimated(values: Array, residuals: Array) -> Array:
        """The relative error of each value (k,), 0 for pairs that nobody wants and infinite for one not yet there."""
        last = few - 1 if above is None else jnp.minimum(wanted(values) - 1 + (values[count - 1] > above), few - 1)
        following = values[last] if few > count or above is not None else -jnp.inf
        following = jnp.fmax(jnp.where(looking | (first < count), -jnp.inf, track.level), following)
        gap = jnp.maximum(values - following, 0)[:count] / jnp.abs(values[:count])
        residuals = residuals[:count]
        second = jnp.where(gap > 0, residuals**2 / jnp.where(gap > 0, gap, 1), jnp.inf)
        apart = (gap > 0) & jnp.isfinite(following)
        errors = jnp.where(apart, jnp.minimum(residuals, second), residuals)
        needed = jnp.arange(count) < wanted(values)
        if above is not None:  # of the one more it is enough to know that it is below
            needed &= ~(values[:count] <= above)
        return jnp.where(needed, SAFETY * errors, 0)

    def candidate(now: _Search) -> Array:
        residuals = now.products - now.values[:, None] * now.vectors
        worst = jnp.argmax(jnp.where(jnp.isnan(now.errors), jnp.inf, now.errors))
        at_lookout = looking & (now.spent < first + LOOKS)
        aim = jnp.where(at_lookout, few - 1, worst)
        begun = jnp.where(now.spent < first, starts[jnp.clip(now.spent, 0, count - 1)], lookout)
        return jnp.where((now.spent < first) | (at_lookout & (now.spent == first)), begun, residuals[aim])

    def shrunk(basis: Array, images: Array, projected: Array, size: Array) -> tuple[Array, Array, Array, Array]:
        """The basis turned to its top Ritz vectors: costs no product."""
        values, rows = ritz(projected, jnp.arange(capacity) < size)
        keep = jnp.arange(capacity) < count + 2
        rows = jnp.where(keep[:, None], rows, 0)
        return rows @ basis, rows @ images, jnp.diag(jnp.where(keep, values, 0)), jnp.full_like(size, count + 2)

    def expanded(now: _Search) -> _Search:
        new = candidate(now)
        if not everything:
            full = (now.basis, now.images, now.projected, now.size)
            full = lax.cond(now.size == capacity, shrunk, lambda *same: same, *full)
            now = now._replace(**dict(zip(("basis", "images", "projected", "size"), full, strict=True)))
        at_start = now.spent <= first
        # a residual smaller than rounding in the product itself says nothing about the operator any more
        floor = jnp.where(at_start, 0.0, rounding * norm(now.images[jnp.maximum(now.size - 1, 0)]))
        basis = added(now.basis, now.size, new, floor, live, now.spent)
        image = apply(basis[now.size])
        images = lax.dynamic_update_index_in_dim(now.images, image, now.size, 0)
        row = basis @ image
        projected = now.projected.at[now.size].set(row).at[:, now.size].set(row)
        inside = jnp.sum(basis * basis, axis=1) > 0.25
        values, rows = ritz(projected, inside)
        values = jnp.where(jnp.arange(few) < jnp.sum(inside), values[:few], jnp.nan)
        vectors, products = rows[:few] @ basis, rows[:few] @ images
        errors = estimated(values, relative(values, vectors, products))
        return _Search(basis, images, projected, now.size + 1, now.spent + 1, values, vectors, products, errors)

    def unfinished(now: _Search) -> Array:
        missing = jnp.isnan(now.errors) & (jnp.arange(count) >= now.size)  # wanted, and the basis is too small for it
        more = jnp.any((now.errors > tolerance) | missing) & (now.spent < limit * count)
        return ((now.spent < least) | more) & ((now.size < dimension) | (not everything))

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    none, nan = jnp.zeros((), jnp.int32), jnp.full((few,), jnp.nan, dtype)
    begun = _Search(
        zeros(capacity, dimension), zeros(capacity, dimension), zeros(capacity, capacity), none, none,
        nan, zeros(few, dimension), zeros(few, dimension), nan[:count],
    )  # fmt: skip
    found = lax.while_loop(unfinished, expanded, begun)
    shown = jnp.ones(count, bool) if above is None else found.values[:count] > above
    sign = jnp.where(jnp.sum(found.vectors[:count] * starts, axis=1) < 0, -1, 1).astype(dtype)[:, None]
    top, images = sign * found.vectors[:count], sign * found.products[:count]
    residuals = relative(found.values, found.vectors, found.products)[:count]
    pairs = EigenPair(
        jnp.where(shown, found.values[:count], jnp.nan),
        jax.vmap(unravel)(jnp.where(shown[:, None], top, 0)),
        jnp.where(shown, residuals, jnp.nan),
        found.spent,
        jnp.sum(~live),
        shown & (found.errors <= tolerance) & jnp.isfinite(found.values[:count]),
    )
    known = jnp.isfinite(found.values[few - 1]) & looking & (few > count)
    kept = track._replace(
        vectors=_corrected(top, images, found.values[:count], track),
        before=track.vectors,
        earlier=track.before,
        lookout=jnp.where(known, found.vectors[few - 1], track.lookout),
        level=jnp.where(known, found.values[few - 1], track.level),
        active=wanted(found.values),
        count=track.count + 1,
    )
    return pairs, kept


def _predicted(track: Track) -> Array:
    """The next vectors (k, p) from the last three: v2 + a (v1 - v2), where a is what would have predicted v1 best from
    v2 and v3. a = 0 repeats the one before the last (an oscillation of period two), 1 the last, 2 goes on in a line."""
    last, before = track.vectors - track.earlier, track.before - track.earlier
    square = jnp.sum(before * before, axis=1)
    share = jnp.sum(last * before, axis=1) / jnp.where(square > 0, square, 1)
    share = jnp.where((square > 0) & (track.count > 2), jnp.clip(share, 0, 2), 1)[:, None]
    return share * track.vectors + (1 - share) * track.before


def _corrected(vectors: Array, images: Array, values: Array, track: Track) -> Array:
    """What the residual says about the vectors (k, p) without a further product."""
    rest = images - values[:, None] * vectors
    part = rest @ track.lookout
    gap = jnp.where(values > track.level, values - track.level, jnp.inf)
    slow = jnp.clip(part / gap, -0.2, 0.2)  # beyond that first order is no guide
    fast = (rest - part[:, None] * track.lookout[None]) / jnp.where(values > 0, values, jnp.inf)[:, None]
    better = vectors + fast + slow[:, None] * track.lookout[None]
    better = better / jnp.where(values > 0, jnp.linalg.norm(better, axis=1), 1)[:, None]
    return jnp.where(jnp.isfinite(better).all(axis=1, keepdims=True), better, vectors)
