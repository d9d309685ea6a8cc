"""The edge flow: gradient descent as a centre, a direction of oscillation and its size, three coupled equations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track, follow
from toylab.models.kernel import Kernel
from toylab.models.mean_step import MeanStep
from toylab.models.oscillation import reciprocal
from toylab.models.predictions import Averages, principal
from toylab.models.rod_flow import heun
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.rules.preconditioner import with_coupled_decay

PyTree = Any

SUBSTEPS = 2
"""Of one step: stable up to eta lambda = 4, twice the edge."""


class Swing(NamedTuple):
    """Centre, the optimizer's state (at most counters), the unit `direction` like the weights and the logarithm of the
    size of the oscillation, and the memory of the top eigenpair: the iterates are centre +- exp(size) direction."""

    params: PyTree
    state: PyTree
    direction: PyTree
    size: Array
    track: Track


def edge_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    measured: tuple[RuleStructure, EdgeData] | None = None,
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
    eigenvalues followed at the centre; there are no constraints: `residual` is NaN.  `measured`: see
    `central_map_steps`.  Cost: 3 + 4 `substeps` gradients, 2 `substeps` Hessian products and what `follow` needs.

    Raises ValueError for a rule that is not plain gradient descent (one learning rate or schedule, weight decay
    allowed), and for fewer than one substep.
    Source: Marion, arXiv:2606.18080, abstract; the equations are reconstructed from it.
    """
    if substeps < 1:
        raise ValueError(f"edge_flow_steps: got substeps={substeps}, needs at least 1: {SUBSTEPS} are stable")
    structure, numbers = edge_data(transform, problem.params) if measured is None else measured
    memory = len(structure.roles.slow) + len(structure.roles.fast)
    if memory or structure.delay:
        raise ValueError(
            f"edge_flow_steps: got a rule with {memory} leaves of memory, needs plain gradient descent, a rule without "
            "state whose filter is constant: try rod_flow_steps"
        )
    rule = MeanStep(transform, structure, numbers, problem.params)
    h = 1 / substeps

    def update(gradient: Array, state: PyTree, weights: Array) -> Array:
        return rule.step(gradient, state, weights, [])[0]

    def init(params: PyTree, state: PyTree = None, half: PyTree = None) -> Swing:
        state = transform.init(params) if state is None else state
        w = rule.flat(params)
        if half is None:
            start = update(rule.flat(problem.gradient(params)), state, w) / 2
        else:
            start = rule.flat(half)
        length = jnp.linalg.norm(start)
        direction = jnp.where(length > 0, start / jnp.where(length > 0, length, 1), jnp.zeros_like(w).at[0].set(1))
        size = jnp.log(jnp.maximum(length, _least(w)))
        return Swing(params, state, rule.tree(direction), size, begin_track(params, count))

    @fully_precise
    def step(now: Swing) -> tuple[Swing, Averages]:
        w, v = rule.flat(now.params), rule.flat(now.direction)
        used = rule.edge_like(w)
        rod = jnp.exp(now.size) * v
        both = jnp.stack([w + rod, w - rod])
        losses, grads = lax.map(lambda end: problem.value_and_gradient(rule.tree(end)), both)
        squares = jnp.sum(jax.vmap(rule.flat)(grads) ** 2, axis=1)
        loss, here, hessian = problem.expanded(now.params)
        inverse = rule.inverse(rule.flat(here), now.state, w, [])
        pairs, track = follow(
            with_coupled_decay(hessian, used.coupled), now.track, now.params, inverse_preconditioner=rule.tree(inverse)
        )

        def velocity(point: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            w, v, size = point
            rod = jnp.exp(size) * v
            first, second = (rule.flat(problem.gradient(rule.tree(end))) for end in (w + rod, w - rod))
            drift = update((first + second) / 2, now.state, w)
            grown = -2 * v - update(rule.flat(problem.hvp(rule.tree(w), rule.tree(v))), now.state, v)
            return drift, grown - (v @ grown) * v, v @ grown

        def part(_: Array, point: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            w, v, size = heun(velocity, point, h)
            return w, v / jnp.linalg.norm(v), jnp.maximum(size, jnp.log(_least(w)))

        moved, turned, size = lax.fori_loop(0, substeps, part, (w, v, now.size))
        state = transform.update(here, now.state, now.params)[1]
        variances, axes = principal(reciprocal(inverse), rod[None])
        found = Averages(
            params=now.params,
            loss=loss,
            mean_loss=(losses[0] + losses[1]) / 2,
            mean_square=(squares[0] + squares[1]) / 2,
            edge_ratios=pairs.value / used.threshold,
            critical=jnp.ones((), jnp.int32),
            variances=variances,
            axes=axes,
            residual=jnp.full_like(loss, jnp.nan),
            converged=pairs.converged[0],
            substeps=jnp.asarray(substeps, jnp.int32),
            gradients=jnp.asarray(3 + 4 * substeps, jnp.int32),
            products=pairs.products + 2 * substeps,
            thirds=jnp.zeros((), jnp.int32),
        )
        return Swing(rule.tree(moved), state, rule.tree(turned), size, track), found

    return Kernel(init, step)


def _least(weights: Array) -> Array:
    """The smallest size of an oscillation: the rounding of the weights."""
    info = jnp.finfo(weights.dtype)
    return jnp.maximum(info.eps * jnp.linalg.norm(weights), info.tiny)
