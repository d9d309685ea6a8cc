"""An oscillation at the edge, averaged: the covariance that keeps the curvature at the edge, and its effect on the
mean of the weights and on the preconditioner.  The central map and the central flow share it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab.curvature import EigenPair, Track, third_derivative
from toylab.models.look import look_at, reciprocal
from toylab.models.mean_step import MeanStep
from toylab.models.predictions import Cost, Predictions, principal
from toylab.numerics.complementarity import ComplementaritySolution, solve_complementarity
from toylab.problems.problem import Problem

PyTree = Any

NEAR = 0.95
"""The fraction of the edge above which an eigenvalue is critical, in models and in what is measured of the optimizer.
In one step an eigenvalue moves by far less than the remaining twentieth, so that none crosses the edge unseen; below
it the optimizer's own oscillation decays by at least a tenth a step, so that nothing is lost by leaving it out."""


class MeanState(NamedTuple):
    """The mean of the weights, the optimizer's state (slow leaves as averages), and the memory of the eigenpairs."""

    params: PyTree
    state: PyTree
    track: Track


class Geometry(NamedTuple):
    """Local data at a mean point of p weights; K directions are followed, and those that are not critical are zero.

    `loss` (), `gradient` (p,); `slow`: the slow leaves as the rule's own step leaves them, `inverse` and
    `preconditioner` (p,): the diagonals of P^-1 and P there.  `ratios` (K,): eigenvalues of P^-1 H over the threshold;
    `critical` (K,): whether a direction takes part in the oscillation; `values` (K,): the critical eigenvalues;
    `vectors` (K, p): their u, with u_a^T P u_b = 1 if a = b, else 0; `images` (K, p) = H u.
    `third_derivative` (K, K, p) = d^3 L[u_a, u_b]; `second_derivative_of_state`: for each slow leaf the second
    derivative (K, K, ...) of its update along the gradients H u_a and H u_b; `metric_response` (K, K, K, K) =
    u_a^T dP u_b for the change of the leaves by second_derivative_of_state[c, d].  `products`, `thirds` (): the cost in
    Hessian products and third derivatives; `converged` (): whether the critical eigenpairs did.
    """

    loss: Array
    gradient: Array
    slow: list[Array]
    inverse: Array
    preconditioner: Array
    ratios: Array
    critical: Array
    values: Array
    vectors: Array
    images: Array
    third_derivative: Array
    second_derivative_of_state: list[Array]
    metric_response: Array
    products: Array
    thirds: Array
    converged: Array

    def push(self, covariance: Array) -> Array:
        """grad tr(H Sigma)/2 (p,) for Sigma = U X U^T, X = `covariance` (K, K)."""
        return jnp.einsum("ab,abp->p", covariance, self.third_derivative) / 2

    def slow_with(self, covariance: Array) -> list[Array]:
        """The slow leaves after a step with the average over an oscillation of this covariance."""
        return [
            s + jnp.tensordot(covariance, d, 2).astype(s.dtype) / 2
            for s, d in zip(self.slow, self.second_derivative_of_state, strict=True)
        ]

    def noncritical_ratio(self) -> Array:
        """The largest tracked ratio that is not critical: what a step in time must resolve."""
        return jnp.max(jnp.where(self.critical | ~jnp.isfinite(self.ratios), 0, self.ratios), initial=0)


def geometry(problem: Problem, rule: MeanStep, now: MeanState, count: int) -> tuple[Geometry, Track]:
    """The geometry at a mean point, and the eigenpairs' memory for the next one.

    Third derivatives are taken of pairs of critical directions only, one after the other.
    """
    w, edge = rule.flat(now.params), rule.edge_like(rule.flat(now.params))
    look, track = look_at(problem, rule, now.params, now.state, now.track)
    gradient, slow, pairs, preconditioner = look.gradient, look.slow, look.pairs, look.preconditioner
    critical, values, vectors = _critical(rule, pairs, edge.threshold, jnp.sqrt(look.inverse))
    images = values[:, None] * preconditioner[None] * vectors
    firsts, seconds = (jnp.asarray(side) for side in _pairs(count))
    number = jnp.sum(critical, dtype=jnp.int32)
    total = number * (number + 1) // 2

    def updated(g: Array) -> list[Array]:
        return rule.updated(g, now.state, w)

    def read(leaves: list[Array]) -> Array:
        return rule.inverse(gradient, now.state, w, leaves)

    def pair(index: Array, carry: tuple) -> tuple:
        third, second, response = carry
        a, b = firsts[index], seconds[index]
        bent = rule.flat(third_derivative(problem.value, now.params, rule.tree(vectors[a]), rule.tree(vectors[b])))
        third = third.at[a, b].set(bent).at[b, a].set(bent)
        if slow:
            along = jax.jvp(lambda g: jax.jvp(updated, (g,), (images[a],))[1], (gradient,), (images[b],))[1]
            second = [s.at[a, b].set(x).at[b, a].set(x) for s, x in zip(second, along, strict=True)]
            slope = jax.jvp(read, (slow,), (along,))[1]
            slope = jnp.where(jnp.isfinite(slope), slope, 0)  # a root at zero: a dead coordinate, which nothing moves
            metric = (vectors * (-(preconditioner**2) * slope)[None]) @ vectors.T
            response = response.at[:, :, a, b].set(metric).at[:, :, b, a].set(metric)
        return third, second, response

    nothing = (
        jnp.zeros((count, count, w.size), w.dtype),
        [jnp.zeros((count, count, *leaf.shape), leaf.dtype) for leaf in slow],
        jnp.zeros((count,) * 4, w.dtype),
    )
    third, second, response = lax.fori_loop(0, total, pair, nothing)
    # a pair that is only watched need not have converged
    converged = jnp.all(pairs.converged | ~critical)
    local = Geometry(
        loss=look.loss,
        gradient=gradient,
        slow=slow,
        inverse=look.inverse,
        preconditioner=preconditioner,
        ratios=look.edge_ratios,
        critical=critical,
        values=values,
        vectors=vectors,
        images=images,
        third_derivative=third,
        second_derivative_of_state=second,
        metric_response=response,
        products=pairs.products,
        thirds=total,
        converged=converged,
    )
    return local, track


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
    third = here.third_derivative.reshape(count * count, -1)
    along = third @ here.vectors.T
    off = (third * here.inverse[None]) @ third.T - along @ along.T
    slaved = (along * relaxed[None]) @ along.T
    bent = share * edge.gain * (time_step * off + slaved).reshape((count,) * 4)
    excess = jnp.diag(edge.threshold - here.values) - here.third_derivative @ free
    return solve_complementarity(excess, (bent + edge.threshold * here.metric_response) / 2, active=here.critical)


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
    return jnp.where(here.critical, edge.gain * here.values + edge.decay, 1)


def predictions_with(
    now: MeanState,
    here: Geometry,
    solution: ComplementaritySolution,
    inverse: Array,
    substeps: Array | int,
    gradients: Array | int,
) -> Predictions:
    """The predictions at a point with the oscillation `solution.X`; `inverse` (p,): the diagonal of P^-1 with it;
    `substeps` and `gradients`: the cost beside that of the geometry."""
    mean = here.gradient + here.push(solution.X)
    # P is higher by what the oscillation adds to it: a small change on the critical directions
    higher = (here.vectors * (reciprocal(inverse) - here.preconditioner)[None]) @ here.vectors.T
    root = jnp.sqrt(jnp.where(here.critical, here.ratios, 0))
    inside = jnp.linalg.eigvalsh(jnp.diag(root**2) - root[:, None] * higher * root[None])[::-1]
    sizes, vectors = jnp.linalg.eigh(solution.X)
    spread = jnp.sqrt(jnp.maximum(sizes, 0))[:, None] * (vectors.T @ here.vectors)
    variances, axes = principal(reciprocal(inverse), spread)
    return Predictions.of(
        now.params,
        here.loss,
        jnp.where(here.critical, inside, here.ratios),
        mean_loss=here.loss + jnp.sum(here.values * jnp.diag(solution.X)) / 2,
        mean_square=mean @ mean + jnp.sum(solution.X * (here.images @ here.images.T)),
        critical=jnp.sum(here.critical, dtype=jnp.int32),
        variances=variances,
        axes=axes,
        residual=solution.residual,
        converged=here.converged & solution.converged,
        cost=Cost(substeps, gradients, here.products, here.thirds),
    )


def _critical(rule: MeanStep, pairs: EigenPair, threshold: Array, root: Array) -> tuple[Array, Array, Array]:
    """Which pairs take part, their eigenvalues (the threshold for others) and u = P^-1/2 v (K, p), zero for others."""
    critical = pairs.value > NEAR * threshold
    vectors = jax.vmap(rule.flat)(pairs.vector) * root[None]
    return critical, jnp.where(critical, pairs.value, threshold), jnp.where(critical[:, None], vectors, 0)


def _pairs(count: int) -> np.ndarray:
    """All a <= b, ordered so that the first n (n + 1)/2 are those below n: (2, count (count + 1)/2)."""
    return np.array([(a, b) for b in range(count) for a in range(b + 1)]).T
