"""Which way a flip goes: the criterion of the normal form against runs just above and just below the edge."""

from __future__ import annotations

from typing import Any

import numpy as np

from theory.two_cycles import bifurcation as law
from toylab.claims.bifurcation.balances import SOURCE, number, quartics
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, sign
from toylab.experiments.flips import QUICK, RULES, Drawn, Sample, critical_fourth, outcomes
from toylab.optimizers import NAMED


def _criterion(random: np.random.Generator, tier: str) -> Any:
    count = {"quick": 200, "default": 1_000, "long": 10_000}[tier]
    margin = random.uniform(1e-2, 1, count) * random.choice([-1.0, 1.0], count)
    share = random.uniform(0, 1, count)  # c4 = |margin| share - ... : 3 c3^2 + |c4| = 1 in units f'' = 1
    c3_sq, c4 = (1 + margin) / 6, (1 - margin) / 2
    both = share < 0.5  # the other quartics have a negative c4: always supercritical
    c3_sq, c4 = np.where(both, c3_sq, share / 3), np.where(both, c4, share - 1)
    c3 = np.sqrt(c3_sq) * random.choice([-1.0, 1.0], count)
    return {"a": random.uniform(0.5, 2, count), "c3": c3, "c4": c4, "width": random.uniform(0.3, 3, count)}


def _signs(sample: Any) -> dict[str, np.ndarray]:
    criterion = law.period_two(NAMED["gd"]).numeric("criterion")
    side = np.sign(np.asarray(criterion(a=1.0, c3=sample["c3"], c4=sample["c4"])))
    one = np.ones_like(side)
    return {
        "above the edge, started near the minimum": one,
        "above the edge, started away from it": -side,
        "below the edge, started near the minimum": -one,
        "below the edge, started away from it": -side,
    }


CRITERION = Claim(
    id="bifurcation/flip_criterion",
    tier="quick",
    statement="on random quartics gradient descent flips supercritically where 3 c3^2 > a c4: just above the edge runs "
    "grow from within and shrink from without (a stable small orbit of period 2 lies between), just below it all "
    "shrink; subcritically where 3 c3^2 < a c4: above the edge all grow, below it only runs from without (an unstable "
    "orbit bounds the basin)",
    source=SOURCE,
    comparison=sign(
        0.0,
        "an outcome is +1 or -1 as it stands; drifts below 1e-14 a step count as none",
        scale=1.0,
        ceiling=Ceiling(
            1.01,
            "outcomes are yes or no, over all quartics at least 1e-2 of their scale from the critical one; how finely "
            "the boundary is located says bifurcation/critical_fourth_derivative",
        ),
    ),
    draw=_criterion,
    predicted=_signs,
    measure=outcomes,
)


def _skewed(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 5, "default": 40, "long": 400}[tier]
    sample = quartics(random, QUICK if tier == "quick" else RULES, count, (0.2, 0.9))
    for drawn in sample.values():
        drawn.ratios[:, 0] = random.uniform(0.5, 1.5, count) * random.choice([-1.0, 1.0], count)
        drawn.d[:] = 0.0
    return sample


def _critical_fourth_derived(sample: Sample) -> dict[str, np.ndarray]:
    """The criterion is linear in c4: its zero."""
    out = {}
    for rule, drawn in sample.items():
        without = Drawn(drawn.hyper, drawn.edge, drawn.ratios * np.array([1.0, 0.0]), drawn.d)
        level = number(rule, "criterion", without)
        without.ratios[:, 1] = 1
        out[rule] = level / (level - number(rule, "criterion", without))
    return out


LOCATED = Claim(
    id="bifurcation/critical_fourth_derivative",
    tier="quick",
    statement="the flip turns from super- to subcritical at a c4 = 3 c3^2/(1 - rho), rho = k(1)/k*: for every rule at "
    "3 c3^2 alike, except that decoupled weight decay moves it down",
    source=SOURCE,
    comparison=equality(
        2e-6,
        "oscillations of amplitude 1e-4 f''/c3 are run: the next order of the normal form moves c4 by 1e-8 of O(10)",
    ),
    draw=_skewed,
    predicted=_critical_fourth_derived,
    measure=critical_fourth,
)


CLAIMS = [CRITERION, LOCATED]
