"""One look at a point of a path: loss, gradient, preconditioner, and the largest eigenvalues beside the rule's edge."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from toylab.curvature import EigenPair, Track, follow
from toylab.models.mean_step import MeanStep
from toylab.problems.problem import Problem
from toylab.rules.preconditioner import with_coupled_decay

PyTree = Any


class Look(NamedTuple):
    """Local data of the loss and of a rule at one point with p weights, where K eigenpairs are followed.

    `loss` (); `gradient` (p,), and `grads`, the same gradient as a pytree like the weights; `slow`: the slow leaves of
    the state at which P is read; `inverse` (p,): the diagonal of P^-1 there, 0 for dead coordinates; `pairs`: the K
    largest eigenvalues of P^-1/2 (H + coupled I) P^-1/2 in descending order, with vectors like the weights;
    `edge_ratios` (K,): these eigenvalues over the threshold of the rule.
    """

    loss: Array
    grads: PyTree
    gradient: Array
    slow: list[Array]
    inverse: Array
    pairs: EigenPair
    edge_ratios: Array

    @property
    def preconditioner(self) -> Array:
        """The diagonal (p,) of P, 0 for dead coordinates."""
        return reciprocal(self.inverse)


def look_at(
    problem: Problem, rule: MeanStep, params: PyTree, state: PyTree, track: Track, slow: list[Array] | None = None
) -> tuple[Look, Track]:
    """The `Look` at `params`, and the memory of the eigenpairs for the next point of the same path.

    P is read at the updated slow leaves `slow`; None is what the rule's own step from `state` makes of them.
    Cost: one gradient, and the Hessian products that `toylab.curvature.follow` needs (`pairs.products`).
    """
    w = rule.flat(params)
    loss, grads, hessian = problem.expanded(params)
    gradient = rule.flat(grads)
    slow = rule.updated(gradient, state, w) if slow is None else slow
    inverse = rule.inverse(gradient, state, w, slow)
    pairs, track = leading_pairs(rule, hessian, inverse, track, params)
    return Look(loss, grads, gradient, slow, inverse, pairs, edge_ratios(rule, pairs)), track


def leading_pairs(
    rule: MeanStep, hessian: Callable[[PyTree], PyTree], inverse: Array, track: Track, like: PyTree
) -> tuple[EigenPair, Track]:
    """The largest eigenpairs of P^-1/2 (H + coupled I) P^-1/2 for `hessian` v -> H v on pytrees like `like` and the
    diagonal `inverse` (p,) of P^-1, followed from the last call's `track`: see `toylab.curvature.follow`.
    """
    edge = rule.edge_like(inverse)
    return follow(with_coupled_decay(hessian, edge.coupled), track, like, inverse_preconditioner=rule.tree(inverse))


def edge_ratios(rule: MeanStep, pairs: EigenPair) -> Array:
    """The eigenvalues (K,) over the threshold of the rule."""
    return pairs.value / rule.edge_like(pairs.value).threshold


def reciprocal(diagonal: Array) -> Array:
    """1 over each entry of a diagonal, 0 where it is 0."""
    return jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)
