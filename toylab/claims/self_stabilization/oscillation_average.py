"""The average of the gradient over an oscillation, on a network: the term from which self-stabilization comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from theory.losses.mean_gradient import averaged_gradient
from toylab.claims.claim import Claim
from toylab.claims.comparisons import order
from toylab.experiments.oscillation_average import average_errors


def _draw(random: np.random.Generator, tier: str) -> list[int]:
    return random.integers(0, 2**31, {"quick": 1, "default": 4, "long": 100}[tier]).tolist()


def _exponent(sample: list[int]) -> np.ndarray:
    """The lowest power of x that the derived mean of the gradient has beyond x^2/2 grad S."""
    expressions = averaged_gradient().expressions
    mean, slope = expressions["mean_gradient_1"], expressions["sharpness_slope_1"]
    x = averaged_gradient().arguments["x"]
    constant = mean.xreplace({x: 0 * x})
    rest: Any = (mean - constant - x**2 / 2 * slope).expand()
    return np.full(len(sample), float(rest.as_poly(x).monoms()[-1][0]))


AVERAGE = Claim(
    id="self_stabilization/averaged_gradient",
    tier="quick",
    statement="on a network the mean of grad L over w +- x u is grad L + (x^2/2) grad S + O(x^4)",
    source="theory.losses.mean_gradient.averaged_gradient; Cohen et al. 2207.14484 (talk), Damian et al. 2209.15594",
    comparison=order(
        0.1, "amplitudes from 1/128 to 1/8 of a unit weight: the sixth order is some per cent of the fourth"
    ),
    draw=_draw,
    predicted=lambda sample: {"digits network": _exponent(sample)},
    errors=average_errors,
)


CLAIMS = [AVERAGE]
