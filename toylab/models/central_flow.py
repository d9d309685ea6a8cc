"""The central flow of any rule: the time average of the optimizer's path as a differential equation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.curvature import begin_track
from toylab.models.kernel import Kernel
from toylab.models.mean_step import MeanStep, averaged_rule
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.oscillation import MeanState, balance, displaced, geometry, predictions_with, stiffness
from toylab.models.predictions import Cost, Predictions
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any

LONGEST = 0.5
"""The longest substep, in steps: half of what a mode at the edge of a rule without memory needs to be stable."""

FIRST = LONGEST / 8
"""The length of the first substep, in steps: of its error nothing is known yet."""

MOST = 1_000
"""The most substeps of one step; one that needs more ends early, and is not `converged`."""


class CentralFlowState(NamedTuple):
    """The mean, the velocity of the weights (p,) in the last substep, and how long the next one may be, in steps."""

    mean: MeanState
    velocity: Array
    proposed: Array


class _Underway(NamedTuple):
    """Part of a step: where it is, the time reached, the first substep's predictions, the cost so far, and whether all
    solvers converged."""

    now: CentralFlowState
    time: Array
    first: Predictions
    cost: Cost
    sound: Array


def central_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 4,
    curvature_penalty: bool = True,
    tolerance: ArrayLike = 0.02,
) -> Kernel:
    """Kernel of the central flow of any rule with a linear edge; one step advances time by 1, one optimizer step.

        w' = -P^-1 [eta Q(1) (grad L + grad tr(H Sigma)/2) + decay P w],    n' = <n+> - n,

    with T P - H >= 0 and Sigma >= 0 its covariance in the critical directions, complementary to each other; T is the
    threshold of lambda(P^-1 H), n the slow state and <n+> the average over the oscillation of what the rule's own
    update makes of it, in which P is taken (see `stable_flow_steps`, which is this without Sigma).  Memory is
    eliminated: the flow says nothing of what the momentum buffer holds.

    Integration: exponential Euler, exact for the linear relaxation along critical directions (rate eta Q(1) lambda),
    explicit elsewhere; Sigma is the one that meets the constraint at the end of the substep.  Substeps are at most half
    a step, at most 1/(eta Q(1) lambda) for the largest lambda that is followed and not critical, and such that the
    local error, half of the change of velocity from one substep to the next, is about `tolerance` of the velocity, or
    rounding.

    Other arguments, `init` and `step` as `central_map_steps`.  Rules with memory have stiff flows: eta Q(1) T is
    2 (1 + b)/(1 - b) for momentum b.  Cost: that of a central map's step for each substep, and
    a gradient.
    Source: Cohen, Damian et al., arXiv:2410.24206, for GD and RMSProp; with a filter: `theory.central_flow_law`.
    """
    share = float(curvature_penalty)
    rule = averaged_rule(transform, problem.params, known, "the central flow")

    def init(params: PyTree, state: PyTree = None) -> CentralFlowState:
        mean = MeanState(params, transform.init(params) if state is None else state, begin_track(params, count))
        w = rule.flat(params)
        return CentralFlowState(mean, jnp.full_like(w, jnp.nan), jnp.asarray(FIRST, w.dtype))

    def substep(start: CentralFlowState, left: Array) -> tuple[CentralFlowState, Array, Predictions]:
        return exponential_euler(problem, rule, start, left, count, share, tolerance)

    @fully_precise
    def step(start: CentralFlowState) -> tuple[CentralFlowState, Predictions]:
        one = jnp.ones((), start.velocity.dtype)

        def advanced(done: _Underway) -> _Underway:
            there, h, predictions = substep(done.now, one - done.time)
            first = jax.tree.map(lambda a, b: jnp.where(done.cost.substeps == 0, b, a), done.first, predictions)
            cost = jax.tree.map(jnp.add, done.cost, predictions.cost)
            return _Underway(there, done.time + h, first, cost, done.sound & predictions.converged)

        shapes = jax.eval_shape(lambda: substep(start, one)[2])
        unknown = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        # the gradient that no substep takes is the one at the end, for what is neither weights nor slow state
        begin = _Underway(start, 0 * one, unknown, unknown.cost._replace(gradients=jnp.ones((), jnp.int32)), one == 1)
        done = lax.while_loop(lambda part: (part.time < 1 - 1e-6) & (part.cost.substeps < MOST), advanced, begin)
        params, state = start.mean.params, start.mean.state
        after = transform.update(problem.gradient(params), state, params)[1]
        after = rule.with_slow(after, rule.slow(done.now.mean.state))
        there = done.now._replace(mean=done.now.mean._replace(state=after))
        complete = done.time >= 1 - 1e-6  # not where the substeps were too many
        return there, done.first._replace(cost=done.cost, converged=done.sound & complete)

    return Kernel(init, step)


def exponential_euler(
    problem: Problem,
    rule: MeanStep,
    now: CentralFlowState,
    left: Array,
    count: int,
    share: float,
    tolerance: ArrayLike,
) -> tuple[CentralFlowState, Array, Predictions]:
    """One substep of the flow, not longer than the time `left` () to the end of the step: where it leads, its length
    () and the predictions at its beginning.  `share` of the curvature penalty acts; the others as `central_flow_steps`.
    """
    w, slow = rule.flat(now.mean.params), rule.slow(now.mean.state)
    local, track = geometry(problem, rule, now.mean, count)
    used, rates, nothing = rule.edge_like(w), stiffness(rule, local), jnp.zeros_like(w)
    fastest = used.gain * local.noncritical_ratio() * used.threshold + used.decay
    pieces = jnp.maximum(jnp.ceil(left * jnp.maximum(1 / now.proposed, fastest) * (1 - 1e-6)), 1)
    h = left / pieces
    relaxed = jnp.where(local.critical, -jnp.expm1(-h * rates) / rates, 0)

    def own(inverse: Array) -> Array:
        """h times the velocity of the stable flow at this diagonal of P^-1."""
        return -h * (inverse * used.gain * (local.gradient + used.coupled * w) + used.decay * w)

    free = displaced(rule, local, w, own(local.inverse), nothing, h, relaxed)
    solution = balance(rule, local, free, h, relaxed, share)
    leaves = local.slow_with(solution.X)
    inverse = rule.inverse(local.gradient, now.mean.state, w, leaves)
    kept = local._replace(inverse=inverse)
    moved = displaced(rule, kept, w, own(inverse), share * local.push(solution.X), h, relaxed)
    between = [old + (h * (new - old)).astype(old.dtype) for new, old in zip(leaves, slow, strict=True)]
    mean = MeanState(rule.tree(w + moved), rule.with_slow(now.mean.state, between), track)
    proposed = _next_length(h, moved, now.velocity, w, tolerance)
    return CentralFlowState(mean, moved / h, proposed), h, predictions_with(now.mean, local, solution, inverse, 1, 1)


def _next_length(h: Array, moved: Array, velocity: Array, w: Array, tolerance: ArrayLike) -> Array:
    """The length () of the next substep, from the local error of one of length `h` that moved the weights by `moved`
    after another with this `velocity`."""
    noise = 4 * jnp.finfo(w.dtype).eps * jnp.linalg.norm(w)  # at rest, where all change of velocity is rounding
    error = jnp.maximum(jnp.linalg.norm(moved - h * velocity) / 2 - noise, 0)
    change = error / jnp.linalg.norm(moved)
    change = jnp.where(jnp.isfinite(change), change, 0)
    factor = jnp.clip(jnp.asarray(tolerance, w.dtype) / jnp.maximum(change, 1e-6), 0.25, 2)
    return jnp.clip(h * factor, 1 / MOST, LONGEST)


MODEL = Model(
    name="central_flow",
    steps=central_flow_steps,
    covers=Coverage.flip,
    appearance=Appearance("central flow", "#0072b2", "-", "o"),
)
