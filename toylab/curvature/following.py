"""Top eigenpairs followed from one point of a run to the next: one product each where that is enough.

The file is long because it is one algorithm, whose parts (start, correction, search, lookout) share one memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature.eigenpairs import EigenPair, flattened
from toylab.curvature.orthonormal import random, ritz
from toylab.numerics.full_precision import fully_precise

PyTree = Any

LOOKOUT = 16  # every so many calls the first pair that is not followed, the lookout, is brought up to date
LOOKS = 4  # products spent on that: a quarter of a product a call
SPARE = 4  # vectors that a search keeps beyond those it is after
RANDOM_PART = 5e-2  # random part mixed into the lookout, so that it leaves an eigenvector that is not the next one


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


class _SearchResult(NamedTuple):
    """Ritz pairs, descending: `values` (n,) and `vectors` (n, p), `rests` (n, p) their A v - value v; rows that are not
    there hold a value that is not finite and zeros. `residuals` (k,) relative, `errors` (k,) as estimated, 0 where
    nobody asks; `spent` products."""

    values: Array
    vectors: Array
    rests: Array
    residuals: Array
    errors: Array
    spent: Array


class _Search(NamedTuple):
    """A search under way: the basis (m, p), orthonormal in its first `size` rows and zero in the others, its products
    `images`, V^T A V in the lower triangle of `projected`; the Ritz values (m,) and their `weights` (m, m), one row
    each, in that basis; of the first k + 1 of them `vectors` and `rests` (k + 1, p); the others as in
    `_SearchResult`."""

    basis: Array
    images: Array
    projected: Array
    size: Array
    values: Array
    weights: Array
    vectors: Array
    rests: Array
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


@fully_precise
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
    in the first call. `converged` says for each pair whether the estimate met the tolerance; `residual` is exact. The
    distance is as old as the lookout's last look, so where the next eigenvalue comes near, the estimate can be too
    small. Measured on a tanh network of 3466 weights in its plateau, where the first two eigenvalues are 0.1 to 5 per
    cent apart, at tolerance 1e-3: gradient descent, k = 1: 3 per cent of the values off by more, none by more than
    2.1e-3; k = 2: none. Adam, k = 1: 1 per cent, none by more than 1.2e-3; k = 2: 3 per cent, none by more than 1.8e-2.

    The eigenvalue after the last one followed is the lookout: in calls 0, 16, 32, ... four products are spent on it,
    and if it has overtaken, it takes its place among the followed. An eigenvector of which the memory knows nothing
    enters through the random part of the lookout. Tested: a crossing is seen at the next lookout (within 16 calls,
    until then the value is that of an eigenvalue which is no longer the largest), an eigenvalue 5 per cent above that
    comes from nowhere within 64. In at most 2k + 6 dimensions the matrix is made and diagonalised: then exact. The sign
    of each vector follows the last call's.

    With `above`, only the pairs with value > above are followed, with one more to see the next coming; values,
    residuals and vectors of the others are NaN, NaN and 0, and cost nothing.

    Pure, for jit, scan and vmap, one product in the program; under vmap the loop runs as long as its slowest run.
    Cost beside the products: about 3 (k + 5) p multiplications for each, 2 k^2 p more where one a pair is enough, and
    2 (k + 1) (k + 5) p more for each one beyond that. Source: Davidson's method without a
    preconditioner, restarted at every step with the top Ritz vectors (Morgan & Scott, SIAM J. Sci. Stat. Comput. 7
    (1986) 817); the correction for the next start is Rayleigh-Schroedinger perturbation theory to first order, with the
    lookout's value for its direction and zero for all others.
    """
    _, unravel = ravel_pytree(like)
    apply, live = flattened(matvec, like, inverse_preconditioner)
    count, dimension = track.vectors.shape
    everything = dimension <= 2 * count + 6
    least = -jnp.inf if above is None else above
    looking = track.count % LOOKOUT == 0
    begins = _begins(track, live, looking)
    if everything:
        result = _dense(apply, live, begins)
    else:
        first = jnp.asarray(count, jnp.int32) if above is None else track.active
        looks = jnp.where(looking, LOOKS, 0)
        result = _searched(apply, track, begins, live, first, looks, least, tolerance, limit * count)
    values = result.values[:count]
    shown = values > least
    sign = jnp.where(_dots(result.vectors[:count], begins[:count]) < 0, -1, 1).astype(values.dtype)[:, None]
    top = sign * result.vectors[:count]
    pairs = EigenPair(
        jnp.where(shown, values, jnp.nan),
        jax.vmap(unravel)(jnp.where(shown[:, None], top, 0)),
        jnp.where(shown, result.residuals[:count], jnp.nan),
        result.spent,
        jnp.sum(~live),
        shown & (result.errors[:count] <= tolerance),
    )
    if everything:
        return pairs, track._replace(vectors=top, count=track.count + 1)
    known = looking & jnp.isfinite(result.values[count])
    kept = Track(
        vectors=_corrected(top, sign * result.rests[:count], values, result.residuals, track),
        before=track.vectors,
        earlier=track.before,
        lookout=jnp.where(known, result.vectors[count], track.lookout),
        level=jnp.where(known, result.values[count], track.level),
        active=jnp.minimum(1 + jnp.sum(shown), count).astype(jnp.int32),
        count=track.count + 1,
    )
    return pairs, kept


def _searched(
    apply: Callable[[Array], Array],
    track: Track,
    begins: Array,
    live: Array,
    first: Array,
    looks: Array,
    above: float | Array,
    tolerance: float,
    limit: int,
) -> _SearchResult:
    """Davidson's method; a full basis is cut back to its best count + SPARE Ritz vectors.

    Tried first are `first` of the starts (k + 1, p) in `begins`; then, if `looks` > 0, its last row and what that
    leaves as residual, `looks` products in all; then the residual of the worst pair.
    """
    count, dimension = track.vectors.shape
    dtype, kept, rows = begins.dtype, count + SPARE, count + SPARE + 1
    rounding = 10 * jnp.finfo(dtype).eps
    level = jnp.where((looks > 0) | (first < count), -jnp.inf, track.level)
    places = jnp.arange(rows)

    def expanded(search: _Search) -> _Search:
        search = lax.cond(search.size == rows, restarted, lambda full: full, search)
        given = (search.spent < first) | ((search.spent == first) & (looks > 0))
        aim = jnp.where(search.spent < first + looks, count, jnp.argmax(search.errors))
        index = jnp.where(search.spent < first, search.spent, count)
        candidate = jnp.where(given, begins[index], search.rests[aim])
        # a residual smaller than rounding in the product itself says nothing about the operator any more
        floor = jnp.where(given, 0, rounding * jnp.abs(search.values[0]))
        seed = jnp.where(given, index + (count + 1) * track.count, -1)
        new = _direction(search.basis, candidate, search.size, floor, seed, live)
        basis = lax.dynamic_update_index_in_dim(search.basis, new, search.size, 0)
        images = lax.dynamic_update_index_in_dim(search.images, apply(new), search.size, 0)
        projected = lax.dynamic_update_index_in_dim(search.projected, images @ new, search.size, 0)
        size = search.size + jnp.any(new != 0)
        grown = search._replace(basis=basis, images=images, projected=projected, size=size, spent=search.spent + 1)
        # where all goes well the starts are all there is: few rows, and the eigenproblem is solved once
        stage = jnp.clip(grown.spent - first + 1, 0, 2)
        return lax.switch(stage, (lambda search: search, partial(solved, count), partial(solved, rows)), grown)

    def solved(filled: int, search: _Search) -> _Search:
        """With the Ritz pairs of the basis as it is at present, zero beyond its first `filled` rows."""
        inside, wanted = places[:filled] < search.size, min(filled, count + 1)
        ritz_values, combined = ritz(search.projected[:filled, :filled], inside)
        values = unknown.at[:filled].set(jnp.where(inside, ritz_values, -jnp.inf))
        weights = square.at[:filled, :filled].set(combined)
        some = jnp.where(values[:wanted] > -jnp.inf, values[:wanted], 0)[:, None]
        best = combined[:wanted] @ search.basis[:filled]
        left = combined[:wanted] @ search.images[:filled] - some * best
        vectors, rests = (jnp.pad(part, ((0, count + 1 - wanted), (0, 0))) for part in (best, left))
        residuals = _residuals(values[:count], rests)
        after = jnp.sum(values[:count] > above)  # the first pair that need not be accurate
        gap = (values[:count] - jnp.fmax(level, values[after])) / jnp.abs(values[:count])
        apart = (gap > 0) & (gap < jnp.inf) & (track.count > 0)
        estimates = jnp.where(apart, jnp.minimum(residuals, residuals**2 / jnp.where(apart, gap, 1)), residuals)
        errors = jnp.where(jnp.arange(count) < jnp.maximum(after, 1), estimates, 0)
        return search._replace(
            values=values, weights=weights, vectors=vectors, rests=rests, residuals=residuals, errors=errors
        )

    def restarted(search: _Search) -> _Search:
        """The same Ritz pairs, the best of them as the basis."""
        best = jnp.where(places[:, None] < kept, search.weights, 0)
        return search._replace(
            basis=best @ search.basis,
            images=best @ search.images,
            projected=jnp.diag(jnp.where(places < kept, search.values, 0)),
            size=jnp.asarray(kept, jnp.int32),
        )

    def unfinished(search: _Search) -> Array:
        return (search.spent < first + looks) | (jnp.any(search.errors > tolerance) & (search.spent < limit))

    nothing, square = jnp.zeros((rows, dimension), dtype), jnp.zeros((rows, rows), dtype)
    unknown, zero = jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((), jnp.int32)
    none, short = nothing[: count + 1], unknown[:count]
    start = _Search(nothing, nothing, square, zero, unknown, square, none, none, short, short, zero)
    end = lax.while_loop(unfinished, expanded, start)
    return _SearchResult(end.values, end.vectors, end.rests, end.residuals, end.errors, end.spent)


def _dense(apply: Callable[[Array], Array], live: Array, like: Array) -> _SearchResult:
    """The eigenpairs of the whole matrix."""
    matrix = jax.vmap(apply)(jnp.eye(live.size, dtype=like.dtype))
    values, vectors = ritz(matrix, live)
    values = jnp.where(jnp.arange(live.size) < jnp.sum(live), values, -jnp.inf)
    rests = vectors @ matrix - jnp.where(values > -jnp.inf, values, 0)[:, None] * vectors
    spent = jnp.asarray(live.size, jnp.int32)
    return _SearchResult(values, vectors, rests, _residuals(values, rests), jnp.zeros_like(values), spent)


def _residuals(values: Array, rests: Array) -> Array:
    """|A v - value v| / |value| for each value (n,), from the first n rows of what is under the bars."""
    length = jnp.sqrt(_dots(rests[: values.size], rests[: values.size]))
    return jnp.where(length == 0, 0, length / jnp.abs(values))


def _direction(basis: Array, candidate: Array, size: Array, floor: Array, seed: Array, live: Array) -> Array:
    """The unit vector along what `candidate` has outside the span of `basis`, orthonormal in the first `size` rows and
    zero in the others; zero where that is not longer than `floor` or not finite.

    With `seed` >= 0 the pseudo-random vector of that seed stands for a candidate that is zero or not finite.
    """
    within = basis @ candidate
    squared = candidate @ candidate
    beyond = squared - within @ within

    def easy() -> Array:
        return (candidate - within @ basis) / jnp.sqrt(beyond)

    def hard() -> Array:
        usable = (seed < 0) | ((squared > 0) & (squared < jnp.inf))
        vector = jnp.where(usable, candidate, random(seed, live, basis.dtype))
        for least in (floor, 0.1):  # twice is enough (Giraud, Langou, Rozloznik 2005)
            vector = vector - (basis @ vector) @ basis
            length = jnp.sqrt(vector @ vector)
            vector = jnp.where((length > least) & (length < jnp.inf), vector / length, 0)
        return vector

    # and once is enough where at least half of the square is left (Daniel, Gragg, Kaufman & Stewart 1976)
    simple = (2 * beyond > squared) & (beyond > floor**2) & (squared < jnp.inf)
    return lax.cond(simple, easy, hard)


def _predicted(track: Track) -> Array:
    """The next vectors (k, p) from the last three: v2 + a (v1 - v2), where a is what would have predicted v1 best from
    v2 and v3. a = 0 repeats the one before the last (an oscillation of period two), 1 the last, 2 goes on in a line."""
    last, before = track.vectors - track.earlier, track.before - track.earlier
    share = _dots(last, before) / _dots(before, before)
    share = jnp.where((track.count > 2) & jnp.isfinite(share), jnp.clip(share, 0, 2), 1)[:, None]
    return share * track.vectors + (1 - share) * track.before


def _begins(track: Track, live: Array, looking: Array) -> Array:
    """What a search may begin with (k + 1, p): the predicted vectors, and the lookout, if it is to be looked at with a
    random part, so that it leaves an eigenvector that is not the next one. Zero or not finite where nothing is known.
    """
    count = len(track.vectors)
    seed = count + (count + 1) * track.count

    def with_random_part() -> Array:
        return track.lookout + RANDOM_PART * random(seed, live, track.lookout.dtype)

    lookout = lax.cond(looking, with_random_part, lambda: track.lookout)
    return jnp.where(live[None], jnp.vstack([_predicted(track), lookout]), 0)


def _dots(first: Array, second: Array) -> Array:
    """The scalar product of each row (n, p) with the other's."""
    return jnp.einsum("ij,ij->i", first, second)


def _corrected(vectors: Array, rests: Array, values: Array, residuals: Array, track: Track) -> Array:
    """What the residuals `rests` (k, p) say about the vectors (k, p) without a further product; the last call's where
    there was none. The length is 1 up to the share of the lookout in the vectors."""
    part = rests @ track.lookout
    gap = jnp.where(values > track.level, values - track.level, jnp.inf)
    slow = jnp.clip(part / gap, -0.2, 0.2)  # beyond that first order is no guide
    positive = jnp.where(values > 0, values, jnp.inf)
    along = slow - part / positive
    size = jnp.sqrt(1 + jnp.where(values > 0, residuals, 0) ** 2 + slow**2 - (part / positive) ** 2)
    better = (vectors + rests / positive[:, None] + along[:, None] * track.lookout[None]) / size[:, None]
    better = jnp.where((size < jnp.inf)[:, None], better, vectors)
    return jnp.where(jnp.isfinite(values)[:, None], better, track.vectors)
