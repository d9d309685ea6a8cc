"""A small convolutional network on digits in single precision: gradient descent, RMSProp and Adam at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from toylab.claims.claim import Claim
from toylab.claims.comparisons import measurement
from toylab.experiments.network_plateaus import PlateauGrid, numbers, plateau_finding, settled, summary

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065) and 2022 (arXiv:2207.14484), on larger networks"
RULES: dict[str, tuple[dict[str, float], tuple[float, ...], int]] = {
    "gd": ({}, (0.2, 0.3, 0.4, 0.5), 700),
    "rmsprop": ({"decay": 0.99}, (2e-4, 3e-4, 5e-4, 8e-4), 900),
    "adam": ({"b1": 0.9, "b2": 0.99}, (2e-3, 3e-3, 5e-3, 8e-3), 900),
}


def _grid(rule: str, seeds: int, rates: int) -> PlateauGrid:
    """The rule on 100 digits; one member after the other, as batched convolutions are slow on a CPU."""
    fixed, all_rates, steps = RULES[rule]
    return PlateauGrid(
        problem="digits_cnn",
        settings={"examples": 100},
        rule=rule,
        fixed=fixed,
        learning_rates=all_rates[-rates:],
        steps=steps,
        seeds=seeds,
        every=32,
        one_by_one=True,
        single=True,
    )


GRIDS = [_grid(rule, seeds=3, rates=4) for rule in RULES]


def _drawn(random: np.random.Generator, tier: str) -> list[PlateauGrid]:
    return GRIDS if tier == "long" else [_grid(rule, seeds=1, rates=1) for rule in RULES]


def _summaries(sample: Any) -> dict[str, np.ndarray]:
    return {grid.label: numbers(summary(settled(grid))) for grid in sample}


PLATEAUS = Claim(
    id="networks/convolutional_plateaus",
    tier="default",
    statement="plateaus of GD, RMSProp and Adam for a convolutional network on 100 digits in float32",
    source=SOURCE,
    comparison=measurement(),
    draw=_drawn,
    measure=_summaries,
    finding=plateau_finding,
)

CLAIMS = [PLATEAUS]
