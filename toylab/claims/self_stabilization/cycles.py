"""Self-stabilization: the exact 2-cycle of every rule, its multipliers, their order, sign and what damps them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from theory.self_stabilization.any_rule import FilterNumbers, Stabilization, cached_stabilization
from theory.self_stabilization.drift import drift_law
from theory.self_stabilization.floquet import cycle_multipliers
from theory.tracing.symbols import MEMORY
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order
from toylab.experiments import held_runs as lab
from toylab.experiments import toy_orbits as toy
from toylab.optimizers import NAMED

SOURCE = "derived from each rule's own code: any_rule, floquet and multiple_scales of theory.self_stabilization"


def theorem(rule: str) -> Stabilization:
    """The theorem of a built-in rule, derived once."""
    return cached_stabilization(NAMED[rule])


def flips() -> list[str]:
    """Every built-in rule that crosses at z = -1 whatever its hyperparameters."""
    return [rule for rule in lab.rules() if theorem(rule).edge.crossing == "flip"]


def some_flips(random: np.random.Generator, tier: str, default: int = 100) -> list[str]:
    """All of `flips` in the tier long, ``default`` of them, drawn, in the default tier, three in the tier quick."""
    count = {"quick": 3, "default": default, "long": 100}[tier]
    mixed = (rule for rule in random.permutation(lab.rules()).tolist() if theorem(rule).edge.crossing == "flip")
    return [rule for rule, _ in zip(mixed, range(count), strict=False)]


@dataclass(frozen=True)
class Toys:
    """Members of one rule: hyperparameters, coefficients of the normal form, where to start; each (members, ...).

    The slow leaves are held at 1; the loss is multiplied by the P that they give, so that P^-1 H does not know it.
    ``alpha``: sharpening rate before that.  ``reference``: what an order claim measures its error against.
    """

    hyperparameters: dict[str, np.ndarray]
    model: dict[str, np.ndarray]
    start: np.ndarray
    alpha: np.ndarray
    reference: np.ndarray

    def member(self, i: int) -> dict[str, float]:
        """Hyperparameters of member ``i``."""
        return {name: float(values[i]) for name, values in self.hyperparameters.items()}


Sample = dict[str, Toys]


UNIT = 2.0**-60
"""The size of the toys: rules that are linear only at rest (centred, clipped) are at rest to 2^-120."""

_POWERS = {"third": -1, "fourth": -2, "sharpness_curvature": -2, "bend": -1, "transverse_curvature": 0, "tilt": 1}


def preconditioner(rule: str, point: dict[str, float]) -> float:
    """P with every slow leaf at 1."""
    edge = theorem(rule).edge
    values: dict[Any, Any] = {edge.symbols[name]: value for name, value in point.items()}
    return float(sp.N(edge.preconditioner.xreplace(values | dict.fromkeys(edge.slow, sp.Integer(1))), 20))


def drawn_point(rule: str, random: np.random.Generator, memory: float = 1.0) -> dict[str, float]:
    """Random hyperparameters without weight decay; averaging constants up to ``memory``."""
    edge = theorem(rule).edge
    while True:
        point = edge.draw(random)
        point |= {name: 0.0 for name, symbol in edge.symbols.items() if symbol.name == "omega"}
        averages = [point[name] for name, (_, high) in edge.domain.items() if high == MEMORY[1]]
        if max(averages, default=0.0) <= memory:
            return point


def toys(rule: str, points: list[dict[str, float]], jets: list[dict[str, float]]) -> Toys:
    """Members from hyperparameters and jets: coefficients of the normal form with ``alpha`` and, left out, beta = 1.

    The loss is multiplied by P, and shrunk to the size UNIT: L(w) -> P UNIT^2 L(w/UNIT).  Starts beside the 2-cycle of
    the cubic model.
    """
    rows = []
    for point, jet in zip(points, jets, strict=True):
        scale, numbers = preconditioner(rule, point), theorem(rule).at(**point)
        # also those left out are given, as zeros: one compiled program serves every jet
        row = {name: scale * jet.get(name, 0.0) * UNIT**power for name, power in _POWERS.items()}
        row |= {
            "threshold": scale * numbers.threshold(),
            "sharpening_rate": scale**2 * jet["alpha"],
            "grad_sharpness_sq": (scale / UNIT) ** 2,
        }
        rows.append(row)
    alpha = np.array([jet["alpha"] for jet in jets])
    start = UNIT * np.stack([1.05 * np.sqrt(2 * alpha), 0.01 * np.sqrt(alpha)], axis=1)
    return Toys(
        {name: np.array([p[name] for p in points]) for name in points[0]},
        {name: np.array([row[name] for row in rows]) for name in rows[0]},
        start,
        alpha,
        np.zeros(len(rows)),
    )


def alpha_of(numbers: FilterNumbers, frequency: float) -> float:
    """The sharpening rate at which small orbits turn by ``frequency`` radians a step."""
    return frequency**2 / (2 * numbers.learning_rate**2 * numbers.kappa * numbers.gain)


def found(sample: Sample) -> dict[str, toy.Cycle]:
    """The experiment: 2-cycles of every rule."""
    return {r: toy.two_cycles(r, t.hyperparameters, t.model, t.start) for r, t in sample.items()}


# ----------------------------------------------------------------------------------------------------------------
# Exact


def _any_rule(random: np.random.Generator, tier: str, default: int = 100) -> Sample:
    count = {"quick": 5, "default": 15, "long": 60}[tier]
    sample = {}
    for rule in some_flips(random, tier, default):
        points = [drawn_point(rule, random) for _ in range(count)]
        turns = 10 ** random.uniform(-3, -1, count)
        jets = [{"alpha": alpha_of(theorem(rule).at(**p), t)} for p, t in zip(points, turns, strict=True)]
        sample[rule] = toys(rule, points, jets)
    return sample


def _measured_cycle(sample: Sample) -> dict[str, np.ndarray]:
    """Per member x^2 and the sharpness, in units of what the loss was given, averaged over the 2-cycle."""
    out = {}
    for rule, cycle in found(sample).items():
        model = sample[rule].model
        x, s = cycle.points[..., 0] / UNIT, cycle.points[..., 1]
        slope = np.sqrt(model["grad_sharpness_sq"])[:, None]
        out[rule] = np.stack([(x**2).mean(1), (model["threshold"][:, None] + slope * s).mean(1)], axis=1)
    return out


CYCLE = Claim(
    id="self_stabilization/two_cycle",
    tier="quick",
    statement="on the cubic model every rule has a 2-cycle with x^2 = 2 alpha/beta at its own edge, whatever Q",
    source=SOURCE,
    comparison=equality(
        1e-9,
        "Newton's last step, 1e-12 of the coordinates, through a Jacobian whose smallest mode is 1e-3 (the slow turn)",
    ),
    draw=partial(_any_rule, default=8),
    predicted=lambda sample: {
        r: np.stack([2 * t.alpha, [p * theorem(r).at(**t.member(i)).threshold() for i, p in enumerate(_p(t))]], axis=1)
        for r, t in sample.items()
    },
    measure=_measured_cycle,
)


def _p(members: Toys) -> np.ndarray:
    return UNIT * np.sqrt(members.model["grad_sharpness_sq"])


def _multipliers(sample: Sample) -> dict[str, np.ndarray]:
    """log|z| and angle per step of the largest multiplier, from the derived polynomial."""
    out = {}
    for rule, members in sample.items():
        edge, rows = theorem(rule).edge, []
        for i, alpha in enumerate(members.alpha):
            point = members.member(i)
            values = {edge.symbols[name]: sp.Float(value, 30) for name, value in point.items()}
            push = point.get("learning_rate", 1.0) ** 2 * alpha
            rows.append(_largest(cycle_multipliers(edge.loop, values, push) ** 2))
        out[rule] = np.array(rows)
    return out


def _largest(multipliers: np.ndarray) -> np.ndarray:
    """(growth, angle) per step of the two-step multiplier of largest modulus."""
    return toy.largest(multipliers[None])[0]


FLOQUET = Claim(
    id="self_stabilization/floquet",
    tier="quick",
    statement="the multipliers of that 2-cycle solve k(z) (k(-z) - k*) = 2 eta^2 alpha, for every rule",
    source=SOURCE,
    comparison=equality(
        1e-10,
        "in e-folds and radians a step: the eigenvalues of pairs 1e-3 apart are found to 1e-13, here a thousandfold",
        scale=1.0,
    ),
    draw=partial(_any_rule, default=8),
    predicted=_multipliers,
    measure=lambda sample: {r: toy.largest(c.multipliers) for r, c in found(sample).items()},
)


# ----------------------------------------------------------------------------------------------------------------
# Asymptotic: the growth predicted by multiple scales, for any rule and any jet

PUSHES = 10.0 ** np.linspace(-6, -4, 5)
"""Angles squared of the orbits at which the order is measured."""


def _general(random: np.random.Generator, tier: str) -> Sample:
    """Rules of short memory and random jets, whose weak parts shrink with the push; five pushes a member."""
    count = {"quick": 1, "default": 3, "long": 12}[tier]
    sample = {}
    for rule in some_flips(random, tier, default=8):
        points, jets, reference = [], [], []
        while len(points) < count * len(PUSHES):
            point = drawn_point(rule, random, memory=0.5)
            numbers = theorem(rule).at(**point)
            unit = 1 / numbers.learning_rate
            names = ("third", "fourth", "sharpness_curvature", "bend", "transverse_curvature", "tilt")
            scale = dict(zip(names, random.uniform(-1, 1, len(names)), strict=True))
            jet = {name: value for name, value in scale.items() if name not in ("transverse_curvature", "tilt")}
            rates = []
            for push in PUSHES:
                alpha = alpha_of(numbers, np.sqrt(push))
                weak = {"transverse_curvature": scale["transverse_curvature"], "tilt": scale["tilt"]}
                # curvatures in units of 1/eta, third derivatives of 1: comparable with those of the cubic model
                full = {**jet, "fourth": jet["fourth"] / unit, "sharpness_curvature": jet["sharpness_curvature"] / unit}
                full |= {name: value * alpha / unit for name, value in weak.items()}
                points.append(point)
                jets.append({"alpha": alpha, **full})
                rates.append(growth_rate(numbers, jets[-1]) / push)
            reference += rates
        made = toys(rule, points, jets)
        sample[rule] = Toys(made.hyperparameters, made.model, made.start, made.alpha, np.array(reference))
    return sample


_JET = {
    "third": "third",
    "fourth": "fourth",
    "sharpness_curvature": "p",
    "bend": "m",
    "transverse_curvature": "h",
    "tilt": "f",
}
"""Coefficients of the normal form -> arguments of the drift law."""


def law_values(numbers: FilterNumbers, jet: dict[str, float]) -> dict[Any, Any]:
    """The symbols of the drift law at a rule's numbers and a jet, at beta = 1."""
    law = drift_law()
    named = {short: jet.get(name, 0.0) for name, short in _JET.items()} | {
        "learning_rate": numbers.learning_rate,
        "kappa": numbers.kappa,
        "gain": numbers.gain,
        "lag": numbers.lag,
        "bend": numbers.bend,
        "sharpness": numbers.threshold(),
        "sharpening_rate": jet["alpha"],
        "grad_sharpness_sq": 1.0,
    }
    values: dict[Any, Any] = {law.arguments[name]: value for name, value in named.items()}
    floor = {law.arguments[name]: law.expressions[name].xreplace(values) for name in ("floor_sharpness", "floor_loss")}
    return values | floor


def growth_rate(numbers: FilterNumbers, jet: dict[str, float]) -> float:
    """Predicted growth per step of small orbits around the 2-cycle, c/(2 kappa) of the drift law."""
    return float(drift_law().expressions["drift"].xreplace(law_values(numbers, jet))) / (2 * numbers.kappa)


def _growth_errors(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    out = {}
    for rule, cycle in found(sample).items():
        grown = toy.swinging(cycle.multipliers)[:, 0].reshape(-1, len(PUSHES)) / PUSHES
        out[rule] = (PUSHES, np.abs(grown - sample[rule].reference.reshape(grown.shape)))
    return out


GROWTH = Claim(
    id="self_stabilization/drift_law",
    tier="quick",
    statement="orbits around the 2-cycle grow or decay by eta [2 eta kappa alpha Lambda - (2 kappa alpha/(3 beta S)) "
    "(3 c3^2 - S c4) + Q(1) (beta/2) d(delta^2)/dS]/2 a step, for every rule and jet; the error of the rate "
    "relative to the push falls with the push",
    source=SOURCE + "; theory.self_stabilization.drift",
    comparison=order(
        0.05, "pushes from 1e-6 to 1e-4 at memories up to 1/2 leave a next order of a per cent of the slope"
    ),
    draw=_general,
    predicted=lambda sample: {r: np.ones(len(t.alpha) // len(PUSHES)) for r, t in sample.items()},
    errors=_growth_errors,
)

CLAIMS = [CYCLE, FLOQUET, GROWTH]
