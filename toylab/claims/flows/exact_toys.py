"""Central models and the rod flow on exact toys, where what they should say is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import newton

import theory
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order, window
from toylab.experiments.central_toys import (
    DRIFTING,
    ETA,
    RESTING,
    Toys,
    by_push,
    by_quantity,
    drift_errors,
    resting_points,
    variances_of_descent,
    variances_of_the_map,
)

SOURCE = "toys: Berthier 2026; the central map: here"

# ----------------------------------------------------------------------------------------------------------------
# One eigenvalue: the mean of the 2-cycle


def _toys(random: np.random.Generator, tier: str) -> Toys:
    return Toys(random.uniform(0.002, 0.05, 6), random.uniform(-0.8, 0.8, 6))


def _cycle(sample: Toys) -> dict[str, np.ndarray]:
    """The derived 2-cycle: a root of its cubic, and what follows from it."""
    law = theory.toy_centre()
    cubic, height, square, ripple, near = (
        law.numeric(name) for name in ("cubic", "cycle_y", "amplitude_sq", "ripple", "mean_x")
    )
    rows = []
    for eps, zeta in zip(*sample, strict=True):
        given = {"learning_rate": ETA, "zeta": float(zeta), "eps": float(eps)}

        def equation(x: float, given: Any = given) -> float:
            return float(cubic(x=x, **given))

        x = float(newton(equation, float(near(**given)), tol=1e-16))
        a2, per_a = float(square(x=x, **given)), float(ripple(x=x, **given))
        rows.append([x, float(height(x=x, **given)), a2 * (1 + per_a**2)])
    return {label: row for model in RESTING for label, row in by_quantity(model, *np.array(rows).T).items()}


CENTRE = Claim(
    id="flows/centre_of_the_cycle",
    tier="quick",
    statement="with one eigenvalue at the edge of a cubic loss central map and central flow rest exactly at the mean "
    "of gradient descent's 2-cycle, with the variance of that cycle, however strong the push",
    source=SOURCE + "; the exact equations of the cycle: theory.toy_centre",
    comparison=equality(1e-8, "solvers stop at 1e-13 of residuals that are proportional to eps, .002 at least"),
    draw=_toys,
    predicted=_cycle,
    measure=resting_points,
)

# ----------------------------------------------------------------------------------------------------------------
# Codimension one: drift along the edge


def _starts(random: np.random.Generator, tier: str) -> tuple[float, float]:
    angle = random.uniform(0.8, 1.1)
    return tuple(float(part) for part in (2 / ETA - 3) * np.array([np.cos(angle), np.sin(angle)]))  # ty: ignore


def _one(sample: Any) -> dict[str, float]:
    return dict.fromkeys(DRIFTING, 1.0)


DRIFT = Claim(
    id="flows/drift_along_the_edge",
    tier="default",
    statement="while the weights drift along an edge of codimension one, central map, central flow and edge flow err "
    "by the first order in the push at eps x steps = 60",
    source=SOURCE + "; averaging is exact to first order over times 1/eps",
    comparison=order(0.1, "the next order, eps of .02 at most, changes a slope by a few hundredths"),
    draw=_starts,
    predicted=_one,
    errors=drift_errors,
)

# ----------------------------------------------------------------------------------------------------------------
# Two eigenvalues: fluctuations that persist

PUSH, WITHIN = 0.01, 0.01
FEW = Ceiling(0.03, "a time average of fluctuations that persist, over some hundreds of their periods")


def _pushes(random: np.random.Generator, tier: str) -> np.ndarray:
    return PUSH * random.uniform(0.8, 1.25, 2)


def _predicted_variances(pushes: np.ndarray) -> dict[str, np.ndarray]:
    values = variances_of_the_map(pushes)
    return by_push(pushes, np.stack([values * (1 - WITHIN), values * (1 + WITHIN)], axis=-1))


PERSISTING = Claim(
    id="flows/two_eigenvalues",
    tier="default",
    statement="with two eigenvalues at the edge, whose fluctuations never die out, both variances of gradient descent "
    "averaged over time are those of the central map at rest",
    source=SOURCE,
    comparison=window(
        0.0, "the window, one per cent to both sides, is the first order in the push of .01", ceiling=FEW
    ),
    draw=_pushes,
    predicted=_predicted_variances,
    measure=variances_of_descent,
)

CLAIMS = [CENTRE, DRIFT, PERSISTING]
