"""The stable flow: a rule's averaged motion without any oscillation, as if the edge were not there."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track, follow
from toylab.models.kernel import Kernel
from toylab.models.mean_step import MeanStep
from toylab.models.predictions import Averages
from toylab.numerics.full_precision import fully_precise
from toylab.numerics.runge_kutta_chebyshev import REACH, chebyshev_step, most_stages, stages_for
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.rules.preconditioner import with_coupled_decay

PyTree = Any

SUBSTEPS = 4
"""Of one step, at least.  What is not stiff has local errors of at most (h lambda)^3/6, h = 1/4; of what is stiff and
was not at rest, up to .8 may be left after a step."""

MOST = 100
"""Substeps at most: what a curvature that runs away cannot exceed."""

ROOM = 4 / 3
"""The largest eigenvalue may rise by this factor within a step."""


class Smooth(NamedTuple):
    """Weights, the optimizer's state (its fast leaves are not used), and the memory of the top eigenpairs."""

    params: PyTree
    state: PyTree
    track: Track


def stable_flow_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    measured: tuple[RuleStructure, EdgeData] | None = None,
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
    structure, numbers = edge_data(transform, problem.params) if measured is None else measured
    rule = MeanStep(transform, structure, numbers, problem.params)

    def init(params: PyTree, state: PyTree = None) -> Smooth:
        return Smooth(params, transform.init(params) if state is None else state, begin_track(params, count))

    @fully_precise
    def step(now: Smooth) -> tuple[Smooth, Averages]:
        w, slow = rule.flat(now.params), rule.slow(now.state)
        used = rule.edge_like(w)
        loss, grads, hessian = problem.expanded(now.params)
        gradient = rule.flat(grads)
        inverse = rule.inverse(gradient, now.state, w, rule.updated(gradient, now.state, w))

        felt = with_coupled_decay(hessian, used.coupled)
        pairs, track = follow(felt, now.track, now.params, inverse_preconditioner=rule.tree(inverse))

        def velocity(point: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            weights, leaves = point
            state = rule.with_slow(now.state, leaves)
            g = rule.flat(problem.gradient(rule.tree(weights)))
            after = rule.updated(g, state, weights)
            diagonal = rule.inverse(g, state, weights, after)
            rate = -diagonal * used.gain * (g + used.coupled * weights) - used.decay * weights
            return rate, [new - old for new, old in zip(after, leaves, strict=True)]

        rate = ROOM * (used.gain * pairs.value[0] + used.decay)
        reach = REACH * (most_stages(w.dtype) ** 2 - 1)
        pieces = jnp.clip(jnp.nan_to_num(jnp.ceil(rate / reach), nan=MOST, posinf=MOST), SUBSTEPS, MOST)
        stages = stages_for(jnp.nan_to_num(rate / pieces, nan=0, posinf=0))

        def substep(_: int, point: PyTree) -> PyTree:
            return chebyshev_step(velocity, point, 1 / pieces, stages)

        moved, leaves = lax.fori_loop(0, pieces.astype(jnp.int32), substep, (w, slow))
        after = rule.with_slow(transform.update(grads, now.state, now.params)[1], leaves)
        found = Averages(
            params=now.params,
            loss=loss,
            mean_loss=loss,
            mean_square=gradient @ gradient,
            edge_ratios=pairs.value / used.threshold,
            critical=jnp.zeros((), jnp.int32),
            variances=jnp.zeros_like(pairs.value),
            axes=jnp.zeros((pairs.value.size, w.size), w.dtype),
            residual=jnp.zeros_like(loss),
            converged=pairs.converged[0] & (rate <= pieces * reach),
            substeps=pieces.astype(jnp.int32),
            gradients=1 + pieces.astype(jnp.int32) * stages,
            products=pairs.products,
            thirds=jnp.zeros((), jnp.int32),
        )
        return Smooth(rule.tree(moved), after, track), found

    return Kernel(init, step)
