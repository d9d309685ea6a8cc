"""The central map: the optimizer's own step, with the oscillation at the edge averaged out."""

from typing import Any

import jax.numpy as jnp
import optax

from toylab.curvature import begin_track
from toylab.models.kernel import Kernel
from toylab.models.mean_step import averaged_rule
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.oscillation import MeanState, balance, displaced, geometry, predictions_with, stiffness
from toylab.models.predictions import Predictions
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any


def central_map_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 4,
    curvature_penalty: bool = True,
) -> Kernel:
    """Kernel of the central map of any rule with a linear edge; one step for one step of the optimizer.

    With P the preconditioner of the rule's own step, T the threshold of lambda(P^-1 H), U the critical eigenvectors
    (U^T P U = I) and g = grad L, the mean of the weights moves

    - off the critical directions by the optimizer's own step, momentum and all, and by the penalty of the oscillation
      with the rule's gain at rest, -eta Q(1) P^-1 grad tr(H Sigma)/2;
    - on them to where the mean force vanishes, a Newton step: -U (U^T H U)^-1 U^T (g + grad tr(H Sigma)/2), because
      there the rule's own step is the oscillation that is averaged out;

    while the slow state (second moments) takes the average of its own update over the oscillation, and Sigma = U X U^T
    is the covariance that keeps T P - H >= 0 after the step: see `oscillation.balance`.  With decay, g stands for the
    force that includes it.  Where no eigenvalue is above .95 T the map is the optimizer itself.

    `init(params, state=None)`: the weights and the optimizer's state to start from (None: a fresh one); `step` gives
    the `Predictions` of the point that it leaves.  `known`: what `toylab.rules.edge.edge_data` says of the rule, if
    that is known or differs between members of a sweep.  `count`: how many eigenvalues are followed, and may become
    critical. `curvature_penalty` False deletes grad tr(H Sigma)/2: only P answers to the oscillation (no use without a
    P). Assumes: rules whose slow leaves are smooth functions of the gradient; P and H change little in one period of
    the oscillation; the memory of the fast state is short against the envelope of the oscillation.  The penalty acts at
    once, not through the fast state, and the Newton step stands ahead of the rule's mean by `newton_lag_error` of
    `theory.central_map_law`: less than what the minimum of the mean force moves in one step.
    Cost: one gradient, about `count` Hessian products, n (n + 1)/2 third derivatives with n critical directions.
    Raises NoLinearEdge (a ValueError) for a rule without an edge, or whose edge is no flip.
    """
    share = float(curvature_penalty)
    rule = averaged_rule(transform, problem.params, known, "the central map")

    def init(params: PyTree, state: PyTree = None) -> MeanState:
        return MeanState(params, transform.init(params) if state is None else state, begin_track(params, count))

    @fully_precise
    def step(start: MeanState) -> tuple[MeanState, Predictions]:
        w = rule.flat(start.params)
        local, track = geometry(problem, rule, start, count)
        relaxed = jnp.where(local.critical, 1 / stiffness(rule, local), 0)
        own, _ = rule.step(local.gradient, start.state, w, local.slow)
        solution = balance(
            rule, local, displaced(rule, local, w, own, jnp.zeros_like(w), 1, relaxed), 1, relaxed, share
        )
        slow = local.slow_with(solution.X)
        inverse = rule.inverse(local.gradient, start.state, w, slow)
        own, after = rule.step(local.gradient, start.state, w, slow)
        moved = w + displaced(rule, local._replace(inverse=inverse), w, own, share * local.push(solution.X), 1, relaxed)
        return MeanState(rule.tree(moved), after, track), predictions_with(start, local, solution, inverse, 1, 1)

    return Kernel(init, step)


MODEL = Model(
    name="central_map",
    steps=central_map_steps,
    covers=Coverage.flip,
    appearance=Appearance("central map", "#d55e00", "-", "D"),
)
