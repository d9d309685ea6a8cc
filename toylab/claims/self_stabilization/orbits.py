"""Self-stabilization at finite amplitude: periods, stages, extremes, mean sharpness and drift of whole orbits."""

from __future__ import annotations

from functools import partial

import numpy as np
import sympy as sp

from theory.self_stabilization import orbits as closed
from theory.self_stabilization.any_rule import FilterNumbers
from theory.self_stabilization.drift import drift_law
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, order, sign
from toylab.claims.self_stabilization.drawn_toys import (
    SOURCE,
    alpha_of,
    drawn_point,
    growth_rate,
    law_values,
    theorem,
    toys,
)
from toylab.experiments.toy_revolutions import (
    GRID,
    LEVELS,
    TURNS,
    drift_limits,
    drifts,
    mean_errors,
    mean_limits,
    pushes,
    shape_errors,
    shape_limits,
    zero_crossing,
)
from toylab.experiments.toys import UNIT, Sample, Toys

AVERAGED_RULES = ("gd", "heavy_ball", "nesterov", "ema_momentum", "adam", "optimistic_gd", "schedule_free_sgd")
"""Without memory, with the three kinds of momentum, adaptive, with negative lag, with a structural root."""

LONGEST = 0.3
"""Longest average drawn: the expansion is in turns/(1 - memory)^2, which must stay small."""

EXTRAPOLATED = Ceiling(
    1e-2, "a limit extrapolated from four finite pushes; the remainder is the third power of the turn"
)


def _started_quietly(rule: str, point: dict[str, float], jets: list[dict[str, float]], levels: list[float]) -> Toys:
    """Members at one point of hyperparameters, started at the quietest place of the orbit of each level."""
    family = toys(rule, [point] * len(jets), jets)
    quiet = np.exp(closed.branch(np.array(levels), -1))
    start = UNIT * np.stack([np.sqrt(2 * family.alpha * quiet), np.zeros(len(jets))], axis=1)
    return Toys(family.hyperparameters, family.model, start, family.alpha, np.zeros(len(jets)))


# ----------------------------------------------------------------------------------------------------------------
# Shape of the orbits


def _shapes(random: np.random.Generator, tier: str) -> Sample:
    rules = (
        AVERAGED_RULES
        if tier != "quick"
        else (*AVERAGED_RULES[:1], *random.choice(AVERAGED_RULES[1:], 2, replace=False).tolist())
    )
    sample = {}
    for rule in rules:
        point = drawn_point(rule, random, LONGEST)
        numbers = theorem(rule).at(**point)
        grid = [(level, turn) for level in LEVELS for turn in TURNS]
        jets = [{"alpha": alpha_of(numbers, turn)} for _, turn in grid]
        family = _started_quietly(rule, point, jets, [level for level, _ in grid])
        reference = np.array([_shape(numbers, level) for level in LEVELS])
        sample[rule] = Toys(family.hyperparameters, family.model, family.start, family.alpha, reference)
    return sample


def _shape(numbers: FilterNumbers, level: float) -> list[float]:
    """Predicted: period and four stages in radians, largest and smallest x^2/delta^2, largest y^2/alpha."""
    formulas = closed.closed_orbits().expressions
    ends = [float(np.exp(closed.branch(level, side))) for side in (1, -1)]
    highest = float(formulas["highest"].xreplace({closed.level: level})) * numbers.gain / numbers.kappa
    return [closed.period(level), *closed.stages(level), *ends, highest]


ORBIT_SHAPE = Claim(
    id="self_stabilization/orbit_shape",
    tier="quick",
    statement="in the limit of a weak push every rule runs through the same closed orbits: period by quadrature, times "
    "spent in the four stages, extremes of x^2/delta^2 by Lambert's W, highest excess of the sharpness",
    source=SOURCE + "; theory.self_stabilization.orbits; Damian et al. 2209.15594 for gradient descent",
    comparison=bracket(
        1e-4,
        "the interval of two extrapolations may miss the limit by the next order, a few (0.008)^3 of long memories",
        ceiling=EXTRAPOLATED,
    ),
    draw=_shapes,
    predicted=lambda sample: {rule: members.reference for rule, members in sample.items()},
    measure=shape_limits,
)


ORBIT_ORDER = Claim(
    id="self_stabilization/orbit_order",
    tier="default",
    statement="period, stages and extremes of real orbits deviate from the averaged closed orbit as O(eta sqrt(alpha))",
    source=SOURCE + "; theory.self_stabilization.orbits; Damian et al. 2209.15594 for gradient descent",
    comparison=order(
        0.1, "turns from 0.001 to 0.008 radians a step at memories up to 0.3: the second order still bends it"
    ),
    draw=_shapes,
    predicted=lambda sample: dict.fromkeys(sample, np.ones(len(LEVELS))),
    errors=shape_errors,
)


def _averages(random: np.random.Generator, tier: str, quartic: bool = False) -> Sample:
    """Level 1; with random c3 and c4 < 0, which both raise the mean; reference: predicted mean of y over alpha."""
    rules = AVERAGED_RULES if tier != "quick" else AVERAGED_RULES[:2]
    sample = {}
    for rule in rules:
        point = drawn_point(rule, random, LONGEST)
        numbers = theorem(rule).at(**point)
        third, fourth = random.uniform(0.3, 1, 2) * (1, -1) * quartic
        jets = [
            {"alpha": alpha_of(numbers, np.sqrt(2 * eps)), "third": third, "fourth": fourth * numbers.learning_rate}
            for eps in pushes(rule)
        ]
        family = _started_quietly(rule, point, jets, [1.0] * len(jets))
        reference = np.full(len(jets), mean_excess(numbers, jets[0], 1.0) / jets[0]["alpha"])
        sample[rule] = Toys(family.hyperparameters, family.model, family.start, family.alpha, reference)
    return sample


def mean_excess(numbers: FilterNumbers, jet: dict[str, float], level: float) -> float:
    """Predicted mean of y = S - k*/eta over an orbit of that level, at beta = 1."""
    square = closed.mean_square_rate(level) * numbers.gain * jet["alpha"] / (2 * numbers.kappa)
    values = law_values(numbers, jet)
    constant, slope = (float(drift_law().expressions[n].xreplace(values)) for n in ("excess", "excess_slope"))
    return constant + slope * square


MEAN = Claim(
    id="self_stabilization/mean_sharpness",
    tier="quick",
    statement="over whole periods, from a highest sharpness to a highest, the sharpness of the cubic model averages "
    "to the rule's own edge, 2/eta for gradient descent, up to O(eps), eps from 1e-5 to 1e-3 (1e-6 to 3e-5 else)",
    source=SOURCE + "; Damian et al. 2209.15594",
    comparison=order(
        0.1, "the next order is sqrt(eps) of the first, up to a tenth, and bends the slope by some per cent"
    ),
    draw=_averages,
    predicted=lambda sample: dict.fromkeys(sample, np.ones(())),
    errors=mean_errors,
)


EXCESS = Claim(
    id="self_stabilization/mean_sharpness_excess",
    tier="default",
    statement="the O(eps) by which the mean sharpness exceeds the edge is that of the next order of the expansion",
    source=SOURCE + "; theory.self_stabilization.drift",
    comparison=bracket(
        1e-3,
        "the interval of two extrapolations in sqrt(eps) may miss the limit by the next order, a thousandth",
        ceiling=EXTRAPOLATED,
    ),
    draw=partial(_averages, quartic=True),
    predicted=lambda sample: {rule: members.reference[0] for rule, members in sample.items()},
    measure=mean_limits,
)


# ----------------------------------------------------------------------------------------------------------------
# Drift of gradient descent, Berthier's zeta

ZETAS = np.array([0.0, 0.3, 0.6])
"""Third derivatives over 3 at which the drift is measured."""

ETA = 0.3
"""Their learning rate."""


def _zeta_members(zetas: np.ndarray, level: float) -> Sample:
    """Third derivative 3 zeta, every turn."""
    numbers = theorem("gd").at(learning_rate=ETA)
    jets = [{"alpha": alpha_of(numbers, turn), "third": 3 * zeta} for zeta in zetas for turn in TURNS]
    family = _started_quietly("gd", {"learning_rate": ETA}, jets, [level] * len(jets))
    reference = [2 * numbers.kappa * growth_rate(numbers, jet) / jet["alpha"] for jet in jets]
    return {"gd": Toys(family.hyperparameters, family.model, family.start, family.alpha, np.array(reference))}


RATE = Claim(
    id="self_stabilization/drift_rate",
    tier="quick",
    statement="over an orbit of finite amplitude the conserved quantity of gradient descent drifts by eta^2 (2 - 9 "
    "zeta^2) <y^2> per unit of eps x steps, zeta = 0, 0.3 and 0.6",
    source="theory.self_stabilization.multiple_scales; Berthier 2026",
    comparison=bracket(
        2e-3,
        "the interval of two extrapolations may miss the limit by the next order",
        ceiling=EXTRAPOLATED,
        scale=2 * ETA**2,
    ),
    draw=lambda random, tier: _zeta_members(ZETAS, float(random.uniform(0.5, 2.0))),
    predicted=lambda sample: sample["gd"].reference.reshape(len(ZETAS), -1)[:, 0],
    measure=drift_limits,
)


SIGN = Claim(
    id="self_stabilization/drift_sign",
    tier="quick",
    statement="orbits of gradient descent grow for zeta = 0.3 and are damped for zeta = 0.6",
    source="theory.self_stabilization.multiple_scales; Berthier 2026",
    comparison=sign(
        0.0,
        "a sign needs no tolerance",
        ceiling=Ceiling(10.0, "both are some tenths of the scale away from zero by choice of zeta"),
        scale=ETA**2,
    ),
    draw=lambda random, tier: _zeta_members(ZETAS[1:], float(random.uniform(0.5, 2.0))),
    predicted=lambda sample: np.sign(sample["gd"].reference.reshape(len(ZETAS) - 1, -1)[:, 0]),
    measure=drifts,
)


ZERO = Claim(
    id="self_stabilization/drift_zero",
    tier="default",
    statement="the drift of gradient descent changes sign at zeta = sqrt(2)/3",
    source="theory.self_stabilization.multiple_scales; Berthier 2026",
    comparison=bracket(
        1e-3, "linear interpolation between values of zeta 0.02 apart, and the next order", ceiling=EXTRAPOLATED
    ),
    draw=lambda random, tier: _zeta_members(GRID, float(random.uniform(0.5, 2.0))),
    predicted=lambda sample: critical_zeta(),
    measure=zero_crossing,
)


def critical_zeta() -> np.ndarray:
    """The root of the derived drift of gradient descent in zeta, with third derivative 3 zeta."""
    zeta = sp.Symbol("zeta", positive=True)
    numbers = theorem("gd").at(learning_rate=ETA)
    law = drift_law()
    values = law_values(numbers, {"alpha": 1.0}) | {law.arguments["third"]: 3 * zeta}
    drift = law.expressions["drift"].xreplace(values).xreplace({law.arguments["floor_sharpness"]: sp.Integer(0)})
    return np.array(float(max(sp.solve(drift, zeta))))


CLAIMS = [ORBIT_SHAPE, ORBIT_ORDER, MEAN, EXCESS, RATE, SIGN, ZERO]
