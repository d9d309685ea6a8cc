"""Berthier's three toys: what keeps a run at the edge, where it comes back, and where it settles."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import sympy as sp

import theory
from toylab import problems
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order, sign, window
from toylab.experiments.berthier_toys import ETA, highest_sharpness, late_over_early_spread, offset_errors, returns

BERTHIER = "Berthier 2026"


# ---------------------------------------------------------------------------------------------------------------
# Berthier's toys


def _starts(random: np.random.Generator, tier: str) -> dict[str, np.ndarray]:
    count = {"quick": 8, "default": 32, "long": 1000}[tier]
    return {
        "x": random.uniform(0.05, 0.2, count) * random.choice([-1, 1], count),
        "y": random.uniform(3.0, 6.0, count),
        "zeta": random.uniform(0.0, 0.3, count),
    }


def _sides(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    count = np.ones(len(sample["x"]))
    return {"with -x": -count, "without": count}


FORCING = Claim(
    id="self_stabilization/predicted_forcing_keeps_the_edge",
    tier="default",
    statement="one eigenvalue, eps = .03, eta = .3, zeta in [0, .3], sharpness started at 3 to 6 below the edge 6.67: "
    "with the term -x in h the sharpness stays below 1.5 times the edge for 20,000 steps, without it every run passes "
    "twice the edge or diverges",
    source=BERTHIER + ", the example with one eigenvalue",
    comparison=sign(
        0.0,
        "log2 of the highest sharpness over 1.5 times the edge, between those that keep it and those that do not",
        ceiling=Ceiling(
            0.5, "bursts of a run that keeps the edge reach 1.26 times it; the others count as twice the edge"
        ),
        scale=1.0,
    ),
    draw=_starts,
    predicted=_sides,
    measure=highest_sharpness,
)


def _entries(random: np.random.Generator, tier: str) -> dict[str, np.ndarray]:
    count = {"quick": 4, "default": 16, "long": 256}[tier]
    return {"below": random.uniform(0.5, 1.0, count)}


def _multiplier() -> tuple[sp.Expr, sp.Symbol]:
    """The multiplier of x at x = 0 for gradient descent on the toy, traced from its loss, and the symbol of y."""
    x, y = sp.symbols("x y", real=True)
    loss = theory.symbolically(lambda a, b: problems.berthier_one_eigenvalue(0.0).value(jnp.stack([a, b])))(x, y)
    curvature = sp.diff(loss, x, 2).subs(x, 0)
    return sp.expand(1 - sp.Rational(3, 10) * curvature), y


def _exits(sample: dict[str, np.ndarray]) -> np.ndarray:
    """y at which the integral of log |multiplier| from the start returns to zero."""
    multiplier, y = _multiplier()
    # log |m| has the antiderivative (m log|m| - m)/m', m linear in y: checked by differentiation
    primitive = (multiplier * sp.log(-multiplier) - multiplier) / sp.diff(multiplier, y)
    if sp.simplify(sp.diff(primitive, y) - sp.log(-multiplier)) != 0:
        raise ArithmeticError("the multiplier of the toy is not linear in y")
    value, slope = sp.lambdify(y, primitive), sp.lambdify(y, sp.log(-multiplier))
    out = []
    for below in sample["below"]:
        reached = 2 / ETA + below
        for _ in range(50):
            reached -= (value(reached) - value(2 / ETA - below)) / slope(reached)
        out.append(reached)
    return np.array(out)


OVERSHOOT = Claim(
    id="self_stabilization/predicted_overshoot",
    tier="quick",
    statement="without -x in h the oscillation, once decayed, comes back only where the integral of log|1 - eta y| "
    "over the sharpness vanishes, as far above the edge as the run began below it: the loss of the edge does not "
    "become smaller with eps (eps -> 0, one eigenvalue)",
    source="delayed loss of stability, derived from the toy's traced Hessian; toy: " + BERTHIER,
    comparison=equality(
        3e-7,
        "Richardson's extrapolation of three runs removes eps and eps^2; interpolating between steps leaves up to "
        "(eta eps)^2/8 times a slope of order 1, 1.6e-6 in units where y is 7",
    ),
    draw=_entries,
    predicted=_exits,
    measure=returns,
)


PERSIST = Claim(
    id="self_stabilization/predicted_two_eigenvalues",
    tier="default",
    statement="with two eigenvalues at the edge the fluctuations of both persist: their spread over the last 18,000 of "
    "60,000 steps is that of the first (eps = .01)",
    source=BERTHIER + ", the example with two eigenvalues",
    comparison=window(
        0.0,
        "a window of late over early spread",
        ceiling=Ceiling(0.25, "the fluctuations are irregular: some tens of bursts know their spread to some percent"),
    ),
    predicted=lambda sample: {"smaller, larger": np.array([[0.8, 1.25], [0.8, 1.25]])},
    measure=late_over_early_spread,
)


CIRCLE = Claim(
    id="self_stabilization/predicted_codimension_one",
    tier="default",
    statement="where the edge has codimension one, and 3 c3^2 - a c4 > 6 beta, the run settles on it while it drifts "
    "along it: at eps x steps = 60 the sharpness differs from 2/eta by O(eps)",
    source=BERTHIER + ", the example of codimension one",
    comparison=order(0.1, "eps from 0.02 to 0.0025: the next order bends the slope by some eps"),
    predicted=lambda sample: 1.0,
    errors=offset_errors,
)


CLAIMS = [FORCING, OVERSHOOT, PERSIST, CIRCLE]
