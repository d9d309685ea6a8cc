"""The stable flow: a rule's averaged motion without any oscillation, as if the edge were not there."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track
from toylab.models.kernel import Kernel
from toylab.models.look import look_at
from toylab.models.mean_step import MeanStep
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.predictions import Cost, Predictions
from toylab.numerics.full_precision import fully_precise
from toylab.numerics.runge_kutta_chebyshev import REACH, chebyshev_step, most_stages, stages_for
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data

PyTree = Any

SUBSTEPS = 4
"""The fewest substeps of one step.  A mode that is not stiff has local errors of at most (h lambda)^3/6, h = 1/4; a
stiff mode that was not at rest may keep up to .8 of its size after a step."""

MOST = 100
"""The most substeps of one step: a bound that a curvature that runs away cannot exceed."""

ROOM = 4 / 3
"""The factor by which the largest eigenvalue may rise within a step."""


class StableFlowState(NamedTuple):
    """Weights, the optimizer's state (its fast leaves are not used), and the memory of the top eigenpairs."""

    params: PyTree
    state: PyTree
    track: Track


def stable_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 1,
) -> Kernel:
    """Kernel of the flow w' = -P(n+)^-1 [eta Q(1) grad L + decay P w], n' = n+ - n; one step advances time by 1.

    n the slow state and n+(n, grad L) what the rule's own update makes of it, in which P is taken: for a second moment,
    nu' = (1 - b2)(g^2 - nu) = ((1 - b2)/b2)(g^2 - nu+), nu+ the one that is used.
    Memory (momentum) is eliminated: a constant gradient moves the weights by eta Q(1) P^-1 g a step.  For
    gradient descent this is gradient flow.  Counters stand still within a step.

    Four substeps of the Runge-Kutta-Chebyshev method of order 2 (Sommeijer, Shampine & Verwer 1997), with as many
    stages as keep the stiffest direction stable: about (1 + n/2)^1/2 for n = eta Q(1) lambda_max(P^-1 H), lambda as it
    is at the beginning of the step, plus a third; more substeps where stages would be too many for the precision.
    `converged` is False where 100 substeps are not enough.
    Arguments, `init` and `step` as `central_map_steps`; predictions are of a path that does not oscillate.
    Cost: a gradient a stage and about `count` Hessian products a step.
    Source: Cohen, Damian et al., arXiv:2410.24206, "stable flow".
    """
    structure, numbers = edge_data(transform, problem.params) if known is None else known
    rule = MeanStep(transform, structure, numbers, problem.params)

    def init(params: PyTree, state: PyTree = None) -> StableFlowState:
        return StableFlowState(params, transform.init(params) if state is None else state, begin_track(params, count))

    @fully_precise
    def step(start: StableFlowState) -> tuple[StableFlowState, Predictions]:
        w, slow = rule.flat(start.params), rule.slow(start.state)
        used = rule.edge_like(w)
        look, track = look_at(problem, rule, start.params, start.state, start.track)

        def velocity(point: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            weights, leaves = point
            state = rule.with_slow(start.state, leaves)
            g = rule.flat(problem.gradient(rule.tree(weights)))
            after = rule.updated(g, state, weights)
            diagonal = rule.inverse(g, state, weights, after)
            rate = -diagonal * used.gain * (g + used.coupled * weights) - used.decay * weights
            return rate, [new - old for new, old in zip(after, leaves, strict=True)]

        rate = ROOM * (used.gain * look.pairs.value[0] + used.decay)
        reach = REACH * (most_stages(w.dtype) ** 2 - 1)
        pieces = jnp.clip(jnp.nan_to_num(jnp.ceil(rate / reach), nan=MOST, posinf=MOST), SUBSTEPS, MOST)
        stages = stages_for(jnp.nan_to_num(rate / pieces, nan=0, posinf=0))

        def substep(_: int, point: PyTree) -> PyTree:
            return chebyshev_step(velocity, point, 1 / pieces, stages)

        moved, leaves = lax.fori_loop(0, pieces.astype(jnp.int32), substep, (w, slow))
        after = rule.with_slow(transform.update(look.grads, start.state, start.params)[1], leaves)
        predictions = Predictions.of(
            start.params,
            look.loss,
            look.edge_ratios,
            mean_loss=look.loss,
            mean_square=look.gradient @ look.gradient,
            critical=0,
            variances=jnp.zeros_like(look.edge_ratios),
            axes=jnp.zeros((look.edge_ratios.size, w.size), w.dtype),
            residual=jnp.zeros_like(look.loss),
            converged=look.pairs.converged[0] & (rate <= pieces * reach),
            cost=Cost(pieces, 1 + pieces.astype(jnp.int32) * stages, look.pairs.products),
        )
        return StableFlowState(rule.tree(moved), after, track), predictions

    return Kernel(init, step)


MODEL = Model(
    name="stable_flow",
    steps=stable_flow_steps,
    covers=Coverage.linear_edge,
    appearance=Appearance("stable flow", "#767676", (0, (1.0, 1.3)), "s"),
)
