"""Linear complementarity over the cone of positive semidefinite matrices: small, dense, inside `jit`.

The oscillation that holds k eigenvalues at an edge is a solution: X its covariance, A + B[X] the rate at which the
eigenvalues leave the edge, and each is positive only where the other vanishes.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.numerics.full_precision import fully_precise

STEPS = (1.0, 0.5, 0.1)
"""Fractions of a Newton step, of which the best is taken."""


class ComplementaritySolution(NamedTuple):
    """X (k, k), positive semidefinite, and how good it is.

    With Y = A + B[X], the `residual` () is the largest of -lambda_min(Y)/|A|, -lambda_min(X)/|X| and
    |<X, Y>|/(|X| |A|), in Frobenius norms on the active part: it does not change with the scales of A and B.
    `converged` () whether it is within the tolerance; `iterations` () of both phases together.
    """

    X: Array
    residual: Array
    iterations: Array
    converged: Array


class _Interior(NamedTuple):
    """The pair X, Y of positive definite matrices (k, k), whether to go on, iterations."""

    X: Array
    Y: Array
    going: Array
    count: Array


class _Smoothed(NamedTuple):
    """The eigenvalues and eigenvectors of Z, the smoothing mu, the best X so far and its defect, iterations."""

    values: Array
    vectors: Array
    mu: Array
    best: Array
    defect: Array
    count: Array


@fully_precise
def solve_complementarity(
    A: Array, B: Array, active: Array | None = None, *, tolerance: ArrayLike | None = None, limit: int = 60
) -> ComplementaritySolution:
    """The positive semidefinite X with Y = A + B[X] positive semidefinite and <X, Y> = 0.

    A (k, k) symmetric; B (k, k, k, k) with B[X]_ab = sum_cd B_abcd X_cd, of which the part is read that is symmetric in
    ab, in cd and under their exchange; its quadratic form B[X, X] must not be negative.  The solutions are then the
    minimisers of B[X, X]/2 + <A, X> over the cone.  Where B has a null space X need not be unique, and one of them is
    returned; B[X] is unique.  There is none if that form has no minimum, as for B = 0 and a negative direction of A:
    then, as after `limit` iterations or where the rounding of B[X] is more than the tolerance, because X is huge for
    |A|/|B|, a finite X comes back with `converged` False.

    `active` (k,) bool: all other rows and columns, whatever they hold, are left out, and X is zero there.
    `tolerance`: the residual at which to stop, by default 1000 eps of the dtype, which is A's.

    X = 0 exactly where A is positive semidefinite to the tolerance; k = 1 is solved in closed form.  Otherwise a
    primal-dual interior point method (direction of Nesterov and Todd, predictor and corrector of Mehrotra) comes near,
    and Newton's method on a smoothed equation finishes.  There X and Y are the positive and the negative part of one
    matrix Z, complementary as they stand, and Y = A + B[X] is what is left to solve; the smoothing, XY = mu instead of
    XY = 0, goes to zero with the error.  So X gets its true rank, and a degenerate solution, where X and Y vanish on
    the same direction, costs no digits.  About 8 to 25 iterations of a few (k, k) eigendecompositions and one linear
    system of k(k + 1)/2 unknowns each.  Can be jitted, vmapped and scanned; forward differentiation only.

    Sources: Todd, Toh, Tutuncu, SIAM J. Optim. 8 (1998) 769, for the direction; Chen, Tseng, Math. Program. 95 (2003)
    431, for the smoothing on matrices.
    """
    A, B = jnp.asarray(A), jnp.asarray(B)
    k = A.shape[0]
    tolerance = 1000 * float(jnp.finfo(A.dtype).eps) if tolerance is None else tolerance
    active = jnp.ones(k, bool) if active is None else active
    inside = active[:, None] & active[None]
    A = jnp.where(inside, (A + A.T) / 2, 0)
    form = _packed_form(jnp.where(inside[:, :, None, None] & inside[None, None], B, 0))
    size, strength = _size(A), _size(form)
    A, form = A / size, form / strength
    if k == 1:
        slope = form[0, 0]
        X = jnp.where(slope > 0, jnp.maximum(-A, 0) / jnp.where(slope > 0, slope, 1), 0)
        count = jnp.zeros((), jnp.int32)
    else:
        # a row that is not active becomes a problem of its own, with the solution X = 0, Y = 1
        X, count = _solved(A + jnp.diag(jnp.where(active, 0, 1).astype(A.dtype)), form, tolerance, limit)
        X = jnp.where(inside, X, 0)
    residual = _residual(A, form, X)
    return ComplementaritySolution(X * (size / strength), residual, count, residual <= tolerance)


def _solved(A: Array, form: Array, tolerance: ArrayLike, limit: int) -> tuple[Array, Array]:
    """X (k, k) and iterations, for A and B of size one."""
    zero = jnp.zeros_like(A)
    within = tolerance / 2 * jnp.linalg.norm(A)  # the other half is for the rounding of B[X]
    lowest = jnp.linalg.eigvalsh(A)[0]
    pair = _interior(A, form, lowest < -within, limit)
    # The units in which X and Y are equally large: then Z holds the digits of both.
    ratio = jnp.linalg.norm(pair.X) / jnp.maximum(1, jnp.linalg.norm(pair.Y))
    values, vectors = jnp.linalg.eigh(pair.X - ratio * pair.Y)
    start = _Smoothed(values, vectors, ratio * _mu(pair.X, pair.Y), zero, jnp.maximum(-lowest, 0) * ratio, pair.count)
    ended = _smoothed(ratio * A, ratio * form, start, ratio * within, limit)
    return ended.best, ended.count


def _interior(A: Array, form: Array, going: Array, limit: int) -> _Interior:
    """X, Y > 0 with Y - A - B[X] and <X, Y> small: to the root of the rounding, or as far as it goes."""
    k = A.shape[0]
    one = jnp.eye(k, dtype=A.dtype)
    close = float(jnp.finfo(A.dtype).eps) ** 0.5

    def step(iterate: _Interior) -> _Interior:
        X, Y, mu = iterate.X, iterate.Y, _mu(iterate.X, iterate.Y)
        missing = A + _applied(form, X) - Y
        # the scaling G, in which both matrices become diag(d): G^-1 X G^-T = G^T Y G
        lower = jnp.linalg.cholesky(X)
        squares, vectors = jnp.linalg.eigh(lower.T @ Y @ lower)
        d = jnp.sqrt(squares)
        G = lower @ vectors / jnp.sqrt(d)[None]
        rotation = _rotation(G)
        scaled, lack = rotation.T @ form @ rotation, rotation.T @ _packed(missing)
        factor = jax.scipy.linalg.cho_factor(scaled + jnp.eye(lack.size, dtype=A.dtype))

        def moves(target: Array) -> Array:
            """The scaled moves of X and Y (2, k, k) that change (XY + YX)/2 by `target`, to first order."""
            change = _packed(2 * target / (d[:, None] + d[None]))
            move = jax.scipy.linalg.cho_solve(factor, change - lack)
            return jnp.stack([_unpacked(move), _unpacked(scaled @ move + lack)])

        def longest(move: Array) -> Array:
            """The fraction of the moves, at most 1, that stays well inside the cone."""
            lowest = jnp.min(jnp.linalg.eigvalsh(move / jnp.sqrt(d[:, None] * d[None])[None]))
            return jnp.where(lowest < -0.98, -0.98 / lowest, 1)

        predicted = moves(-jnp.diag(d * d))
        ahead = jnp.diag(d)[None] + longest(predicted) * predicted
        centring = (_mu(*ahead) / mu) ** 3
        product = predicted[0] @ predicted[1]
        corrected = moves(centring * mu * one - jnp.diag(d * d) - (product + product.T) / 2)
        share = longest(corrected)
        move = G @ corrected[0] @ G.T
        after = X + share * move
        behind = Y + share * (missing + _applied(form, move))
        after, behind = (after + after.T) / 2, (behind + behind.T) / 2

        pushed = _applied(form, after)
        gap = k * _mu(after, behind) / (1 + jnp.linalg.norm(after))
        defect = jnp.maximum(jnp.linalg.norm(A + pushed - behind), gap) / (1 + jnp.linalg.norm(pushed))
        # a factorisation that failed for rounding, or a solution at infinity: stay where we are
        good = jnp.all(jnp.isfinite(after)) & jnp.all(jnp.isfinite(behind)) & jnp.isfinite(defect)
        X, Y = jnp.where(good, after, X), jnp.where(good, behind, Y)
        return _Interior(X, Y, good & (defect > close), iterate.count + 1)

    start = _Interior(one, one, going, jnp.zeros((), jnp.int32))
    return lax.while_loop(lambda iterate: iterate.going & (iterate.count < limit), step, start)


def _smoothed(A: Array, form: Array, start: _Smoothed, within: Array, limit: int) -> _Smoothed:
    """Newton's method for A + B[X(Z)] = Y(Z) with X - Y = Z, XY = mu, and mu to zero; `best` is an X at mu = 0."""
    eps, smallest = float(jnp.finfo(A.dtype).eps), float(jnp.finfo(A.dtype).tiny) * 1e6

    def missing(values: Array, vectors: Array, mu: Array | float) -> tuple[Array, Array]:
        X, Y = (_from_eigen(part, vectors) for part in _parts(values, mu))
        return A + _applied(form, X) - Y, X

    def step(iterate: _Smoothed) -> _Smoothed:
        Z, mu = _from_eigen(iterate.values, iterate.vectors), iterate.mu
        left, _ = missing(iterate.values, iterate.vectors, mu)
        # dX = share dZ and dY = (share - 1) dZ in the eigenbasis of Z, entry by entry
        sums = jnp.sqrt(iterate.values**2 + 4 * mu)
        share = _packed_index((1 + (iterate.values[:, None] + iterate.values[None]) / (sums[:, None] + sums[None])) / 2)
        root = jnp.sqrt(share)
        rotation = _rotation(iterate.vectors)
        rotated, lack = rotation.T @ form @ rotation, rotation.T @ _packed(left)
        # Along a null space of B, where nothing is to be gained, stay: a proximal term that vanishes with the error.
        proximal = 0.01 * jnp.linalg.norm(left) / jnp.linalg.norm(iterate.values) + 100 * eps
        system = root[:, None] * rotated * root[None] + jnp.diag(1 - share + proximal * share)
        partly = root * jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(system), -root * lack)
        move = _unpacked(rotation @ (partly - lack - rotated @ partly))
        tried = Z[None] + jnp.asarray(STEPS, A.dtype)[:, None, None] * move[None]
        values, vectors = jnp.linalg.eigh(tried)
        lefts = jax.vmap(lambda v, q: jnp.linalg.norm(missing(v, q, mu)[0]))(values, vectors)
        which = jnp.nanargmin(jnp.where(jnp.isfinite(lefts), lefts, jnp.inf))
        values, vectors, error = values[which], vectors[which], lefts[which]
        good = jnp.isfinite(error)
        sharp, X = missing(values, vectors, 0.0)
        defect = jnp.linalg.norm(sharp)
        better = good & (defect < iterate.defect)
        solved = (error <= jnp.linalg.norm(left) / 2) | (error <= jnp.sqrt(mu))
        return _Smoothed(
            jnp.where(good, values, iterate.values),
            jnp.where(good, vectors, iterate.vectors),
            jnp.where(solved, jnp.maximum(jnp.minimum(mu / 20, error**2), smallest), mu),
            jnp.where(better, X, iterate.best),
            jnp.where(better, defect, iterate.defect),
            jnp.where(good, iterate.count + 1, limit),
        )

    return lax.while_loop(lambda iterate: (iterate.defect > within) & (iterate.count < limit), step, start)


def _parts(values: Array, mu: Array | float) -> tuple[Array, Array]:
    """x, y >= 0 with x - y = values and x y = mu, without cancellation."""
    large = (jnp.abs(values) + jnp.sqrt(values**2 + 4 * mu)) / 2
    small = mu / jnp.where(large > 0, large, 1)
    return jnp.where(values > 0, large, small), jnp.where(values > 0, small, large)


def _residual(A: Array, form: Array, X: Array) -> Array:
    """See `ComplementaritySolution`."""
    Y = A + _applied(form, X)
    # with X = 0 the last two are zero; with A = 0 so is X
    sizes = [jnp.where(norm > 0, norm, 1) for norm in (jnp.linalg.norm(A), jnp.linalg.norm(X))]
    lowest = jnp.linalg.eigvalsh(jnp.stack([Y, X]))[:, 0]
    return jnp.maximum(jnp.max(-lowest / jnp.stack(sizes)), jnp.abs(jnp.sum(X * Y)) / (sizes[0] * sizes[1]))


def _size(array: Array) -> Array:
    """The Frobenius norm, without overflow; 1 for zeros."""
    top = jnp.max(jnp.abs(array))
    top = jnp.where(top > 0, top, 1)
    return jnp.maximum(jnp.linalg.norm(array / top), 1) * top


def _mu(X: Array, Y: Array) -> Array:
    return jnp.sum(X * Y) / len(X)


def _from_eigen(values: Array, vectors: Array) -> Array:
    return vectors * values[None] @ vectors.T


# Symmetric matrices as vectors of m = k(k + 1)/2 entries, with the same scalar product.  Everything is a product of
# matrices: those compile in no time, a contraction of tensors does not.


@lru_cache(maxsize=32)
def _basis(k: int) -> np.ndarray:
    """An orthonormal basis (m, k k) of the symmetric matrices."""
    rows, columns = np.triu_indices(k)
    basis = np.zeros((rows.size, k, k))
    basis[np.arange(rows.size), rows, columns] = basis[np.arange(rows.size), columns, rows] = 0.5**0.5
    basis[rows == columns] *= 2**0.5
    return basis.reshape(rows.size, k * k)


def _packed(matrix: Array) -> Array:
    return jnp.asarray(_basis(len(matrix)), matrix.dtype) @ matrix.ravel()


def _unpacked(vector: Array) -> Array:
    k = round((2 * vector.size + 0.25) ** 0.5 - 0.5)
    return (vector @ jnp.asarray(_basis(k), vector.dtype)).reshape(k, k)


def _packed_index(matrix: Array) -> Array:
    return matrix[np.triu_indices(len(matrix))]


def _packed_form(B: Array) -> Array:
    """The symmetric matrix (m, m) of the quadratic form B (k, k, k, k)."""
    k = len(B)
    basis = jnp.asarray(_basis(k), B.dtype)
    form = basis @ B.reshape(k * k, k * k) @ basis.T
    return (form + form.T) / 2


def _rotation(G: Array) -> Array:
    """The matrix (m, m) of M -> G M G^T."""
    basis = jnp.asarray(_basis(len(G)), G.dtype)
    return basis @ jnp.kron(G, G) @ basis.T


def _applied(form: Array, X: Array) -> Array:
    return _unpacked(form @ _packed(X))
