"""The rod flow: two consecutive iterates as the ends of a rod that moves and turns smoothly."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.curvature import Track, begin_track
from toylab.models.kernel import Kernel
from toylab.models.look import look_at
from toylab.models.mean_step import averaged_rule
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.predictions import Cost, Predictions, principal
from toylab.models.rod_equations import (
    HeldRule,
    Phase,
    RodPoint,
    alternating,
    ends,
    first_displacement,
    half_rod,
    mean_of_ends,
    unit,
    velocity,
    with_fast,
)
from toylab.numerics.fixed_steps import heun
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any

SUBSTEPS = 4
"""Substeps of one step: stable wherever the rule is, and up to 1.56 times the edge of gradient descent, see
`rod_flow_steps`."""


class RodFlowState(NamedTuple):
    """The middle (weights and the optimizer's state), half of the rod, `half` like the weights and `fast` like the
    state's fast leaves, and the memory of the top eigenpair: the ends are middle + half and middle - half."""

    params: PyTree
    state: PyTree
    half: PyTree
    fast: list[Array]
    track: Track


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

    def init(params: PyTree, state: PyTree = None, half: PyTree = None) -> RodFlowState:
        state = transform.init(params) if state is None else state
        held = HeldRule(rule, state)
        if half is None:
            rod = first_displacement(problem, held, params)
        else:
            rod = alternating(problem, held, params, rule.flat(half))
        return RodFlowState(params, state, rule.tree(rod.weights), rod.fast, begin_track(params, count))

    @fully_precise
    def step(start: RodFlowState) -> tuple[RodFlowState, Predictions]:
        held = HeldRule(rule, start.state)
        middle, half = Phase(rule.flat(start.params), held.fast(start.state)), Phase(rule.flat(start.half), start.fast)
        points = ends(middle, half)
        losses, grads = lax.map(lambda weights: problem.value_and_gradient(rule.tree(weights)), points.weights)
        gradients = jax.vmap(rule.flat)(grads)
        slow = held.mean_slow(gradients, points, rule.slow(start.state))
        look, track = look_at(problem, rule, start.params, start.state, start.track, slow)
        metric = held.metric(slow, look.preconditioner)

        def part(_: Array, point: RodPoint) -> RodPoint:
            there = heun(lambda at: velocity(problem, held, at, metric), point, 1 / substeps)
            return there._replace(direction=unit(there.direction, metric, there.direction)[0])

        own = held.moves(look.gradient, middle, slow)
        direction, size = unit(half, metric, unit(own, metric, own)[0])
        end = lax.fori_loop(0, substeps, part, RodPoint(middle, rule.slow(start.state), direction, size))
        counted = transform.update(look.grads, start.state, start.params)[1]  # for what is neither slow nor fast
        after = with_fast(rule, rule.with_slow(counted, end.slow), end.middle.fast)
        rod = half_rod(end)
        reached = RodFlowState(rule.tree(end.middle.weights), after, rule.tree(rod.weights), rod.fast, track)
        variances, axes = principal(look.preconditioner, half.weights[None])
        predictions = Predictions.of(
            start.params,
            look.loss,
            look.edge_ratios,
            mean_loss=mean_of_ends(losses),
            mean_square=mean_of_ends(jnp.sum(gradients**2, axis=1)),
            critical=1,
            variances=variances,
            axes=axes,
            converged=look.pairs.converged[0],
            cost=Cost(substeps, 3 + 4 * substeps, look.pairs.products + 4 * substeps),
        )
        return reached, predictions

    return Kernel(init, step)


MODEL = Model(
    name="rod_flow",
    steps=rod_flow_steps,
    covers=Coverage.flip,
    appearance=Appearance("rod flow", "#009e73", (0, (4.5, 2.0)), "^"),
)
