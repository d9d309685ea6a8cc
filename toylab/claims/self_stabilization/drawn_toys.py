"""Toys drawn for the claims on self-stabilization, and what theory says of a rule and a jet at numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from theory.self_stabilization.any_rule import FilterNumbers, Stabilization, cached_stabilization
from theory.self_stabilization.drift import drift_law
from theory.tracing.symbols import MEMORY
from toylab.experiments import held_runs as lab
from toylab.experiments.toys import UNIT, Toys
from toylab.optimizers import NAMED

SOURCE = "derived from each rule's own code: any_rule, floquet and multiple_scales of theory.self_stabilization"


def theorem(rule: str) -> Stabilization:
    """The theorem of a built-in rule, derived once."""
    return cached_stabilization(NAMED[rule])


def some_flips(random: np.random.Generator, tier: str, default: int = 100) -> list[str]:
    """Built-in rules that cross at z = -1 whatever their hyperparameters: all in the tier long, ``default`` of them,
    drawn, in the default tier, three in the tier quick.
    """
    count = {"quick": 3, "default": default, "long": 100}[tier]
    mixed = (rule for rule in random.permutation(lab.rules()).tolist() if theorem(rule).edge.crossing == "flip")
    return [rule for rule, _ in zip(mixed, range(count), strict=False)]


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
