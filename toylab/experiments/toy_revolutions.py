"""Experiments on whole orbits at finite amplitude: periods, stages, extremes, mean sharpness and drift."""

from __future__ import annotations

import numpy as np

from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT, Sample

TURNS = np.array([0.008, 0.004, 0.002, 0.001])
"""Radians per step of small orbits, eta sqrt(2 alpha kappa Q(1)): the small parameter."""

LEVELS = np.array([0.2, 1.0, 4.0])
"""Energies e^v - v - 1 of the orbits, v = log(x^2/delta^2) at their turning points."""


def _turns(sample: Sample, steps: int) -> dict[str, list[toy.Turn]]:
    """Revolutions of every member, levels of s as deviations of the sharpness at P = 1."""
    out = {}
    for rule, members in sample.items():
        orbits = toy.orbits(rule, members.hyperparameters, members.model, members.start, steps)
        out[rule] = [toy.turn(a / UNIT, s / UNIT) for a, s in zip(orbits.amplitude, orbits.level, strict=True)]
    return out


_STEPS = 20_000
"""2.4 revolutions of the slowest orbit, 8.2 radians at 0.001 a step."""


def measured_shapes(sample: Sample) -> dict[str, np.ndarray]:
    """Orbits in their limit units (levels, quantities, turns).

    Quantities: period and four stages in radians, largest and smallest x^2/delta^2, largest y^2/alpha.
    """
    out = {}
    for rule, turns in _turns(sample, _STEPS).items():
        speed = np.tile(TURNS, len(LEVELS))
        rows = [
            [one.period * w, *(one.stages * w), *(one.squares[:2] / (2 * alpha)), one.levels[1] ** 2 / alpha]
            for one, w, alpha in zip(turns, speed, sample[rule].alpha, strict=True)
        ]
        out[rule] = np.array(rows).reshape(len(LEVELS), len(TURNS), -1).transpose(0, 2, 1)
    return out


def shape_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`TURNS`, and the largest relative error over all quantities, (levels, turns)."""
    out = {}
    for rule, measured in measured_shapes(sample).items():
        reference = sample[rule].reference[..., None]
        out[rule] = (TURNS, np.abs(measured / reference - 1).max(axis=1))
    return out


def shape_limits(sample: Sample) -> dict[str, np.ndarray]:
    """Every quantity in the limit of a weak push, as an interval."""
    return {r: toy.extrapolated(TURNS, m) for r, m in measured_shapes(sample).items()}


# ----------------------------------------------------------------------------------------------------------------
# Time averages


def pushes(rule: str) -> np.ndarray:
    """eps, half the square of the turn in radians a step: small enough for the rule's memory."""
    return 10.0 ** (np.linspace(-5, -3, 4) if rule == "gd" else np.linspace(-6, -4.5, 4))


def mean_levels(sample: Sample) -> dict[str, np.ndarray]:
    """Mean over whole revolutions of the sharpness on the valley's floor, less what the loss has at s = 0."""
    revolutions = _turns(sample, 12_000)
    return {rule: np.array([one.mean for one in turns]) for rule, turns in revolutions.items()}


def mean_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """eps, and the distance of the mean sharpness from the edge."""
    return {rule: (pushes(rule), np.abs(m)) for rule, m in mean_levels(sample).items()}


def mean_limits(sample: Sample) -> dict[str, np.ndarray]:
    """The mean excess over alpha in the limit of a weak push, as an interval."""
    return {
        rule: toy.extrapolated(np.sqrt(pushes(rule))[::-1], (m / sample[rule].alpha)[::-1])
        for rule, m in mean_levels(sample).items()
    }


def drift_limits(sample: Sample) -> np.ndarray:
    """(zetas, 2): the drift in the limit of a weak push, as an interval."""
    return toy.extrapolated(TURNS, drifts(sample))


def drifts(sample: Sample) -> np.ndarray:
    """(zetas, turns): change of the energy over one revolution over the sum of y^2, over alpha."""
    turns = _turns(sample, _STEPS)["gd"]
    rows = []
    for one, alpha in zip(turns, sample["gd"].alpha, strict=True):
        energy = one.squares / 4 - alpha * np.log(one.squares) / 2
        # the variance is about the mean: y^2 is about the edge, but the square of the mean is of higher order
        rows.append((energy[2] - energy[0]) / (one.period * one.variance) / alpha)
    return np.array(rows).reshape(-1, len(TURNS))


GRID = np.linspace(0.40, 0.54, 8)
"""Values of zeta around the zero of the drift."""


def zero_crossing(sample: Sample) -> np.ndarray:
    """(2,): zeta at which the extrapolated drift changes sign, from the two ends of its interval."""
    ends = toy.extrapolated(TURNS, drifts(sample))
    crossings = [np.interp(0.0, -ends[:, i], GRID) for i in (0, 1)]
    return np.sort(np.array(crossings))
