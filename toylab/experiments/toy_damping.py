"""Experiments on what damps small orbits: the lag of a rule, curvature along grad S, and stiff directions."""

from __future__ import annotations

import numpy as np

from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT, Sample, Toys, cycles_of
from toylab.problems import curved_valley

TURN = 1e-4
"""Radians per step of the small orbits whose growth has its sign taken: far below what any drawn memory bears."""


def growths(sample: Sample) -> dict[str, np.ndarray]:
    """(members, 2): growth of small orbits per step over the square of the turn, twice, as an interval."""
    grown = {r: toy.slowest_oscillation(c.multipliers)[:, 0] / TURN**2 for r, c in cycles_of(sample).items()}
    return {rule: np.stack([values, values], axis=1) for rule, values in grown.items()}


# ----------------------------------------------------------------------------------------------------------------
# Curvature along grad S

CURVED_TURNS = 10.0 ** np.linspace(-3, -2, 5)
"""Radians per step of the orbits that curvature damps."""


def critical_curvatures(sample: Sample) -> dict[str, np.ndarray]:
    """The curvature along grad S at which the 2-cycle becomes stable, by the secant rule, at P = 1."""
    out = {}
    for rule, members in sample.items():

        def growth(curvature: np.ndarray, rule: str = rule, members: Toys = members) -> np.ndarray:
            held = UNIT * np.sqrt(members.model["grad_sharpness_sq"])  # P, which the loss carries
            model = members.model | {"transverse_curvature": held * curvature}
            cycles = toy.two_cycles(rule, members.hyperparameters, model, members.start)
            return toy.slowest_oscillation(cycles.multipliers)[:, 0]

        eta = members.hyperparameters["learning_rate"]
        low, high = np.zeros_like(eta), members.alpha * eta
        at_low, at_high = growth(low), growth(high)
        for _ in range(5):  # the growth is nearly linear in the curvature: each step squares the error
            slope = (at_high - at_low) / np.where(high == low, 1.0, high - low)
            low, at_low, high = (
                high,
                at_high,
                high - np.where(slope == 0, 0.0, at_high / np.where(slope == 0, 1, slope)),
            )
            at_high = growth(high)
        out[rule] = high
    return out


def damping_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Squares of the turns, and the relative error of the curvature at which the 2-cycle becomes stable."""
    return {
        rule: (CURVED_TURNS**2, np.abs(h / sample[rule].reference - 1).reshape(-1, len(CURVED_TURNS)))
        for rule, h in critical_curvatures(sample).items()
    }


# ----------------------------------------------------------------------------------------------------------------
# Stiff directions

STIFF_PUSHES = 10.0 ** np.linspace(-5, -3, 5)
"""Angles squared of the orbits beside a stiff direction."""


def stiff_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`STIFF_PUSHES`, and the error of the growth per step relative to them."""
    out = {}
    for rule, members in sample.items():
        cycle = toy.two_cycles(rule, members.hyperparameters, members.model, members.start, curved_valley)
        grown = toy.slowest_oscillation(cycle.multipliers)[:, 0].reshape(-1, len(STIFF_PUSHES)) / STIFF_PUSHES
        out[rule] = (STIFF_PUSHES, np.abs(grown - members.reference.reshape(grown.shape)))
    return out
