"""Small orbits of period 2: how amplitude, mean and multiplier grow with the distance d from the edge."""

from __future__ import annotations

from functools import partial

import numpy as np

from toylab.claims.bifurcation.balances import SOURCE, number, quartics
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order
from toylab.experiments import two_cycles as lab
from toylab.experiments.flips import Drawn, Sample, coefficients, second_coefficients, sizes_along_ladder


def _small(random: np.random.Generator, tier: str) -> Sample:
    """Memories up to 0.35: beyond, the critical multiplier soon meets another, where its series in d ends."""
    rules = ("gd", "heavy_ball") if tier == "quick" else ("gd", "heavy_ball", "nesterov", "adamw")
    sample = quartics(random, rules, {"quick": 3, "default": 10, "long": 50}[tier], (0.4, 1.0))
    for rule, drawn in sample.items():
        halved = {name: v / 2 if name in ("momentum", "b1") else v for name, v in drawn.hyper.items()}
        sample[rule] = Drawn(halved, lab.edges(rule, halved), drawn.ratios, drawn.d)
    return sample


def _laws(sample: Sample, which: int) -> dict[str, np.ndarray]:
    names = (f"amplitude_sq_{which}", f"centre_{which}", f"multiplier_{which}")
    return {
        rule: np.stack([number(rule, name, s) * (-1 if name.startswith("mult") else 1) for name in names], axis=1)
        for rule, s in sample.items()
    }


SLOPE = Claim(
    id="bifurcation/amplitude_order",
    tier="quick",
    statement="amplitude^2, the shift of the mean and the rate of approach of the 2-cycle are proportional to d",
    source=SOURCE,
    comparison=order(0.05, "over a factor 7 in d, at d <= 0.004, the next order bends the slope by some percent"),
    draw=_small,
    predicted=lambda sample: 1.0,
    errors=sizes_along_ladder,
)


CONSTANTS = Claim(
    id="bifurcation/amplitude_constant",
    tier="quick",
    statement="amplitude^2 = 6 d a^2/(3 c3^2/(1 - rho) - a c4), the mean moves with the derived constant, and the "
    "multiplier of two steps leaves 1 as -4 growth d with growth = -k*/k'(-1)",
    source=SOURCE,
    comparison=equality(
        5e-6, "extrapolated through seven d <= 0.004: the remainder is (0.004)^7 times coefficients that grow like 30^n"
    ),
    draw=_small,
    predicted=lambda sample: _laws(sample, 1),
    measure=partial(coefficients, power=1),
)


SECOND = Claim(
    id="bifurcation/second_order_constants",
    tier="quick",
    statement="the next coefficients, of d^2 in amplitude^2, in the mean and in the multiplier, are those derived",
    source=SOURCE,
    comparison=bracket(
        1e-3,
        "extrapolated through seven d <= 0.004; one power of d is lost against the first coefficient",
        ceiling=Ceiling(3e-3, "a second difference of orbits at d of some 1e-3"),
        scale=100.0,
    ),
    draw=_small,
    predicted=lambda sample: _laws(sample, 2),
    measure=second_coefficients,
)


CLAIMS = [SLOPE, CONSTANTS, SECOND]
