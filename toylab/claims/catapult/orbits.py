"""Orbits of the catapult: when the loss rises, chaos at the upper edge, and where a catapult lands."""

from __future__ import annotations

from functools import cache

import numpy as np

from theory.theorem import Theorem
from theory.toy_losses import catapult
from toylab.claims.catapult.windows import SOURCE, window_theorem
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order
from toylab.experiments.catapult_orbits import (
    TRIPLINGS,
    Sample,
    landing_coefficients,
    monotone_bracket,
    outputs,
    reflection_errors,
    rise_edges,
)
from toylab.experiments.catapult_windows import WIDTHS, starts
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear


@cache
def reflection_theorem() -> Theorem:
    """The reflection at the edge, derived once."""
    return catapult.reflection(two_layer_linear(width=1).loss, NAMED["gd"])


# ---------------------------------------------------------------------------------------------------------------
# When a step raises the loss


def _heights(random: np.random.Generator, tier: str) -> Sample:
    """eta^2 f^2/n anywhere below 2 (above, no weights reach the edge from below), and directions of u + v and u - v."""
    count = {"quick": 50, "default": 500, "long": 5_000}[tier]
    return {
        f"n = {n}": {"height": random.uniform(0, 1.9, count), "seed": int(random.integers(1 << 20))} for n in WIDTHS
    }


RISES = Claim(
    id="catapult/edge_of_a_large_output",
    tier="quick",
    statement="a step of gradient descent on the two-layer linear net raises the loss iff eta lambda > 2 + eta^2 f^2/n",
    source=SOURCE,
    comparison=bracket(
        1e-9,
        "beside the edge the loss changes by twice the distance, and it is known to 1e-15 of itself, but f is a "
        "difference of two numbers of the size of lambda: 1e-15/eta f, at f as small as 1e-5",
        ceiling=EXACT,
    ),
    draw=_heights,
    predicted=lambda sample: {
        label: np.asarray(window_theorem().numeric("edge")(c=start["height"])) for label, start in sample.items()
    },
    measure=rise_edges,
)


MONOTONE = Claim(
    id="catapult/monotone_edge",
    tier="default",
    statement="a loss that once falls goes on falling at every step iff eta lambda is below 3.4001, a root of "
    "4 a^5 - 36 a^4 + 116 a^3 - 163 a^2 + 156 a - 212; above, some starts fall first and rise later",
    source=SOURCE,
    comparison=bracket(
        1e-6,
        "the search for the worst start is refined to 1e-5 of its range, and the rise is flat there",
        ceiling=EXACT,
    ),
    predicted=lambda sample: np.asarray(window_theorem().numeric("monotone_edge")()),
    measure=monotone_bracket,
)


def _at_four(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 50, "default": 500, "long": 5_000}[tier]
    return starts(random, np.full(count, 4.0), random.uniform(-0.99, 0.99, count))


def _chaotic(sample: Sample) -> dict[str, np.ndarray]:
    chaos = window_theorem().numeric("chaos")  # 2 cos(3 theta): one step
    out = {}
    for label, start in sample.items():
        angle = np.arccos(start["share"])
        out[label] = np.stack([np.asarray(chaos(theta=angle * 3.0 ** (t - 1))) for t in range(TRIPLINGS)], -1)
    return out


CHAOS = Claim(
    id="catapult/chaos_at_the_upper_edge",
    tier="default",
    statement="at eta lambda = 4 lambda stays and eta f/sqrt(n) = 2 cos(3^t theta_0): the loss neither converges nor "
    "diverges, and errors grow by a factor 3 a step",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "3^11 times the rounding of f, of up to 64 products, near the ends of the arc where the angle is its root",
        scale=1.0,
    ),
    draw=_at_four,
    predicted=_chaotic,
    measure=outputs,
)


LANDING = Claim(
    id="catapult/landing_coefficients",
    tier="quick",
    statement="a catapult from eta lambda = 2 + delta with a small output lands at 2 - delta - (2/3) delta^2 - ...",
    source=SOURCE + "; first integral of the map near its edge, derived to fifth order",
    comparison=equality(
        5e-6, "an asymptotic series, fitted to ninth order over delta <= 0.2: each term falls by about 5"
    ),
    predicted=lambda sample: {
        "linear": np.array(-1.0),
        "quadratic": np.asarray(reflection_theorem().numeric("landing_2")()),
    },
    measure=landing_coefficients,
)


ORDERS = Claim(
    id="catapult/reflection_order",
    tier="quick",
    statement="the landing is the mirror image of the start about the edge up to O(delta^2), and the largest "
    "eta^2 f^2/n is delta^2/2 up to O(delta^3)",
    source=SOURCE,
    comparison=order(0.1, "five halvings from delta = 0.2: the next term is at most a tenth of the leading one there"),
    predicted=lambda sample: {
        "landing beyond the mirror image": np.array(2.0),
        "height beyond delta^2/2": np.array(3.0),
    },
    errors=reflection_errors,
)


CLAIMS = [RISES, MONOTONE, CHAOS, LANDING, ORDERS]
