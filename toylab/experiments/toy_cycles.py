"""Experiments on small orbits around the 2-cycle: its size, its multipliers, and how fast small orbits grow."""

from __future__ import annotations

import numpy as np

from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT, Sample, cycles_of

# ----------------------------------------------------------------------------------------------------------------
# Asymptotic: the growth predicted by multiple scales, for any rule and any jet

PUSHES = 10.0 ** np.linspace(-6, -4, 5)
"""Angles squared of the orbits at which the order is measured."""


def size_and_sharpness(sample: Sample) -> dict[str, np.ndarray]:
    """Per member x^2 and the sharpness, in units of what the loss was given, averaged over the 2-cycle."""
    out = {}
    for rule, cycle in cycles_of(sample).items():
        model = sample[rule].model
        x, s = cycle.points[..., 0] / UNIT, cycle.points[..., 1]
        slope = np.sqrt(model["grad_sharpness_sq"])[:, None]
        out[rule] = np.stack([(x**2).mean(1), (model["threshold"][:, None] + slope * s).mean(1)], axis=1)
    return out


def largest_multipliers(sample: Sample) -> dict[str, np.ndarray]:
    """Growth and angle per step of the largest multiplier, (members, 2)."""
    return {r: toy.largest(c.multipliers) for r, c in cycles_of(sample).items()}


def growth_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`PUSHES`, and the error of the growth per step relative to them."""
    out = {}
    for rule, cycle in cycles_of(sample).items():
        grown = toy.slowest_oscillation(cycle.multipliers)[:, 0].reshape(-1, len(PUSHES)) / PUSHES
        out[rule] = (PUSHES, np.abs(grown - sample[rule].reference.reshape(grown.shape)))
    return out
