"""Models of the average on quartics just above their edge, where gradient descent has an exact 2-cycle."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import fsolve

import theory
from theory.two_cycles.harmonic_balance import balance
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.models_on_quartics import RESTING, Jets, Quartics, rods_at_rest, variance_shares
from toylab.experiments.two_cycles import quartic_loss
from toylab.optimizers import NAMED

# ----------------------------------------------------------------------------------------------------------------
# The rod flow, at finite distance from the edge


def _quartics(random: np.random.Generator, tier: str) -> dict[str, Quartics]:
    quartics, count = {}, 4
    for rule, momentum in (("gd", {}), ("heavy_ball", {"momentum": random.uniform(0.2, 0.7, count)})):
        a, c4 = random.uniform(0.5, 2, count), random.uniform(0.5, 2, count)
        c3 = random.uniform(1.5, 2.2, count) * np.sqrt(a * c4 / 3)  # 3 c3^2 > a c4: the flip is supercritical
        unit = {"learning_rate": np.ones(count), **momentum}
        edge = np.array([theory.edge(NAMED[rule]).at(**_member(unit, i)).threshold for i in range(count)])
        quartics[rule] = Quartics(
            a, c3, c4, {**unit, "learning_rate": edge / a * (1 + random.uniform(0.005, 0.01, count))}
        )
    return quartics


def _member(hyper: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in hyper.items()}


@cache
def _balance() -> tuple[Any, Any]:
    """The two equations of a 2-cycle as functions."""
    law = balance(quartic_loss)
    return law.numeric("odd"), law.numeric("even")


def _cycle(jet: dict[str, float], threshold: float, near: float) -> tuple[float, float]:
    """The mean and the squared amplitude of the exact 2-cycle, from its derived equations; `near`: of the latter."""
    odd, even = _balance()

    def equations(point: np.ndarray) -> list[float]:
        at = {"A": point[0], "B": point[1], **jet}
        return [float(odd(**at)) - threshold, float(even(**at))]

    half, middle = fsolve(equations, [near**0.5, -jet["c3"] * near / (2 * jet["a"])], xtol=1e-11)
    return float(middle), float(half**2)


def _cycles(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
    """The exact 2-cycle of each member (n, 2)."""
    variance, cycles = theory.flip_variance().numeric("cycle_variance"), {}
    for rule, s in sample.items():
        law, rows = theory.edge(NAMED[rule]), []
        for i in range(s.a.size):
            threshold = law.at(**_member(s.hyper, i)).threshold
            jet = {"a": float(s.a[i]), "c3": float(s.c3[i]), "c4": float(s.c4[i])}
            rows.append(_cycle(jet, threshold, float(variance(**jet, excess=float(s.a[i] - threshold)))))
        cycles[rule] = np.array(rows)
    return cycles


RODS = Claim(
    id="flows/rod_on_quartics",
    tier="default",
    statement="above a supercritical edge the rod flow rests on the optimizer's exact 2-cycle, middle and length, at "
    "finite distance from the edge, with momentum and without",
    source="rod flow: Regis & Chewi (arXiv:2602.01480), with momentum: here; the cycle: theory.two_cycles",
    comparison=equality(1e-7, "the size has relaxed to exp(-30) of itself, and squares are compared"),
    draw=_quartics,
    predicted=_cycles,
    measure=rods_at_rest,
)

# ----------------------------------------------------------------------------------------------------------------
# Central map and central flow, to leading order


def _jets(random: np.random.Generator, tier: str) -> Jets:
    count = 3
    a, c4 = random.uniform(0.5, 2, count), random.uniform(-2, 2, count)
    # 3 c3^2 > a c4, and the share neither near 1, where there is nothing to see, nor near 0
    return Jets(a, random.uniform(1.3, 1.8, count) * np.sqrt(a * np.abs(c4) / 3), c4)


def _derived_shares(jets: Jets) -> dict[str, np.ndarray]:
    share = theory.flip_variance().numeric("share")
    return dict.fromkeys(RESTING, np.array([float(share(a=a, c3=c3, c4=c4)) for a, c3, c4 in zip(*jets, strict=True)]))


SHARE = Claim(
    id="flows/share_at_a_flip",
    tier="default",
    statement="on a quartic at a supercritical edge central map and central flow, which stop at third derivatives of "
    "the loss, have the derived share 1 - a c4/(3 c3^2) of the variance of gradient descent's 2-cycle",
    source="theory.flip_variance",
    comparison=equality(
        5e-6, "extrapolated twice: an eighth of the third order, 1e-9, times a thousand where c3 is smallest"
    ),
    draw=_jets,
    predicted=_derived_shares,
    measure=variance_shares,
)

CLAIMS = [RODS, SHARE]
