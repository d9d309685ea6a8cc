"""Mini-batches on a network: how far below the edge of the whole loss they settle, and their batch sharpness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, measurement, sign
from toylab.experiments.mini_batch_runs import (
    EXAMPLES,
    LONG,
    SEEDS,
    SETTLED,
    SHORT,
    batch_sharpness,
    batch_sharpness_with_momentum,
    grid,
    level_rises,
    levels_of_whole_loss,
    settled_levels,
    weights,
    weights_of_whole_batches,
)
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065), appendix on SGD; 2022 (arXiv:2207.14484), section on mini-batches"

SHARPNESS_SOURCE = "Andreyev & Beneventano, arXiv:2412.20553; with momentum arXiv:2604.14108"


WHOLE = Claim(
    id="networks/batch_of_all",
    tier="default",
    statement="a run whose mini-batches hold all examples is the full-batch run",
    source="a mean does not depend on the order of its terms",
    comparison=equality(
        1e-9, "40 steps: sums in another order, whose rounding of 1e-16 Adam magnifies at small gradients", scale=1.0
    ),
    predicted=lambda sample: weights(None),
    measure=weights_of_whole_batches,
)


def _finding_of_levels(measured: Mapping[str, np.ndarray]) -> str:
    each = []
    for name, levels in measured.items():
        sizes = next(of.sizes for grid in (LONG, SHORT) if (of := grid.get(name)) and len(of.sizes) == len(levels))
        listed = ", ".join(
            f"{s}: {v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for s, v in zip(sizes, levels, strict=True)
        )
        each.append(f"{name} {listed}")
    return f"edge ratio of the whole loss by batch size out of {EXAMPLES} examples: " + "; ".join(each)


RISES = Claim(
    id="networks/batch_level_rises",
    tier="long",
    statement="the larger the mini-batches, the higher the edge ratio at which the Hessian of all examples settles, up "
    "to that of the full batch",
    source=SOURCE,
    comparison=sign(
        0.0,
        "any rise of the mean over seeds counts",
        ceiling=Ceiling(5.0, "in logarithms: the levels differ by factors that nothing predicts here"),
        scale=1.0,
    ),
    draw=lambda random, tier: tier,
    predicted=lambda tier: {name: np.ones(len(of.sizes) - 1) for name, of in grid(tier).items()},
    measure=level_rises,
)


LEVELS = Claim(
    id="networks/batch_levels",
    tier="long",
    statement="edge ratios of the Hessian of all examples by batch size",
    source=SOURCE,
    comparison=measurement(),
    draw=lambda random, tier: tier,
    measure=settled_levels,
    finding=_finding_of_levels,
)


# ---------------------------------------------------------------------------------------------------------------
# The batch sharpness


def _edge(sample: Any) -> dict[str, np.ndarray]:
    """eta times the curvature at which gradient descent is unstable."""
    of = SETTLED["SGD"]
    edge = theory.cached_edge(NAMED[of.rule]).at(learning_rate=of.learning_rate).k
    return {f"batches of {size}": np.full(SEEDS, edge) for size in of.sizes}


BATCH_SHARPNESS = Claim(
    id="networks/batch_sharpness",
    tier="long",
    statement="what settles at 2/eta under SGD is the batch sharpness E[g_B'H_B g_B/|g_B|^2], for batches of 1/16 and "
    "of 1/4 of the examples",
    source=SHARPNESS_SOURCE,
    comparison=equality(
        0.08,
        "what is averaged over the last third still rises towards its level: on other seeds it was 2 to 8 per cent "
        "below it after 8,000 to 16,000 steps, 1 to 4 after 16,000 to 24,000",
        ceiling=NETWORK_PLATEAU,
    ),
    predicted=_edge,
    measure=batch_sharpness,
)


BELOW = Claim(
    id="networks/batch_level_below",
    tier="long",
    statement="meanwhile the largest eigenvalue of the whole loss stays below 2/eta",
    source=SHARPNESS_SOURCE,
    comparison=at_most(
        0.02,
        "an edge ratio that fluctuates by a few per cent",
        ceiling=Ceiling(0.5, "by how much it stays below depends on the batch size and is not predicted"),
    ),
    predicted=lambda sample: {f"batches of {size}": np.ones(SEEDS) for size in SETTLED["SGD"].sizes},
    measure=levels_of_whole_loss,
)


def _finding_of_momentum(measured: Mapping[str, np.ndarray]) -> str:
    each = "; ".join(f"{label} {v.mean():.2f} ({v.min():.2f} to {v.max():.2f})" for label, v in measured.items())
    return (
        f"eta times batch sharpness of heavy ball, b = 1/2: {each}; 2 (1 - b) = 1 is reported for small batches and "
        "2 (1 + b) = 3 for large ones"
    )


MOMENTUM = Claim(
    id="networks/batch_sharpness_momentum",
    tier="long",
    statement="batch sharpness of heavy ball with small batches and with the full one",
    source=SHARPNESS_SOURCE,
    comparison=measurement(),
    measure=batch_sharpness_with_momentum,
    finding=_finding_of_momentum,
)


CLAIMS = [WHOLE, RISES, LEVELS, BATCH_SHARPNESS, BELOW, MOMENTUM]
