"""Orbits of period 2 at finite distance from the edge: harmonic balance against runs of the rules themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from toylab.claims.bifurcation.balances import SOURCE, balance, derived, number, predicted_orbit, quartics
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments import two_cycles as lab
from toylab.experiments.flips import (
    QUICK,
    RULES,
    Drawn,
    Sample,
    basin_boundaries,
    multiplier_polynomials,
    settled_orbits,
    where_symmetry_breaks,
)

# ---------------------------------------------------------------------------------------------------------------
# The orbit itself, and how it is approached


def _super(random: np.random.Generator, tier: str) -> Sample:
    return quartics(
        random, QUICK if tier == "quick" else RULES, {"quick": 4, "default": 30, "long": 300}[tier], (0.3, 1.0)
    )


ORBIT = Claim(
    id="bifurcation/orbit_knows_only_k",
    tier="quick",
    statement="every rule settles on the 2-cycle of harmonic balance, whose amplitude and mean depend on the rule only "
    "through k* and k(1) (on no momentum at all, at equal eta f''/(P k*)); at finite distance from the edge",
    source=SOURCE,
    comparison=equality(
        1e-9,
        "the approach fades like (1 - 2 growth d)^n, to nothing after 6,000 steps at growth d >= 1e-2; what is left is "
        "rounding, in units of the quartic's width",
        scale=1.0,
    ),
    draw=_super,
    predicted=lambda sample: {rule: np.stack(predicted_orbit(rule, s, s.d), axis=1) for rule, s in sample.items()},
    measure=settled_orbits,
)


def _multiplier_polynomials(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for rule, s in sample.items():
        amplitude, mean = predicted_orbit(rule, s, s.d)
        theorem, jet = derived(rule), s.quartics(np.zeros_like(s.d)) / s.edge[:, None]
        gain = number(rule, "critical_gain", s) * (1 + s.d)
        curvature = balance().numeric("curvature")
        gains = {
            name: gain * curvature(x=mean + side * amplitude, a=jet[:, 0], c3=jet[:, 1], c4=jet[:, 2])
            for name, side in (("k_plus", 1), ("k_minus", -1))
        }
        out[rule] = theorem.polynomial_at(**s.hyper, **gains)
    return out


FLOQUET = Claim(
    id="bifurcation/multipliers_of_the_orbit",
    tier="quick",
    statement="the multipliers of two steps along the 2-cycle are the roots of [k(z) - m][k(-z) - m] = r^2 in Z = z^2, "
    "m and r the mean and half difference of eta P^-1 f'' at its two points",
    source=SOURCE,
    comparison=equality(
        1e-8,
        "coefficients of the characteristic polynomial of the autodiff Jacobian of two real steps, of size 1, on an "
        "orbit that is known to 1e-12",
        scale=1.0,
    ),
    draw=_super,
    predicted=_multiplier_polynomials,
    measure=multiplier_polynomials,
)


# ---------------------------------------------------------------------------------------------------------------
# Subcritical: the unstable orbit bounds the basin


def _sub(random: np.random.Generator, tier: str) -> Sample:
    sample = quartics(random, ("gd",), {"quick": 10, "default": 60, "long": 600}[tier], (-0.9, -0.3))
    for drawn in sample.values():
        drawn.d[:] = -random.uniform(0.01, 0.05, len(drawn.d))
    return sample


def _unstable(sample: Sample) -> np.ndarray:
    amplitude, mean = predicted_orbit("gd", sample["gd"], sample["gd"].d)
    return np.stack([mean + amplitude, mean - amplitude], axis=1)


BASIN = Claim(
    id="bifurcation/unstable_orbit_bounds_the_basin",
    tier="quick",
    statement="below a subcritical flip the basin of the minimum ends exactly at the two points of the unstable "
    "2-cycle of the balance",
    source=SOURCE,
    comparison=equality(
        1e-7, "start points are bisected to 1e-12, and a run next to the orbit leaves it in 2,000 steps"
    ),
    draw=_sub,
    predicted=_unstable,
    measure=basin_boundaries,
)


# ---------------------------------------------------------------------------------------------------------------
# Even losses: the 2-cycle of every rule ends at the same place


def _even(random: np.random.Generator, tier: str) -> Sample:
    rules = tuple(rule for rule in RULES if rule != "adamw")  # with decay k(1) is not zero
    sample = quartics(random, rules, {"quick": 3, "default": 20, "long": 200}[tier], (1.0, 1.0))
    for drawn in sample.values():
        drawn.ratios[:] = np.array([0.0, -1.0])
    return sample


def _symmetry_derived(sample: Sample) -> dict[str, np.ndarray]:
    """The first d > 0 at which the multiplier polynomial at the balance's orbit has a root 1, by bisection."""
    out = {}
    for rule, s in sample.items():
        theorem = derived(rule)

        def at_one(d: np.ndarray, rule: str = rule, s: Drawn = s, theorem: Any = theorem) -> np.ndarray:
            amplitude, mean = predicted_orbit(rule, s, d)
            curvature = balance().numeric("curvature")(x=mean + amplitude, a=1.0, c3=0.0, c4=-1.0)
            gain = number(rule, "critical_gain", s) * (1 + d) * np.asarray(curvature)
            rows = theorem.polynomial_at(k_plus=gain, k_minus=gain, **s.hyper)
            return np.array([np.abs(np.roots(row)).max() > 1 + 1e-10 for row in rows])

        out[rule] = lab.bisected(np.full(len(s.d), 0.3), np.full(len(s.d), 0.8), at_one, 28)
    return out


SYMMETRY = Claim(
    id="bifurcation/symmetric_orbit_ends_at_half",
    tier="default",
    statement="on an even quartic the symmetric 2-cycle of every rule without decay is stable up to d = 1/2, three "
    "halves of its edge, whatever its filter",
    source=SOURCE,
    comparison=equality(1e-6, "instability is called above 1e-10, multipliers move with d at a rate of order one"),
    draw=_even,
    predicted=_symmetry_derived,
    measure=where_symmetry_breaks,
)


CLAIMS = [ORBIT, FLOQUET, BASIN, SYMMETRY]
