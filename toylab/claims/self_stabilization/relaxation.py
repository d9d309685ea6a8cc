"""Beyond the averaged orbit: delayed exit from the quiet stage, relaxation cycles of momentum, the mean balance."""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, measurement
from toylab.claims.self_stabilization.drawn_toys import SOURCE, alpha_of, drawn_point, theorem, toys
from toylab.experiments.relaxation_cycles import RAMPS, exit_limits, mean_balance, mean_squares
from toylab.experiments.toys import UNIT, Sample, Toys

# ----------------------------------------------------------------------------------------------------------------
# The quiet stage: the oscillation decays below the edge, then has to grow back

RAMPED_RULES = ("gd", "heavy_ball", "nesterov", "ema_momentum", "optimistic_gd")

ENTRY = -0.15
"""Where the quiet stage begins, in the same units."""

_FAINT = 1e-30
"""x^2/delta^2 at the start: what x does to the sharpness is rounding, until it is back."""


def _ramps(random: np.random.Generator, tier: str) -> Sample:
    rules = RAMPED_RULES if tier != "quick" else RAMPED_RULES[:2]
    sample = {}
    for rule in rules:
        point = drawn_point(rule, random, 0.9)
        numbers = theorem(rule).at(**point)
        edge = numbers.threshold()
        # y moves by Q(1) eta alpha a step
        jets = [{"alpha": ramp * edge / (numbers.gain * numbers.learning_rate)} for ramp in RAMPS]
        family = toys(rule, [point] * len(jets), jets)
        start = UNIT * np.stack([np.sqrt(_FAINT * 2 * family.alpha), np.full(len(jets), ENTRY * edge)], axis=1)
        sample[rule] = Toys(family.hyperparameters, family.model, start, family.alpha, np.full(len(jets), edge))
    return sample


def _predicted_exit(rule: str, point: dict[str, float]) -> float:
    """y_out/edge with the integral of log|z_max| dy from the entry to it zero."""
    numbers = theorem(rule).edge.at(**point)

    def rate(excess: float) -> float:
        return float(np.log(np.abs(numbers.roots((1 + excess) * numbers.threshold)).max()))

    down = quad(rate, ENTRY, 0.0, epsabs=1e-12, limit=200)[0]
    return brentq(lambda y: down + quad(rate, 0.0, y, epsabs=1e-12, limit=200)[0], 1e-6, 2.0, xtol=1e-10)


EXIT = Claim(
    id="self_stabilization/delayed_exit",
    tier="quick",
    statement="an oscillation that entered the quiet stage at y_in is back at its size where the integral of "
    "log|z_max(y)| dy from y_in vanishes, for every rule: a root that decays more slowly below the edge than it grows "
    "above makes momentum exit nearer to the edge than it entered",
    source=SOURCE + "; the quasi-static product of the multipliers of theory.edge",
    comparison=bracket(
        3e-3,
        "where a complex pair becomes real the product of multipliers fails for about ramp^(-1/3) steps, which shifts "
        "the exit by some thousandths of itself",
        ceiling=Ceiling(2e-2, "an exit is located to a few steps of the slowest ramp, 5e-5 of the edge each"),
    ),
    draw=_ramps,
    predicted=lambda sample: {r: np.array(_predicted_exit(r, t.member(0))) for r, t in sample.items()},
    measure=exit_limits,
)


# ----------------------------------------------------------------------------------------------------------------
# Relaxation cycles

MEMORIES = (0.5, 0.9)

SPEEDS = np.array([1.0, 3.0, 10.0])
"""Turns per step of small orbits, in units of what the averaged orbit bears, (1 - b)^2/(pi (1 + b))."""


def _long_runs(random: np.random.Generator, tier: str) -> Sample:
    """Heavy ball, with the weak slope along u that keeps the oscillation from dying out."""
    sample = {}
    for memory in MEMORIES[: 1 if tier == "quick" else 2]:
        point = {"learning_rate": 0.1, "momentum": memory}
        numbers = theorem("heavy_ball").at(**point)
        speeds = SPEEDS[: 1 if memory == 0.5 else 3] * (1 - memory) ** 2 / (np.pi * (1 + memory))
        jets = [{"alpha": alpha_of(numbers, w), "tilt": alpha_of(numbers, w)} for w in speeds]
        family = toys("heavy_ball", [point] * len(jets), jets)
        scale = np.sqrt(family.alpha * numbers.gain / numbers.kappa)
        sample[f"momentum {memory}"] = Toys(family.hyperparameters, family.model, family.start, family.alpha, scale)
    return sample


BALANCE = Claim(
    id="self_stabilization/mean_balance",
    tier="quick",
    statement="<x^2> = 2 alpha/beta on every bounded run of the cubic model, however far from the averaged orbit: "
    "heavy ball in relaxation cycles, whose bursts reach hundreds of times that mean",
    source="the mean of y_{n+1} - y_n = eta Q * (alpha - beta x^2/2) over a bounded run is zero, whatever the filter Q",
    comparison=bracket(
        5e-3,
        "a window from rise to rise cuts one step of the sharpness, a thousandth of what it moves in a cycle",
        ceiling=Ceiling(1e-2, "the window holds some tens of cycles, each cut to a step"),
    ),
    draw=_long_runs,
    predicted=lambda sample: {label: np.full(len(t.alpha), 2.0) for label, t in sample.items()},
    measure=mean_squares,
)


def _finding(measured: dict[str, np.ndarray]) -> str:
    rows = [
        f"{label}: " + ", ".join(f"{burst:.0f} (mean y {mean:.1f})" for _, burst, mean in values)
        for label, values in measured.items()
    ]
    return (
        "Largest x^2/delta^2 and mean excess of the sharpness, in units of sqrt(alpha Q(1)/kappa), at 1, 3, 10 times "
        "the turn that the averaged orbit bears: "
        + "; ".join(rows)
        + ". The sharpness stays below the edge on average."
    )


RELAXATION = Claim(
    id="self_stabilization/relaxation_cycle",
    tier="default",
    statement="heavy ball beyond the range of the averaged orbit, with a weak slope along u: size of the bursts and "
    "mean sharpness of the relaxation cycle",
    source="runs of the rule",
    comparison=measurement(),
    draw=_long_runs,
    measure=mean_balance,
    finding=_finding,
)


CLAIMS = [EXIT, BALANCE, RELAXATION]
