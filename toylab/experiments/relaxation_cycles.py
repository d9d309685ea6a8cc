"""Experiments beyond the averaged orbit: exits from the quiet stage, and relaxation cycles of momentum."""

from __future__ import annotations

import numpy as np

from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT, Sample

RAMPS = np.array([4e-4, 2e-4, 1e-4, 5e-5])
"""Steps of the sharpness, in units of the edge."""


def exits_of(sample: Sample) -> dict[str, np.ndarray]:
    """y, in units of the edge, at which the oscillation is back at the amplitude it had ten steps after the start."""
    out = {}
    for rule, members in sample.items():
        steps = int(1.2 * (0.4 / RAMPS[-1]))
        orbits = toy.orbits(rule, members.hyperparameters, members.model, members.start, steps)
        rows = []
        for amplitude, level, edge in zip(orbits.amplitude, orbits.level / UNIT, members.reference, strict=True):
            size = np.log(amplitude[10:])
            quiet = int(np.argmax(size < size[0] - 1.0))
            back = quiet + int(np.argmax(size[quiet:] > size[0]))
            share = (size[0] - size[back - 1]) / (size[back] - size[back - 1])
            rows.append((level[10 + back - 1] + share * (level[10 + back] - level[10 + back - 1])) / edge)
        out[rule] = np.array(rows)
    return out


def exit_limits(sample: Sample) -> dict[str, np.ndarray]:
    """The exits in the limit of a slow ramp, as an interval."""
    return {rule: toy.extrapolated(RAMPS, exits) for rule, exits in exits_of(sample).items()}


_LONG, _SETTLED = 120_000, 30_000
"""Steps of a run, and those that are left out at its beginning."""


def mean_balance(sample: Sample) -> dict[str, np.ndarray]:
    """(members, 3): mean of x^2 over alpha; largest x^2 over 2 alpha; mean deviation of the sharpness over its unit.

    Over a whole number of cycles: between the first and the last time that the sharpness rises through its mean.
    """
    out = {}
    for label, members in sample.items():
        path = (
            toy.paths("heavy_ball", members.hyperparameters, members.model, members.start, _LONG)[:, _SETTLED:] / UNIT
        )
        rows = []
        for (x, s), alpha, unit in zip(path.transpose(0, 2, 1), members.alpha, members.reference, strict=True):
            mean = s.mean()
            rises = np.flatnonzero((s[:-1] < mean) & (s[1:] >= mean))
            first, last = rises[0] + 1, rises[-1] + 1
            square = x[first:last] ** 2
            rows.append([square.mean() / alpha, square.max() / (2 * alpha), s[first:last].mean() / unit])
        out[label] = np.array(rows)
    return out


def mean_squares(sample: Sample) -> dict[str, np.ndarray]:
    """Mean of x^2 over alpha, as an interval of no width."""
    return {r: np.stack([b[:, 0], b[:, 0]], axis=-1) for r, b in mean_balance(sample).items()}
