"""Orbits of the catapult: when the loss rises, chaos at the upper edge, and where a catapult lands."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from theory.theorem import Theorem
from theory.toy_losses import catapult
from toylab.claims.catapult.windows import SOURCE, WIDTHS, run, starts, window_theorem
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order
from toylab.experiments import catapult_runs as lab
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear

Sample = dict[str, Any]


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


def _edges(sample: Sample) -> dict[str, np.ndarray]:
    """eta lambda (lo, hi) between which the first step turns from lowering the loss to raising it, by bisection."""
    out = {}
    for label, start in sample.items():
        height, width = start["height"], int(label.split()[-1])
        lo, hi = np.maximum(1.0, 2 * np.sqrt(height)), np.full_like(height, 6.0)
        for _ in range(52):
            middle = (lo + hi) / 2
            share = np.minimum(2 * np.sqrt(height) / middle, 1)
            u, v = lab.weights_at(np.random.default_rng(start["seed"]), middle, share, width)
            loss = run({"rate": np.ones(len(u)), "u": u, "v": v}, 2)[2]
            lowers = loss[:, 1] < loss[:, 0]
            lo, hi = np.where(lowers, middle, lo), np.where(lowers, hi, middle)
        out[label] = np.stack([lo, hi], axis=-1)
    return out


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
    measure=_edges,
)


def _first_rise(sample: None) -> np.ndarray:
    """eta lambda_0 (lo, hi) between which a loss that falls at the first step can first rise at the second."""

    def worst(curvature: float) -> float:
        low, high = max(curvature - 2, 0.0), min(curvature**2 / 4, 2.5)
        for _ in range(4):  # closer each time around the start with the largest rise
            heights = np.linspace(low, high, 201)
            first = np.full(201, curvature)
            u, v = lab.weights_at(np.random.default_rng(0), first, 2 * np.sqrt(heights) / curvature, 2)
            found = lab.paths("gd", {"learning_rate": jnp.ones(201)}, jnp.asarray(u), jnp.asarray(v), jnp.zeros(201), 3)
            loss = np.asarray(found[2])
            rise = np.where(loss[:, 1] < loss[:, 0], loss[:, 2] / loss[:, 1], 0)
            best, width = heights[np.argmax(rise)], (high - low) / 20
            low, high = max(best - width, curvature - 2), min(best + width, curvature**2 / 4)
        return float(rise.max())

    lo, hi = 2.5, 3.9
    for _ in range(30):
        middle = (lo + hi) / 2
        lo, hi = (lo, middle) if worst(middle) > 1 else (middle, hi)
    return np.array([lo, hi])


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
    measure=_first_rise,
)

# ---------------------------------------------------------------------------------------------------------------
# Chaos at the upper edge

TRIPLINGS = 12


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
    measure=lambda sample: {label: run(start, TRIPLINGS)[0] for label, start in sample.items()},
)

# ---------------------------------------------------------------------------------------------------------------
# Where a catapult lands

NODES = np.linspace(0.02, 0.2, 14)


def _landings(excess: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """eta lambda at the end, and the largest eta^2 f^2/n, of runs from eta lambda = 2 + excess and a tiny output."""
    u, v = lab.nearly_fitted(2 + excess, np.full(len(excess), 1e-11))
    numbers = {"learning_rate": jnp.ones(len(excess))}
    output, curvature, _ = lab.paths("gd", numbers, jnp.asarray(u), jnp.asarray(v), jnp.zeros(len(u)), steps)
    return np.asarray(curvature)[:, -1], np.max(np.asarray(output) ** 2, axis=1)


def _coefficients(sample: None) -> dict[str, np.ndarray]:
    """Of excess^2 and excess^3 in the landing, by a polynomial through the zero at excess 0."""
    landing, _ = _landings(NODES, 6_000)
    powers = NODES[:, None] ** np.arange(1, 10)[None]
    scale = powers[-1]
    fitted = np.linalg.lstsq(powers / scale, landing - 2, rcond=None)[0] / scale
    return {"linear": fitted[0], "quadratic": fitted[1]}


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
    measure=_coefficients,
)

EXCESSES = 0.2 / 2 ** np.arange(5)


def _errors(sample: None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    landing, top = _landings(EXCESSES, 12_000)
    series = landing - (2 - EXCESSES)
    return {
        "landing beyond the mirror image": (EXCESSES, np.abs(series)),
        "height beyond delta^2/2": (EXCESSES, np.abs(top - EXCESSES**2 / 2)),
    }


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
    errors=_errors,
)

CLAIMS = [RISES, MONOTONE, CHAOS, LANDING, ORDERS]
