"""How fast an oscillation grows a step at a given edge ratio, from the built optimizer's own held step."""

import numpy as np
from numpy.typing import ArrayLike

from toylab.rules.filter import Filter


def growth_rates(rule: Filter, ratios: ArrayLike) -> np.ndarray:
    """log|mu(r)| for each edge ratio r = lambda(P^-1 H)/threshold, any shape: mu is the largest multiplier of the held
    step on an eigendirection of that ratio; -inf where everything is gone after one step.

    H includes coupled decay, as in `Filter`.  Assumes that the ratio changes slowly against the rule's memory.  The
    formulas behind it, for rules with two roots: `theory.growth_law`.  Raises ValueError for a rule without an edge.
    """
    if not np.isfinite(rule.threshold):
        raise ValueError(
            "growth_rates: this rule is stable at every curvature, needs one with an edge to take ratios to"
        )
    curvatures = rule.threshold * np.asarray(ratios, float).reshape(-1)
    held = np.zeros((curvatures.size, 1 + len(rule.b), 1 + len(rule.b)))
    held[:, 0, 0], held[:, 0, 1:] = 1 - rule.decay + rule.d * curvatures, rule.c
    held[:, 1:, 0], held[:, 1:, 1:] = rule.b * curvatures[:, None], rule.A
    with np.errstate(divide="ignore"):
        return np.log(np.abs(np.linalg.eigvals(held)).max(axis=-1)).reshape(np.shape(ratios))
