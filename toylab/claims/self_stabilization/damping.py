"""Self-stabilization: which rules damp it by themselves, and how much curvature damps the others."""

from __future__ import annotations

import numpy as np

from theory.self_stabilization.any_rule import FilterNumbers
from theory.self_stabilization.drift import stiff_directions
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, order
from toylab.claims.self_stabilization.drawn_toys import SOURCE, alpha_of, drawn_point, growth_rate, theorem, toys
from toylab.experiments.toy_damping import CURVED_TURNS, STIFF_PUSHES, TURN, damping_errors, growths, stiff_errors
from toylab.experiments.toys import UNIT, Sample, Toys


def _either(random: np.random.Generator, tier: str) -> Sample:
    """Rules whose Lambda can have either sign, and others, away from the change of sign by a tenth of Q(1)."""
    count = 5 if tier == "quick" else 15
    sample = {}
    for rule in ("optimistic_gd", "heavy_ball", "nesterov") if tier == "quick" else _rules():
        points: list[dict[str, float]] = []
        while len(points) < count:
            point = drawn_point(rule, random, 0.9)
            numbers = theorem(rule).at(**point)
            if abs(_relative_lag(numbers)) > 0.1:
                points.append(point)
        numbers = [theorem(rule).at(**point) for point in points]
        family = toys(rule, points, [{"alpha": alpha_of(n, TURN)} for n in numbers])
        reference = np.array([_relative_lag(n) / 2 for n in numbers])
        sample[rule] = Toys(family.hyperparameters, family.model, family.start, family.alpha, reference)
    return sample


def _relative_lag(numbers: FilterNumbers) -> float:
    """Lambda/Q(1)."""
    return np.nan if numbers.lag is None else numbers.lag / numbers.gain


def _rules() -> tuple[str, ...]:
    return ("optimistic_gd", "heavy_ball", "nesterov", "adam", "nadam", "quasi_hyperbolic", "schedule_free_sgd", "adan")


LAG = Claim(
    id="self_stabilization/lag",
    tier="quick",
    statement="small orbits of the cubic model that turn by w a step grow by Lambda w^2/(2 Q(1)) a step, Lambda = Q(1) "
    "(1 - q1 + kappa k2/2): with momentum faster than for gradient descent, while optimistic gradient descent with "
    "beta > 0.93 alpha has Lambda < 0 and is damped",
    source=SOURCE,
    comparison=bracket(
        1e-2,
        "the next order of a turn of 1e-4 at memories up to 0.9, which bear turns of 2e-3",
        ceiling=Ceiling(3e-2, "a leading order, read off at a finite turn"),
    ),
    draw=_either,
    predicted=lambda sample: {rule: members.reference for rule, members in sample.items()},
    measure=growths,
)


def _curved(random: np.random.Generator, tier: str) -> Sample:
    """Five turns for each of three points; the reference is the curvature at which the drift law vanishes."""
    rules = ("heavy_ball", "nesterov", "ema_momentum", "adam")  # for gradient descent the boundary is exact
    sample = {}
    for rule in rules:
        points, jets, reference = [], [], []
        for _ in range(3):
            point = drawn_point(rule, random, 0.5)
            while _relative_lag(numbers := theorem(rule).at(**point)) < 1.2:  # without memory the error is zero
                point = drawn_point(rule, random, 0.5)
            for turn in CURVED_TURNS:
                alpha = alpha_of(numbers, turn)
                points.append(point)
                jets.append({"alpha": alpha, "transverse_curvature": 0.0})
                reference.append(_damping_curvature(rule, point, alpha))
        family = toys(rule, points, jets)
        sample[rule] = Toys(family.hyperparameters, family.model, family.start, family.alpha, np.array(reference))
    return sample


def _damping_curvature(rule: str, point: dict[str, float], alpha: float) -> float:
    formula = theorem(rule).numeric("damping_curvature")
    return float(formula(**point, sharpening_rate=alpha))


DAMPING = Claim(
    id="self_stabilization/damping_curvature",
    tier="default",
    statement="a curvature h along grad S_perp damps the orbits where h > 2 alpha eta kappa Lambda/Q(1); the error of "
    "this boundary falls with eta^2 alpha",
    source=SOURCE,
    comparison=order(0.1, "turns from 1e-3 to 1e-2 at memories up to 1/2: the next order is some per cent"),
    draw=_curved,
    predicted=lambda sample: {rule: np.ones(3) for rule in sample},
    errors=damping_errors,
)


def _stiff(random: np.random.Generator, tier: str) -> Sample:
    """Three valleys a rule with a direction of curvature l in which the sharpness rises by b, five pushes each."""
    rules = ("gd", "heavy_ball") if tier == "quick" else ("gd", "heavy_ball", "nesterov", "ema_momentum")
    sample = {}
    for rule in rules:
        points, rows, reference = [], [], []
        for _ in range(3):
            point = drawn_point(rule, random, 0.5)
            numbers = theorem(rule).at(**point)
            edge = numbers.threshold()
            third, slope, stiffness = random.uniform(-1, 1), random.uniform(0.3, 1), random.uniform(0.1, 0.4) * edge
            values = {"slope": slope, "stiffness": stiffness}
            fourth = float(stiff_directions().numeric("fourth")(**values))
            for push in STIFF_PUSHES:
                jet = {"alpha": alpha_of(numbers, np.sqrt(push)), "third": third, "fourth": fourth}
                points.append(point)
                reference.append(growth_rate(numbers, jet) / push)
                rows.append((edge, jet["alpha"], third / UNIT, stiffness, slope / UNIT))
        columns = dict(zip(_VALLEY, np.array(rows).T, strict=True))
        count = len(rows)
        model = columns | dict.fromkeys(("drift", "bend", "swell"), np.zeros(count))
        model["grad_sharpness_sq"] = np.full(count, UNIT**-2.0)
        start = UNIT * np.stack([1.05 * np.sqrt(2 * columns["sharpening_rate"]), *np.zeros((3, count))], axis=1)
        named = {name: np.array([p[name] for p in points]) for name in points[0]}
        sample[rule] = Toys(named, model, start, columns["sharpening_rate"], np.array(reference))
    return sample


_VALLEY = ("threshold", "sharpening_rate", "third", "transverse_curvature", "coupling")


STIFF = Claim(
    id="self_stabilization/stiff_directions",
    tier="default",
    statement="a direction of curvature l in which the sharpness has slope b acts on the drift as c4 - 3 b^2/l in "
    "place of c4: stiff directions always damp; the error of the rate relative to the push falls with the push",
    source="theory.self_stabilization.drift.stiff_directions",
    comparison=order(0.1, "pushes from 1e-5 to 1e-3 at memories up to 1/2: the next order is some per cent"),
    draw=_stiff,
    predicted=lambda sample: {rule: np.ones(3) for rule in sample},
    errors=stiff_errors,
)


CLAIMS = [LAG, DAMPING, STIFF]
