"""Central models on quadratics: below the edge the central map is the optimizer, and at the edge not every adaptive
rule comes to the rest that a central flow describes.
"""

from __future__ import annotations

import numpy as np
import optax
from scipy.optimize import brentq

import theory
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality
from toylab.experiments.central_quadratics import Below, mapped_distances, momenta_at_rest, optimized_distances
from toylab.filters import held_filter
from toylab.optimizers import NAMED

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206); the central map: here"


RULES = ("heavy_ball",)
"""One with memory: each costs a compilation, and the tests go through more."""


def _below(random: np.random.Generator, tier: str) -> tuple[Below, ...]:
    quadratics = []
    for rule in RULES:
        rate = float(random.uniform(0.05, 0.5))
        curvatures = random.uniform(0.05, 0.9, 3) * held_filter(NAMED[rule](learning_rate=rate)).threshold
        quadratics.append(Below(rule, rate, tuple(map(float, curvatures)), tuple(map(float, random.normal(size=3)))))
    return tuple(quadratics)


IS_THE_OPTIMIZER = Claim(
    id="flows/below_the_edge",
    tier="default",
    statement="where no eigenvalue is near the edge the central map is the optimizer itself, momentum and all",
    source="the central map's definition",
    comparison=equality(1e-9, "rounding of forty steps of two programs that order sums differently"),
    draw=_below,
    predicted=mapped_distances,
    measure=optimized_distances,
)


def _second_moments(random: np.random.Generator, tier: str) -> tuple[float, ...]:
    return tuple(float(value) for value in random.uniform(0.9, 0.99, 3))


def _last_at_rest(sample: tuple[float, ...]) -> dict[str, float]:
    """The momentum up to which all conditions for a stable 2-cycle are positive."""
    law = theory.balance_law(optax.adam)
    conditions = [law.numeric(name) for name in law.expressions if name.startswith("condition")]

    def least(b1: float, b2: float) -> float:
        return min(float(condition(b1=b1, b2=b2)) for condition in conditions)

    return {f"b2 = {b2:.4f}": brentq(least, 0.01, 0.9, args=(b2,)) for b2 in sample}


COMES_TO_REST = Claim(
    id="flows/comes_to_rest",
    tier="quick",
    statement="near its 2-cycle at the edge Adam comes to rest only if its momentum is below the derived bound, .17 to "
    ".18; beyond it circles the edge, so that a central flow describes an average that is never at rest",
    source="theory.balance_law, derived from optax.adam's own step",
    comparison=bracket(
        0.0,
        "the grid of momenta brackets the change by itself",
        ceiling=Ceiling(0.03, "two steps of the grid, .0025 each, relative to .18"),
    ),
    draw=_second_moments,
    predicted=_last_at_rest,
    measure=momenta_at_rest,
    finding="from a generic start Adam circles from b1 = .14 to .16 on: up to the bound rest and circling both are "
    "stable",
)

CLAIMS = [IS_THE_OPTIMIZER, COMES_TO_REST]
