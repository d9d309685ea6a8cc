"""The edge flow: gradient descent as a centre, a direction of oscillation and its size, three coupled equations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track
from toylab.models.kernel import Kernel
from toylab.models.look import look_at
from toylab.models.mean_step import MeanStep
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.predictions import Cost, Predictions, principal
from toylab.numerics.fixed_steps import heun
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data

PyTree = Any

SUBSTEPS = 2
"""Substeps of one step: stable up to eta lambda = 4, twice the edge."""


class EdgeFlowState(NamedTuple):
    """Centre, the optimizer's state (at most counters), the unit `direction` like the weights and the logarithm of the
    size of the oscillation, and the memory of the top eigenpair: the iterates are centre +- exp(size) direction."""

    params: PyTree
    state: PyTree
    direction: PyTree
    size: Array
    track: Track


class EdgePoint(NamedTuple):
    """A point of the flow, or its velocity: flat weights (p,) of the centre, the unit direction (p,) and the
    logarithm () of the size of the oscillation."""

    weights: Array
    direction: Array
    size: Array


def edge_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 1,
    substeps: int = SUBSTEPS,
) -> Kernel:
    """Kernel of the edge flow of gradient descent; one step advances time by 1, one optimizer step.

        w' = -(eta/2) [g(w + r v) + g(w - r v)],    v' = eta (I - v v^T) H v,    r' = r (eta v^T H v - 2),

    g the gradient and H the Hessian at the centre w, |v| = 1.  The rate eta of the direction is our choice, the one at
    which the oscillation of gradient descent itself turns near the edge: r v obeys x' = (eta H - 2) x.  The size grows
    by the curvature at the centre, so only the motion of the centre stabilises it: where the loss is even around the
    centre it grows for ever above the edge, see `rod_flow_steps` for a model that saturates.  It is not let below
    eps |w|, the rounding of the weights, from which real iterates would start again.

    Heun's method in `substeps` equal parts.  `init(params, state=None, half=None)`: the centre, the optimizer's state,
    and r v (like the weights); None is half of the optimizer's first displacement, v the first axis where that is zero.
    Predictions: `mean_loss` and `mean_square` over w +- r v, `variances` (1,) = r^2, `edge_ratios` of the `count`
    eigenvalues followed at the centre; there are no constraints: `residual` is NaN.  `known`: see
    `central_map_steps`.  Cost: 3 + 4 `substeps` gradients, 2 `substeps` Hessian products and what `follow` needs.

    Raises ValueError for a rule that is not plain gradient descent (one learning rate or schedule, weight decay
    allowed), and for fewer than one substep.
    Source: Marion, arXiv:2606.18080, abstract; the equations are reconstructed from it.
    """
    if substeps < 1:
        raise ValueError(f"edge_flow_steps: got substeps={substeps}, needs at least 1: {SUBSTEPS} are stable")
    structure, numbers = edge_data(transform, problem.params) if known is None else known
    memory = len(structure.roles.slow) + len(structure.roles.fast)
    if memory or structure.delay:
        raise ValueError(
            f"edge_flow_steps: got a rule with {memory} leaves of memory, needs plain gradient descent, a rule without "
            "state whose filter is constant: try rod_flow_steps"
        )
    rule = MeanStep(transform, structure, numbers, problem.params)

    def init(params: PyTree, state: PyTree = None, half: PyTree = None) -> EdgeFlowState:
        state = transform.init(params) if state is None else state
        w = rule.flat(params)
        if half is None:
            start = rule.step(rule.flat(problem.gradient(params)), state, w, [])[0] / 2
        else:
            start = rule.flat(half)
        length = jnp.linalg.norm(start)
        direction = jnp.where(length > 0, start / jnp.where(length > 0, length, 1), jnp.zeros_like(w).at[0].set(1))
        size = jnp.log(jnp.maximum(length, _least(w)))
        return EdgeFlowState(params, state, rule.tree(direction), size, begin_track(params, count))

    @fully_precise
    def step(start: EdgeFlowState) -> tuple[EdgeFlowState, Predictions]:
        w, v = rule.flat(start.params), rule.flat(start.direction)
        rod = jnp.exp(start.size) * v
        both = jnp.stack([w + rod, w - rod])
        losses, grads = lax.map(lambda end: problem.value_and_gradient(rule.tree(end)), both)
        squares = jnp.sum(jax.vmap(rule.flat)(grads) ** 2, axis=1)
        look, track = look_at(problem, rule, start.params, start.state, start.track)

        def part(_: Array, point: EdgePoint) -> EdgePoint:
            there = heun(lambda at: velocity(problem, rule, start.state, at), point, 1 / substeps)
            unit = there.direction / jnp.linalg.norm(there.direction)
            return EdgePoint(there.weights, unit, jnp.maximum(there.size, jnp.log(_least(there.weights))))

        end = lax.fori_loop(0, substeps, part, EdgePoint(w, v, start.size))
        state = transform.update(look.grads, start.state, start.params)[1]
        variances, axes = principal(look.preconditioner, rod[None])
        predictions = Predictions.of(
            start.params,
            look.loss,
            look.edge_ratios,
            mean_loss=(losses[0] + losses[1]) / 2,
            mean_square=(squares[0] + squares[1]) / 2,
            critical=1,
            variances=variances,
            axes=axes,
            converged=look.pairs.converged[0],
            cost=Cost(substeps, 3 + 4 * substeps, look.pairs.products + 2 * substeps),
        )
        return EdgeFlowState(rule.tree(end.weights), state, rule.tree(end.direction), end.size, track), predictions

    return Kernel(init, step)


def velocity(problem: Problem, rule: MeanStep, state: PyTree, point: EdgePoint) -> EdgePoint:
    """The right-hand side of the edge flow, see `edge_flow_steps`: (w', v', (log r)').

    `rule.step` takes a gradient g to -eta g, weight decay included; `state`: the optimizer's, for its learning rate.
    """

    def update(gradient: Array, weights: Array) -> Array:
        return rule.step(gradient, state, weights, [])[0]

    w, v, size = point
    rod = jnp.exp(size) * v
    first, second = (rule.flat(problem.gradient(rule.tree(end))) for end in (w + rod, w - rod))
    drift = update((first + second) / 2, w)
    turning = -2 * v - update(rule.flat(problem.hvp(rule.tree(w), rule.tree(v))), v)  # (eta H - 2) v
    return EdgePoint(drift, turning - (v @ turning) * v, v @ turning)


def _least(weights: Array) -> Array:
    """The smallest size of an oscillation: the rounding of the weights."""
    info = jnp.finfo(weights.dtype)
    return jnp.maximum(info.eps * jnp.linalg.norm(weights), info.tiny)


MODEL = Model(
    name="edge_flow",
    steps=edge_flow_steps,
    covers=Coverage.gradient_descent,
    appearance=Appearance("edge flow", "#56b4e9", (0, (4.5, 1.2, 1.0, 1.2)), "v"),
)
