"""Top eigenpairs followed from one point of a run to the next: one product each where that is enough."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature.eigenpairs import EigenPair, flattened
from toylab.curvature.orthonormal import random, ritz

PyTree = Any

LOOKOUT = 16  # every so many calls the first pair that is not followed, the lookout, is brought up to date
LOOKS = 4  # products spent on that: a quarter of a product a call
SPARE = 4  # vectors that a search keeps beyond those it is after
STIRRED = 5e-2  # random part mixed into the lookout, so that it leaves an eigenvector that is not the next one


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


class _Found(NamedTuple):
    """Ritz pairs, descending: `values` (m,), `vectors` (m, p) and their products `images` (m, p); rows that are not
    there hold a value that is not finite and zeros. `residuals` (k,) relative, `errors` (k,) as estimated, 0 where
    nobody asks; `spent` products."""

    values: Array
    vectors: Array
    images: Array
    residuals: Array
    errors: Array
    spent: Array


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

    `matvec`: v -> H v on pytrees like `like`; `inverse_preconditioner` as in `top_eigenpairs`. Rayleigh-Ritz on a
    basis that first holds one vector for each pair, predicted from the last calls, and then grows by the residual of
    the worst pair until the *estimated relative error of each value* is at most `tolerance` or k * `limit` products
    are spent. So where the prediction is good each pair costs one product a call; a jump, or a first call, costs a
    longer search in the same loop. The estimate is the smaller of residual and residual^2 / relative distance to the
    next eigenvalue, a bound (Kato and Temple) if that distance is known; it is taken from the lookout, and not used
    in the first call. `converged` says for each pair whether the estimate met the tolerance; `residual` is exact.

    The eigenvalue after the last one followed is the lookout: in calls 0, 16, 32, ... four products are spent on it,
    and if it has overtaken, it takes its place among the followed. An eigenvector of which the memory knows nothing
    enters through the random part of the lookout. Tested: a crossing is seen at the next lookout (within 16 calls,
    until then the value is that of an eigenvalue which is no longer the largest), an eigenvalue 5 per cent above that
    comes from nowhere within 64. In at most 2k + 6 dimensions the matrix is made and diagonalised: then exact. The sign
    of each vector follows the last call's.

    With `above`, only the pairs with value > above are followed, with one more to see the next coming; values,
    residuals and vectors of the others are NaN, NaN and 0, and cost nothing.

    Pure, for jit, scan and vmap, one product in the program; under vmap the loop runs as long as its slowest member.
    Cost beside the products: about 4 (k + 5)^2 p multiplications each. Source: Davidson's method without a
    preconditioner, restarted at every step with the top Ritz vectors (Morgan & Scott, SIAM J. Sci. Stat. Comput. 7
    (1986) 817); the correction for the next start is Rayleigh-Schroedinger perturbation theory to first order, with the
    lookout's value for its direction and zero for all others.
    """
    _, unravel = ravel_pytree(like)
    apply, live = flattened(matvec, like, inverse_preconditioner)
    count, dimension = track.vectors.shape
    everything = dimension <= 2 * count + 6
    least = -jnp.inf if above is None else above
    begins = _begins(track, live)
    looking = track.count % LOOKOUT == 0
    if everything:
        found = _dense(apply, live, begins)
    else:
        first = jnp.asarray(count, jnp.int32) if above is None else track.active
        looks = jnp.where(looking, LOOKS, 0)
        found = _searched(apply, track, begins, first, looks, least, tolerance, limit * count)
    values = found.values[:count]
    shown = values > least
    sign = jnp.where(_dots(found.vectors[:count], begins[:count]) < 0, -1, 1).astype(values.dtype)[:, None]
    top, images = sign * found.vectors[:count], sign * found.images[:count]
    pairs = EigenPair(
        jnp.where(shown, values, jnp.nan),
        jax.vmap(unravel)(jnp.where(shown[:, None], top, 0)),
        jnp.where(shown, found.residuals[:count], jnp.nan),
        found.spent,
        jnp.sum(~live),
        shown & (found.errors[:count] <= tolerance),
    )
    if everything:
        return pairs, track._replace(vectors=top, count=track.count + 1)
    known = looking & jnp.isfinite(found.values[count])
    kept = Track(
        vectors=_corrected(top, images, values, track),
        before=track.vectors,
        earlier=track.before,
        lookout=jnp.where(known, found.vectors[count], track.lookout),
        level=jnp.where(known, found.values[count], track.level),
        active=jnp.minimum(1 + jnp.sum(shown), count).astype(jnp.int32),
        count=track.count + 1,
    )
    return pairs, kept


def _searched(
    apply: Callable[[Array], Array],
    track: Track,
    begins: Array,
    first: Array,
    looks: Array,
    above: float | Array,
    tolerance: float,
    limit: int,
) -> _Found:
    """Davidson's method restarted at every step: the basis is always the best count + SPARE Ritz vectors.

    Tried first are `first` of the starts (k + 1, p) in `begins`; then, if `looks` > 0, its last row and what that
    leaves as residual, `looks` products in all; then the residual of the worst pair.
    """
    count, dimension = track.vectors.shape
    dtype, rows = begins.dtype, count + SPARE
    rounding = 10 * jnp.finfo(dtype).eps
    level = jnp.where((looks > 0) | (first < count), -jnp.inf, track.level)

    def expanded(now: _Found) -> _Found:
        given = (now.spent < first) | ((now.spent == first) & (looks > 0))
        aim = jnp.where(now.spent < first + looks, count, jnp.argmax(now.errors))
        residual = now.images[aim] - now.values[aim] * now.vectors[aim]
        candidate = jnp.where(given, begins[jnp.where(now.spent < first, now.spent, count)], residual)
        # a residual smaller than rounding in the product itself says nothing about the operator any more
        floor = jnp.where(given, 0, rounding * jnp.abs(now.values[0]))
        new = _normal_to(now.vectors, candidate, floor)
        vectors, images = jnp.vstack([now.vectors, new]), jnp.vstack([now.images, apply(new)])
        inside = jnp.append(now.values > -jnp.inf, jnp.any(new != 0))
        projected = jnp.diag(jnp.append(jnp.where(inside[:rows], now.values, 0), 0)).at[-1].set(images @ new)
        values, weights = ritz(projected, inside)
        values = jnp.where(jnp.arange(rows) < jnp.sum(inside), values[:rows], -jnp.inf)
        vectors, images = weights[:rows] @ vectors, weights[:rows] @ images
        residuals = _residuals(values[:count], vectors, images)
        after = jnp.sum(values[:count] > above)  # the first pair that need not be accurate
        gap = (values[:count] - jnp.fmax(level, values[after])) / jnp.abs(values[:count])
        apart = (gap > 0) & (gap < jnp.inf) & (track.count > 0)
        estimates = jnp.where(apart, jnp.minimum(residuals, residuals**2 / jnp.where(apart, gap, 1)), residuals)
        errors = jnp.where(jnp.arange(count) < jnp.maximum(after, 1), estimates, 0)
        return _Found(values, vectors, images, residuals, errors, now.spent + 1)

    def unfinished(now: _Found) -> Array:
        return (now.spent < first + looks) | (jnp.any(now.errors > tolerance) & (now.spent < limit))

    nothing, unknown = jnp.zeros((rows, dimension), dtype), jnp.full((rows,), -jnp.inf, dtype)
    begun = _Found(unknown, nothing, nothing, unknown[:count], unknown[:count], jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, expanded, begun)


def _dense(apply: Callable[[Array], Array], live: Array, like: Array) -> _Found:
    """The eigenpairs of the whole matrix."""
    matrix = jax.vmap(apply)(jnp.eye(live.size, dtype=like.dtype))
    values, vectors = ritz(matrix, live)
    values = jnp.where(jnp.arange(live.size) < jnp.sum(live), values, -jnp.inf)
    residuals = _residuals(values, vectors, vectors @ matrix)
    spent = jnp.asarray(live.size, jnp.int32)
    return _Found(values, vectors, vectors @ matrix, residuals, jnp.zeros_like(values), spent)


def _residuals(values: Array, vectors: Array, images: Array) -> Array:
    """|A v - value v| / |value| for each value (n,), of the first n rows."""
    values = jnp.where(values > -jnp.inf, values, 0)
    rest = images[: values.size] - values[:, None] * vectors[: values.size]
    length = jnp.sqrt(_dots(rest, rest))
    return jnp.where(length == 0, 0, length / jnp.abs(values))


def _normal_to(basis: Array, vector: Array, floor: Array) -> Array:
    """The unit vector along what `vector` has outside the span of the rows of `basis`, orthonormal or zero; zero where
    that is not longer than `floor` or not finite."""
    for least in (floor, 0.1):  # twice is enough (Giraud, Langou, Rozloznik 2005)
        vector = vector - (basis @ vector) @ basis
        length = jnp.sqrt(vector @ vector)
        vector = jnp.where((length > least) & (length < jnp.inf), vector / length, 0)
    return vector


def _predicted(track: Track) -> Array:
    """The next vectors (k, p) from the last three: v2 + a (v1 - v2), where a is what would have predicted v1 best from
    v2 and v3. a = 0 repeats the one before the last (an oscillation of period two), 1 the last, 2 goes on in a line."""
    last, before = track.vectors - track.earlier, track.before - track.earlier
    share = _dots(last, before) / _dots(before, before)
    share = jnp.where((track.count > 2) & jnp.isfinite(share), jnp.clip(share, 0, 2), 1)[:, None]
    return share * track.vectors + (1 - share) * track.before


def _begins(track: Track, live: Array) -> Array:
    """What a search may begin with (k + 1, p): the predicted vectors, random ones where none are known, and the lookout
    with a random part, so that it leaves an eigenvector that is not the next one."""
    count = len(track.vectors)
    known = jnp.where(live[None], jnp.vstack([_predicted(track), track.lookout]), 0)
    size = _dots(known, known)
    good = (size > 0) & (size < jnp.inf)
    part = jnp.where(good, jnp.where(jnp.arange(count + 1) < count, 0, STIRRED), 1)
    seeds = jnp.arange(count + 1) + (count + 1) * track.count
    noise = jax.vmap(lambda seed: random(seed, live, known.dtype))(seeds)
    return jnp.where(good[:, None], known, 0) + part[:, None] * noise


def _dots(first: Array, second: Array) -> Array:
    """The scalar product of each row (n, p) with the other's."""
    return jnp.einsum("ij,ij->i", first, second)


def _corrected(vectors: Array, images: Array, values: Array, track: Track) -> Array:
    """What the residual says about the vectors (k, p) without a further product."""
    rest = images - values[:, None] * vectors
    part = rest @ track.lookout
    gap = jnp.where(values > track.level, values - track.level, jnp.inf)
    slow = jnp.clip(part / gap, -0.2, 0.2)  # beyond that first order is no guide
    fast = (rest - part[:, None] * track.lookout[None]) / jnp.where(values > 0, values, jnp.inf)[:, None]
    better = vectors + fast + slow[:, None] * track.lookout[None]
    better = better / jnp.where(values > 0, jnp.sqrt(_dots(better, better)), 1)[:, None]
    return jnp.where((_dots(better, better) < jnp.inf)[:, None], better, vectors)
