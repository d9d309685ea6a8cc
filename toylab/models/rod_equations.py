"""The equations of the rod flow, as functions of the middle and of half of a rod in a rule's phase space."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from toylab.models.mean_step import MeanStep
from toylab.problems.problem import Problem

PyTree = Any

SUDDEN = 6.0
"""The largest rate, per step, at which the rod turns: only one that is about to grow by more would turn faster."""

SETTLED = 1_000
"""The most steps of the rule in which the memory is sought that alternates with a given oscillation."""


class Phase(NamedTuple):
    """A point of the rule's own phase space, or a difference: flat weights (p,) and the state's fast leaves."""

    weights: Array
    fast: list[Array]


class RodPoint(NamedTuple):
    """A point of the flow, or its velocity: the middle of the rod, the slow leaves, the rod's unit direction and
    the square () of its half length."""

    middle: Phase
    slow: list[Array]
    direction: Phase
    size: Array


class HeldRule(NamedTuple):
    """One step of a rule with its updated slow leaves held, z -> F(z), as a map of its phase space; `state`: the
    optimizer's, of which counters and whatever else is neither slow nor fast stand still."""

    rule: MeanStep
    state: PyTree

    def fast(self, state: PyTree) -> list[Array]:
        """The fast leaves of a state."""
        leaves = jax.tree.leaves(state)
        return [leaves[i] for i in self.rule.structure.roles.fast]

    def state_with(self, fast: list[Array], slow: list[Array]) -> PyTree:
        """The optimizer's state with these fast and slow leaves."""
        return with_fast(self.rule, self.rule.with_slow(self.state, slow), fast)

    def moves(self, gradient: Array, point: Phase, slow: list[Array]) -> Phase:
        """F(z) - z; linear in the gradient and the point together."""
        before = self.state_with(point.fast, slow)
        update, after = self.rule.step(gradient, before, point.weights, slow)
        return Phase(update, [new - old for new, old in zip(self.fast(after), self.fast(before), strict=True)])

    def mean_slow(self, gradients: Array, points: Phase, slow: list[Array]) -> list[Array]:
        """<n+>: the average over both ends, stacked, of what the rule makes of its slow leaves."""

        def updated(gradient: Array, point: Phase) -> list[Array]:
            return self.rule.updated(gradient, self.state_with(point.fast, slow), point.weights)

        return mean_of_ends(jax.vmap(updated)(gradients, points))

    def metric(self, slow: list[Array], preconditioner: Array) -> Callable[[Phase], Array]:
        """z -> the vector whose length is |z|, |z|^2 = w^T P w + v^T P v, v the displacement that the memory in z
        causes in the next step; P, `preconditioner` (p,), and the slow leaves are those of the step's beginning."""
        root = jnp.sqrt(preconditioner)

        def scaled(difference: Phase) -> Array:
            size = root * difference.weights
            if not difference.fast:
                return size
            nothing = jnp.zeros_like(root)
            caused, _ = self.rule.step(nothing, self.state_with(difference.fast, slow), nothing, slow)
            return jnp.concatenate([size, root * caused])

        return scaled


def with_fast(rule: MeanStep, state: PyTree, fast: list[Array]) -> PyTree:
    """The optimizer's state with its fast leaves replaced, in their precision."""
    leaves, tree = jax.tree.flatten(state)
    for i, leaf in zip(rule.structure.roles.fast, fast, strict=True):
        leaves[i] = leaf.astype(jnp.result_type(leaves[i]))
    return jax.tree.unflatten(tree, leaves)


def ends(middle: Phase, half: Phase) -> Phase:
    """Both ends of the rod, stacked along a new first axis."""
    return jax.tree.map(lambda x, d: jnp.stack([x + d, x - d]).astype(x.dtype), middle, half)


def half_rod(point: RodPoint) -> Phase:
    """Half of the rod: its direction times its half length."""
    return jax.tree.map(lambda u: (jnp.sqrt(point.size) * u).astype(u.dtype), point.direction)


def mean_of_ends(stacked: PyTree) -> PyTree:
    """The mean over the first axis, of length two."""
    return jax.tree.map(lambda x: (x[0] + x[1]) / 2, stacked)


def velocity(problem: Problem, held: HeldRule, point: RodPoint, metric: Callable[[Phase], Array]) -> RodPoint:
    """The right-hand side of the rod flow.

    With [a, b] = [F(zbar +- d) - (zbar +- d)]/2 and f = a + b,

        zbar' = f - Df[f]/2,        n' = <n+> - n,        Sigma' = a a^T + b b^T - 2 Sigma,

    the last one for direction and size of Sigma = s u u^T, see `turned`; Df[f] is one step of the held rule with the
    mean of H f over both ends as gradient.
    """
    rule = held.rule
    points = ends(point.middle, half_rod(point))
    _, grads, hessians = zip(*(problem.expanded(rule.tree(w)) for w in points.weights), strict=True)
    gradients = jnp.stack([rule.flat(g) for g in grads])
    slow = held.mean_slow(gradients, points, point.slow)
    moves = jax.vmap(lambda g, z: held.moves(g, z, slow))(gradients, points)  # 2 a and 2 b
    f = mean_of_ends(moves)
    force = mean_of_ends(jnp.stack([rule.flat(product(rule.tree(f.weights))) for product in hessians]))
    bent = held.moves(force, f, slow)
    drift = jax.tree.map(lambda x, y: x - y / 2, f, bent)
    turn, growth = turned(moves, point.direction, point.size, metric)
    return RodPoint(drift, [new - old for new, old in zip(slow, point.slow, strict=True)], turn, growth)


def turned(moves: Phase, direction: Phase, size: Array, metric: Callable[[Phase], Array]) -> tuple[Phase, Array]:
    """u' and s' of Sigma = s u u^T, kept at rank one, where the rows of `moves` are 2 a and 2 b.

    With R = a a^T + b b^T: u' = (R u - u (u.R u))/s, s no smaller than tr(R)/6, and s' = u.R u - 2 s.
    """
    along, at = metric(direction), jax.vmap(metric)(moves) / 2
    onto = at @ along
    own, trace = onto @ onto, jnp.sum(at**2)
    least = jnp.maximum(size, trace / SUDDEN)
    rate = jnp.where(least > 0, 1 / jnp.where(least > 0, least, 1), 0)

    def turn(both: Array, u: Array) -> Array:
        return (rate * (jnp.tensordot(onto, both, 1) / 2 - own * u)).astype(u.dtype)

    return jax.tree.map(turn, moves, direction), own - 2 * size


def unit(difference: Phase, metric: Callable[[Phase], Array], otherwise: Phase) -> tuple[Phase, Array]:
    """The direction of a difference, `otherwise` if it has no length, and the square of its length."""
    vector = metric(difference)
    size = vector @ vector
    scale = jnp.where(size > 0, 1 / jnp.sqrt(jnp.where(size > 0, size, 1)), 0)
    direction = jax.tree.map(lambda x, y: jnp.where(size > 0, scale * x, y).astype(x.dtype), difference, otherwise)
    return direction, size


def first_displacement(problem: Problem, held: HeldRule, params: PyTree) -> Phase:
    """Half of the rule's first step, as half of a rod."""
    w, state = held.rule.flat(params), held.state
    gradient = held.rule.flat(problem.gradient(params))
    moves = held.moves(gradient, Phase(w, held.fast(state)), held.rule.updated(gradient, state, w))
    return jax.tree.map(lambda x: x / 2, moves)


def alternating(problem: Problem, held: HeldRule, params: PyTree, half: Array) -> Phase:
    """Half of a rod with `half` (p,) in its weights, and in its memory the part that alternates with that: steps of the
    rule are taken until it repeats, `SETTLED` at most."""
    rule = held.rule
    middle = Phase(rule.flat(params), held.fast(held.state))
    still = Phase(half, [jnp.zeros_like(leaf) for leaf in middle.fast])
    if not middle.fast:
        return still
    points = ends(middle, still)
    gradients = lax.map(lambda weights: rule.flat(problem.gradient(rule.tree(weights))), points.weights)
    slow = held.mean_slow(gradients, points, rule.slow(held.state))
    difference = (gradients[0] - gradients[1]) / 2

    def flipped(carry: tuple[Phase, Array, Array]) -> tuple[Phase, Array, Array]:
        z = carry[0]
        moves = held.moves(difference, z, slow)
        memory = [-(leaf + move) for leaf, move in zip(z.fast, moves.fast, strict=True)]
        moving = [
            jnp.any(jnp.abs(new - old) > 8 * jnp.finfo(new.dtype).eps * jnp.abs(new))  # more than rounding
            for new, old in zip(memory, z.fast, strict=True)
        ]
        return Phase(half, memory), carry[1] + 1, jnp.any(jnp.stack(moving))

    zero = jnp.zeros((), jnp.int32)
    return lax.while_loop(lambda carry: carry[2] & (carry[1] < SETTLED), flipped, (still, zero, zero == 0))[0]
