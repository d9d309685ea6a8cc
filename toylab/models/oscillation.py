"""An oscillation at the edge, averaged: the covariance that keeps the curvature at the edge, and what it does to the
mean of the weights and to the preconditioner.  What the central map and the central flow share.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab.curvature import EigenPair, Track, follow, third_derivative
from toylab.models.mean_step import MeanStep
from toylab.models.predictions import Averages, principal
from toylab.numerics.complementarity import ComplementaritySolution, solve_complementarity
from toylab.problems.problem import Problem
from toylab.rules.preconditioner import with_coupled_decay

PyTree = Any

NEAR = 0.95
"""Eigenvalues above this fraction of the edge take part.  In one step they move by far less than what is left to the
edge, and what the optimizer's own oscillation is there decays by a tenth a step."""


class Mean(NamedTuple):
    """The mean of the weights, the optimizer's state (slow leaves as averages), and the memory of the eigenpairs."""

    params: PyTree
    state: PyTree
    track: Track


class Geometry(NamedTuple):
    """What the mean motion needs to know of a point: flat vectors (p,); K directions, of which `live` (K,) are critical
    and the others are zero.

    `loss` (), `gradient` (p,); `slow`: the slow leaves as the rule's own step leaves them, `inverse` and
    `preconditioner` (p,) the diagonals of P^-1 and P there. `ratios` (K,): eigenvalues of P^-1 H over the threshold;
    `values` (K,): the critical eigenvalues; `vectors` (K, p): their u with u_a^T P u_b = 1 if a = b, else 0;
    `images` (K, p) = H u. `turned` (K, K, p) = d^3 L[u_a, u_b]; `stirred`: for each slow leaf (K, K, ...) its second
    derivative along H u_a and H u_b; `hardened` (K, K, K, K) = u_a^T dP u_b for the change of the leaves by
    stirred[c, d]. `products`, `thirds` (): cost; `converged` (): of the eigenpairs.
    """

    loss: Array
    gradient: Array
    slow: list[Array]
    inverse: Array
    preconditioner: Array
    ratios: Array
    live: Array
    values: Array
    vectors: Array
    images: Array
    turned: Array
    stirred: list[Array]
    hardened: Array
    products: Array
    thirds: Array
    converged: Array

    def push(self, covariance: Array) -> Array:
        """grad tr(H Sigma)/2 (p,) for Sigma = U X U^T, X = `covariance` (K, K)."""
        return jnp.einsum("ab,abp->p", covariance, self.turned) / 2

    def slow_with(self, covariance: Array) -> list[Array]:
        """The slow leaves after a step with the average over an oscillation of this covariance."""
        return [
            s + jnp.tensordot(covariance, d, 2).astype(s.dtype) / 2
            for s, d in zip(self.slow, self.stirred, strict=True)
        ]

    def loose(self) -> Array:
        """The largest tracked ratio that is not critical: what a step in time must resolve."""
        return jnp.max(jnp.where(self.live | ~jnp.isfinite(self.ratios), 0, self.ratios), initial=0)


def geometry(problem: Problem, rule: MeanStep, now: Mean, count: int) -> tuple[Geometry, Track]:
    """The geometry at a mean point, and the eigenpairs' memory for the next one.

    Third derivatives are taken of pairs of critical directions only, one after the other.
    """
    w = rule.flat(now.params)
    loss, grads, hessian = problem.expanded(now.params)
    gradient = rule.flat(grads)
    slow = rule.updated(gradient, now.state, w)
    inverse = rule.inverse(gradient, now.state, w, slow)
    preconditioner = reciprocal(inverse)
    edge = rule.edge_like(w)

    felt = with_coupled_decay(hessian, edge.coupled)
    pairs, track = follow(felt, now.track, now.params, inverse_preconditioner=rule.tree(inverse))
    live, values, vectors = _critical(rule, pairs, edge.threshold, jnp.sqrt(inverse))
    images = values[:, None] * preconditioner[None] * vectors
    firsts, seconds = (jnp.asarray(side) for side in _pairs(count))
    number = jnp.sum(live, dtype=jnp.int32)
    total = number * (number + 1) // 2

    def updated(g: Array) -> list[Array]:
        return rule.updated(g, now.state, w)

    def read(leaves: list[Array]) -> Array:
        return rule.inverse(gradient, now.state, w, leaves)

    def pair(index: Array, carry: tuple) -> tuple:
        turned, stirred, hardened = carry
        a, b = firsts[index], seconds[index]
        third = third_derivative(problem.value, now.params, rule.tree(vectors[a]), rule.tree(vectors[b]))
        turned = turned.at[a, b].set(rule.flat(third)).at[b, a].set(rule.flat(third))
        if slow:
            along = jax.jvp(lambda g: jax.jvp(updated, (g,), (images[a],))[1], (gradient,), (images[b],))[1]
            stirred = [s.at[a, b].set(x).at[b, a].set(x) for s, x in zip(stirred, along, strict=True)]
            slope = jax.jvp(read, (slow,), (along,))[1]
            slope = jnp.where(jnp.isfinite(slope), slope, 0)  # a root at zero: a dead coordinate, which nothing moves
            harder = (vectors * (-(preconditioner**2) * slope)[None]) @ vectors.T
            hardened = hardened.at[:, :, a, b].set(harder).at[:, :, b, a].set(harder)
        return turned, stirred, hardened

    nothing = (
        jnp.zeros((count, count, w.size), w.dtype),
        [jnp.zeros((count, count, *leaf.shape), leaf.dtype) for leaf in slow],
        jnp.zeros((count,) * 4, w.dtype),
    )
    turned, stirred, hardened = lax.fori_loop(0, total, pair, nothing)
    ratios = pairs.value / edge.threshold
    # a pair that is only watched need not have converged
    converged = jnp.all(pairs.converged | ~live)
    found = Geometry(
        loss, gradient, slow, inverse, preconditioner, ratios, live, values, vectors, images, turned, stirred, hardened,
        pairs.products, total, converged,
    )  # fmt: skip
    return found, track


def balance(
    rule: MeanStep, here: Geometry, free: Array, time_step: Array | float, relaxed: Array, share: float = 1.0
) -> ComplementaritySolution:
    """The covariance X (K, K) of the oscillation in the critical directions, Sigma = U X U^T, that keeps T P - H >= 0.

    T the threshold. `free` (p,): the displacement without oscillation. With it, and to first order in X,

        A + B[X] = U^T (T P - H) U  after the step,

    A from the eigenvalues and d^3 L[u_a, u_b] . free, B from how the penalty's push moves the mean (off the critical
    directions as long as `time_step`, on them by `relaxed` (K,), see `displaced`) and from how the variance of the
    gradient raises P; `share` of the penalty acts, all of it but in thought experiments.  X is the solution of the
    complementarity problem X >= 0, A + B[X] >= 0, <X, A + B[X]> = 0.
    """
    edge, count = rule.edge_like(free), here.values.size
    turned = here.turned.reshape(count * count, -1)
    along = turned @ here.vectors.T
    off = (turned * here.inverse[None]) @ turned.T - along @ along.T
    slaved = (along * relaxed[None]) @ along.T
    bent = share * edge.gain * (time_step * off + slaved).reshape((count,) * 4)
    excess = jnp.diag(edge.threshold - here.values) - here.turned @ free
    return solve_complementarity(excess, (bent + edge.threshold * here.hardened) / 2, live=here.live)


def displaced(
    rule: MeanStep, here: Geometry, w: Array, own: Array, push: Array, time_step: Array | float, relaxed: Array
) -> Array:
    """The displacement (p,) of the mean: `own` plus the effect of the penalty's gradient `push` off the critical
    directions, and on them -relaxed times the mean force, whatever `own` says there."""
    u, edge = here.vectors, rule.edge_like(w)
    force = rule.drive(here.gradient + push, w, here.preconditioner)
    off = own - edge.gain * time_step * here.inverse * push
    off = off - ((u * here.preconditioner[None]) @ off) @ u
    return off - (relaxed * (u @ force)) @ u


def stiffness(rule: MeanStep, here: Geometry) -> Array:
    """eta Q(1) lambda + decay (K,): how fast the mean relaxes along a critical direction, a step; 1 elsewhere."""
    edge = rule.edge_like(here.values)
    return jnp.where(here.live, edge.gain * here.values + edge.decay, 1)


def averages(
    now: Mean, here: Geometry, cone: ComplementaritySolution, inverse: Array, substeps: Array | int, spent: Array | int
) -> Averages:
    """The predictions at a point with the oscillation `cone`; `inverse` (p,): the diagonal of P^-1 with it; `spent`
    gradients."""
    mean = here.gradient + here.push(cone.X)
    # P is higher by what the oscillation adds to it: a small change on the critical directions
    higher = (here.vectors * (reciprocal(inverse) - here.preconditioner)[None]) @ here.vectors.T
    root = jnp.sqrt(jnp.where(here.live, here.ratios, 0))
    inside = jnp.linalg.eigvalsh(jnp.diag(root**2) - root[:, None] * higher * root[None])[::-1]
    sizes, vectors = jnp.linalg.eigh(cone.X)
    spread = jnp.sqrt(jnp.maximum(sizes, 0))[:, None] * (vectors.T @ here.vectors)
    variances, axes = principal(reciprocal(inverse), spread)
    return Averages(
        params=now.params,
        loss=here.loss,
        mean_loss=here.loss + jnp.sum(here.values * jnp.diag(cone.X)) / 2,
        mean_square=mean @ mean + jnp.sum(cone.X * (here.images @ here.images.T)),
        edge_ratios=jnp.where(here.live, inside, here.ratios),
        critical=jnp.sum(here.live, dtype=jnp.int32),
        variances=variances,
        axes=axes,
        residual=cone.residual,
        converged=here.converged & cone.converged,
        substeps=jnp.asarray(substeps, jnp.int32),
        gradients=jnp.asarray(spent, jnp.int32),
        products=here.products,
        thirds=here.thirds,
    )


def reciprocal(diagonal: Array) -> Array:
    """1 over each entry, 0 where it is 0."""
    return jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)


def _critical(rule: MeanStep, pairs: EigenPair, threshold: Array, root: Array) -> tuple[Array, Array, Array]:
    """Which pairs take part, their eigenvalues (the threshold for others) and u = P^-1/2 v (K, p), zero for others."""
    live = pairs.value > NEAR * threshold
    vectors = jax.vmap(rule.flat)(pairs.vector) * root[None]
    return live, jnp.where(live, pairs.value, threshold), jnp.where(live[:, None], vectors, 0)


def _pairs(count: int) -> np.ndarray:
    """All a <= b, ordered so that the first n (n + 1)/2 are those below n: (2, count (count + 1)/2)."""
    return np.array([(a, b) for b in range(count) for a in range(b + 1)]).T
