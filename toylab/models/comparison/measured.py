"""The optimizer's own run, and everything of it that models are compared with."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from toylab.curvature import Track, begin_track
from toylab.models.kernel import Kernel
from toylab.models.look import edge_ratios, leading_pairs, reciprocal
from toylab.models.mean_step import MeanStep
from toylab.models.optimizer import BetweenSteps, passages
from toylab.numerics.period_two import midpoint, oscillation
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any


class Measured(NamedTuple):
    """The optimizer's run, one entry a step t = 1, 2, ... (the step leaves w_t; t = 0 has no midpoint).

    `midpoint` (T/every, p): (w_{t-1} + 2 w_t + w_{t+1})/4, every so many steps. `loss`, `square` (T,): L and |grad L|^2
    at w_t. `edge_ratios` (T, K): at the midpoint, with P of the step from w_t. `variance` (T,): o^T P o with o =
    (w_{t-1} - 2 w_t + w_{t+1})/4, what oscillates with period two.
    """

    midpoint: Array
    loss: Array
    square: Array
    edge_ratios: Array
    variance: Array


def measured_steps(
    problem: Problem, transform: optax.GradientTransformation, known: tuple[RuleStructure, EdgeData], count: int
) -> Kernel:
    """Kernel of the optimizer with what is `Measured` of it at t = 1, 2, ..., where `count` eigenvalues are followed.

    `init(params, state)`; `known`: the rule's structure and edge data, see `toylab.rules.edge.edge_data`.
    Cost: two gradients and about `count` Hessian products a step.
    """
    rule, optimizer = MeanStep(transform, *known, problem.params), passages(problem, transform)

    def init(params: PyTree, state: PyTree) -> tuple[BetweenSteps, Track]:
        return optimizer.init(params, state), begin_track(params, count)

    def step(state: tuple[BetweenSteps, Track]) -> tuple[tuple[BetweenSteps, Track], Measured]:
        after, passed = optimizer.step(state[0])
        three = [rule.flat(part) for part in (passed.before, passed.params, passed.following)]
        w, gradient = three[1], rule.flat(passed.grads)
        inverse = rule.inverse(gradient, passed.state, w, rule.updated(gradient, passed.state, w))
        smooth = midpoint(*three)
        hessian = problem.hessian(rule.tree(smooth))
        pairs, track = leading_pairs(rule, hessian, inverse, state[1], passed.params)
        variance = reciprocal(inverse) @ jnp.square(oscillation(*three))
        return (after, track), Measured(smooth, passed.loss, gradient @ gradient, edge_ratios(rule, pairs), variance)

    return Kernel(init, step)
