"""The rod flow: two consecutive iterates as the ends of a rod that moves and turns smoothly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track
from toylab.models.kernel import Kernel
from toylab.models.look import look_at
from toylab.models.mean_step import averaged_rule
from toylab.models.predictions import Cost, Predictions, principal
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any

SUBSTEPS = 4
"""Substeps of one step: stable wherever the rule is, and up to 1.56 times the edge of gradient descent, see
`rod_flow_steps`."""

SUDDEN = 6.0
"""The largest rate, per step, at which the rod turns: only one that is about to grow by more would turn faster."""

SETTLED = 1_000
"""Steps of the rule at most in which the memory that goes with a given oscillation is found."""


class Phase(NamedTuple):
    """A point of the rule's own phase space, or a difference: flat weights (p,) and the state's fast leaves."""

    weights: Array
    fast: list[Array]


class RodFlowState(NamedTuple):
    """The middle (weights and the optimizer's state), half of the rod, `half` like the weights and `fast` like the
    state's fast leaves, and the memory of the top eigenpair: the ends are middle + half and middle - half."""

    params: PyTree
    state: PyTree
    half: PyTree
    fast: list[Array]
    track: Track


class _Turning(NamedTuple):
    """What moves within a step: middle, slow leaves, the rod's unit direction and the square of its half length."""

    middle: Phase
    slow: list[Array]
    direction: Phase
    size: Array


def heun(velocity: Callable[[PyTree], PyTree], point: PyTree, step: float) -> PyTree:
    """One step of Heun's method, order 2 (Hairer, Norsett & Wanner, Solving ODEs I, II.1), in each leaf's precision."""

    def ahead(x: Array, v: Array) -> Array:
        return x + (step * v).astype(x.dtype)

    def stage(_: Array, done: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        total, here = done
        slope = velocity(here)
        return jax.tree.map(jnp.add, total, slope), jax.tree.map(ahead, point, slope)

    # a loop, so that the velocity is in the program once
    total, _ = lax.fori_loop(0, 2, stage, (jax.tree.map(jnp.zeros_like, point), point))
    return jax.tree.map(lambda x, v: ahead(x, v / 2), point, total)


def rod_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 1,
    substeps: int = SUBSTEPS,
) -> Kernel:
    """Kernel of the rod flow of any rule with a linear edge; one step advances time by 1, one optimizer step.

    Let z = (w, fast state), F(z) one step of the rule with its updated slow leaves held, zbar the middle of two
    consecutive z and d half of their difference.  With a, b = [F(zbar +- d) - (zbar +- d)]/2 and f = a + b,

        zbar' = f - Df[f]/2,        Sigma' = a a^T + b b^T - 2 Sigma,        n' = <n+> - n,

    Df the derivative of f in zbar at fixed d; n the slow leaves and <n+> the average over both ends of what the rule
    makes of them, at which both are held.  A 2-cycle of the held rule is a fixed point.  For gradient descent, with
    gradients g and Hessians H at the ends, this is the published
    w' = -(eta/2)(g+ + g-) - (eta^2/8)(H+ + H-)(g+ + g-), Sigma' = (eta^2/4)(g+ g+^T + g- g-^T) - 2 Sigma.

    Sigma = d d^T stays of rank one by projection on the tangent space (Koch & Lubich 2007): with s = |d|^2, u = d/|d|,
    R = a a^T + b b^T, s' = u.R u - 2 s and u' = (R u - u (u.R u))/s.  The metric is our choice: |z|^2 = w^T P w +
    v^T P v with v the displacement that the memory in z causes in the next step, P as it is at the beginning of the
    step.  It makes the flow of a preconditioned rule that of the plain one on scaled weights; without P and memory it
    drops out.  Below an edge the rod does not vanish but shrinks to half the step that the middle takes.  At rest s is
    tr(R)/2; where it is below tr(R)/6 the rod turns as slowly as at that bound, so that nothing is divided by zero.
    Rank one has a price: as long as the rod is that half step, an oscillation that begins in another direction is
    projected away and grows only once it is the longer of the two, so a run that crosses the edge while it still moves
    may be told to stay calm; `half` says what oscillates.

    Heun's method in `substeps` equal parts.  A mode that the rule multiplies by mu in one step has the rate
    (mu - 1)(3 - mu)/2 here, whose real part is negative for every |mu| < 1 and which is at most 4 in size: three
    substeps are stable wherever the held rule is, four to mu = 2 - sqrt(17), for gradient descent eta lambda = 3.1.

    `init(params, state=None, half=None)`: the middle, the optimizer's state, and half of the difference of two iterates
    (like the weights); None is half of the optimizer's first displacement.  The memory's half is what alternates with a
    given `half`.  Counters stand still within a step.  `known`: see `central_map_steps`.  `count` eigenvalues at
    the middle are followed for `edge_ratios`; P there and in `variances` (1,), the d_w^T P d_w of the weights, is at
    <n+>.  `mean_loss` and `mean_square` are means of the two ends.  There are no constraints: `residual` is NaN.
    Cost: 3 + 4 `substeps` gradients, 4 `substeps` Hessian products and what `follow` needs.
    Raises NoLinearEdge (a ValueError) for a rule without an edge, or whose edge is no flip, ValueError for fewer than
    one substep.
    Source: Regis & Chewi, arXiv:2602.01480, equations of the flow; momentum and second moments in the manner of
    arXiv:2605.06821; the general form in F and the metric are ours.
    """
    if substeps < 1:
        raise ValueError(f"rod_flow_steps: got substeps={substeps}, needs at least 1: {SUBSTEPS} are stable at an edge")
    rule = averaged_rule(transform, problem.params, known, "the rod flow")
    h = 1 / substeps

    def fast(state: PyTree) -> list[Array]:
        leaves = jax.tree.leaves(state)
        return [leaves[i] for i in rule.structure.roles.fast]

    def state_with(state: PyTree, fast: list[Array], slow: list[Array]) -> PyTree:
        leaves, tree = jax.tree.flatten(rule.with_slow(state, slow))
        for i, leaf in zip(rule.structure.roles.fast, fast, strict=True):
            leaves[i] = leaf.astype(jnp.result_type(leaves[i]))
        return jax.tree.unflatten(tree, leaves)

    def ends(middle: Phase, half: Phase) -> Phase:
        """Both ends of the rod, stacked along a new first axis."""
        return jax.tree.map(lambda x, d: jnp.stack([x + d, x - d]).astype(x.dtype), middle, half)

    def held_moves(gradient: Array, point: Phase, state: PyTree, slow: list[Array]) -> Phase:
        """F(z) - z; linear in the gradient and the point together."""
        before = state_with(state, point.fast, slow)
        update, after = rule.step(gradient, before, point.weights, slow)
        return Phase(update, [new - old for new, old in zip(fast(after), fast(before), strict=True)])

    def mean_slow(gradients: Array, points: Phase, state: PyTree, slow: list[Array]) -> list[Array]:
        def updated(gradient: Array, point: Phase) -> list[Array]:
            return rule.updated(gradient, state_with(state, point.fast, slow), point.weights)

        return _mean(jax.vmap(updated)(gradients, points))

    def measure(state: PyTree, slow: list[Array], root: Array) -> Callable[[Phase], Array]:
        """z -> the vector whose length is |z|: see the metric above."""

        def measured(difference: Phase) -> Array:
            size = root * difference.weights
            if not difference.fast:
                return size
            nothing = jnp.zeros_like(root)
            caused, _ = rule.step(nothing, state_with(state, difference.fast, slow), nothing, slow)
            return jnp.concatenate([size, root * caused])

        return measured

    def begun(params: PyTree, state: PyTree, half: Array | None) -> Phase:
        """Half of the rod in the whole phase space: the first displacement, or what alternates with `half`."""
        w, slow = rule.flat(params), rule.slow(state)
        middle = Phase(w, fast(state))
        if half is None:
            gradient = rule.flat(problem.gradient(params))
            moves = held_moves(gradient, middle, state, rule.updated(gradient, state, w))
            return jax.tree.map(lambda x: x / 2, moves)
        still = Phase(half, [jnp.zeros_like(leaf) for leaf in middle.fast])
        points = ends(middle, still)
        gradients = lax.map(lambda weights: rule.flat(problem.gradient(rule.tree(weights))), points.weights)
        used = mean_slow(gradients, points, state, slow)
        difference = (gradients[0] - gradients[1]) / 2

        def flipped(now: tuple[Phase, Array, Array]) -> tuple[Phase, Array, Array]:
            z = now[0]
            moves = held_moves(difference, z, state, used)
            memory = [-(leaf + move) for leaf, move in zip(z.fast, moves.fast, strict=True)]
            moving = [
                jnp.any(jnp.abs(new - old) > 8 * jnp.finfo(new.dtype).eps * jnp.abs(new))  # more than rounding
                for new, old in zip(memory, z.fast, strict=True)
            ]
            return Phase(half, memory), now[1] + 1, jnp.any(jnp.stack(moving))

        if not middle.fast:
            return still
        zero = jnp.zeros((), jnp.int32)
        return lax.while_loop(lambda now: now[2] & (now[1] < SETTLED), flipped, (still, zero, zero == 0))[0]

    def init(params: PyTree, state: PyTree = None, half: PyTree = None) -> RodFlowState:
        state = transform.init(params) if state is None else state
        found = begun(params, state, None if half is None else rule.flat(half))
        return RodFlowState(params, state, rule.tree(found.weights), found.fast, begin_track(params, count))

    @fully_precise
    def step(now: RodFlowState) -> tuple[RodFlowState, Predictions]:
        middle, half = Phase(rule.flat(now.params), fast(now.state)), Phase(rule.flat(now.half), now.fast)
        points = ends(middle, half)
        losses, grads = lax.map(lambda weights: problem.value_and_gradient(rule.tree(weights)), points.weights)
        gradients = jax.vmap(rule.flat)(grads)
        slow = mean_slow(gradients, points, now.state, rule.slow(now.state))
        here, track = look_at(problem, rule, now.params, now.state, now.track, slow)
        preconditioner = here.preconditioner
        length = measure(now.state, slow, jnp.sqrt(preconditioner))

        def velocity(point: _Turning) -> _Turning:
            rod = jax.tree.map(lambda u: (jnp.sqrt(point.size) * u).astype(u.dtype), point.direction)
            points = ends(point.middle, rod)
            _, grads, hessians = zip(*(problem.expanded(rule.tree(w)) for w in points.weights), strict=True)
            gradients = jnp.stack([rule.flat(g) for g in grads])
            slow = mean_slow(gradients, points, now.state, point.slow)
            moves = jax.vmap(lambda g, z: held_moves(g, z, now.state, slow))(gradients, points)
            f = _mean(moves)
            along = rule.tree(f.weights)
            force = _mean(jnp.stack([rule.flat(product(along)) for product in hessians]))
            bent = held_moves(force, f, now.state, slow)
            drift = jax.tree.map(lambda x, y: x - y / 2, f, bent)
            turn, growth = _turned(moves, point.direction, point.size, length)
            return _Turning(drift, [new - old for new, old in zip(slow, point.slow, strict=True)], turn, growth)

        def part(_: Array, point: _Turning) -> _Turning:
            there = heun(velocity, point, h)
            return there._replace(direction=_unit(there.direction, length, there.direction)[0])

        own = held_moves(here.gradient, middle, now.state, slow)
        direction, size = _unit(half, length, _unit(own, length, own)[0])
        begin = _Turning(middle, rule.slow(now.state), direction, size)
        end = lax.fori_loop(0, substeps, part, begin)
        after = transform.update(here.grads, now.state, now.params)[1]
        after = state_with(after, end.middle.fast, end.slow)
        rod = jax.tree.map(lambda u: (jnp.sqrt(end.size) * u).astype(u.dtype), end.direction)
        reached = RodFlowState(rule.tree(end.middle.weights), after, rule.tree(rod.weights), rod.fast, track)
        variances, axes = principal(preconditioner, half.weights[None])
        predictions = Predictions.of(
            now.params,
            here.loss,
            here.edge_ratios,
            mean_loss=_mean(losses),
            mean_square=_mean(jnp.sum(gradients**2, axis=1)),
            critical=1,
            variances=variances,
            axes=axes,
            converged=here.pairs.converged[0],
            cost=Cost(substeps, 3 + 4 * substeps, here.pairs.products + 4 * substeps),
        )
        return reached, predictions

    return Kernel(init, step)


def _mean(stacked: PyTree) -> PyTree:
    return jax.tree.map(lambda x: (x[0] + x[1]) / 2, stacked)


def _unit(difference: Phase, length: Callable[[Phase], Array], otherwise: Phase) -> tuple[Phase, Array]:
    """The direction of a difference, `otherwise` if it has no length, and the square of its length."""
    vector = length(difference)
    size = vector @ vector
    scale = jnp.where(size > 0, 1 / jnp.sqrt(jnp.where(size > 0, size, 1)), 0)
    unit = jax.tree.map(lambda x, y: jnp.where(size > 0, scale * x, y).astype(x.dtype), difference, otherwise)
    return unit, size


def _turned(moves: Phase, direction: Phase, size: Array, length: Callable[[Phase], Array]) -> tuple[Phase, Array]:
    """u' and s' of the rod of rank one, where the rows of `moves` are 2 a and 2 b."""
    along, at = length(direction), jax.vmap(length)(moves) / 2
    onto = at @ along
    own, trace = onto @ onto, jnp.sum(at**2)
    least = jnp.maximum(size, trace / SUDDEN)
    rate = jnp.where(least > 0, 1 / jnp.where(least > 0, least, 1), 0)

    def turn(both: Array, u: Array) -> Array:
        return (rate * (jnp.tensordot(onto, both, 1) / 2 - own * u)).astype(u.dtype)

    return jax.tree.map(turn, moves, direction), own - 2 * size
