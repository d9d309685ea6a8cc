"""Self-stabilization: the exact 2-cycle of every rule, its multipliers, and the growth of small orbits around it."""

from __future__ import annotations

from functools import partial

import numpy as np
import sympy as sp

from theory.self_stabilization.floquet import cycle_multipliers
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order
from toylab.claims.self_stabilization.drawn_toys import (
    SOURCE,
    alpha_of,
    drawn_point,
    growth_rate,
    some_flips,
    theorem,
    toys,
)
from toylab.experiments import toy_orbits as toy
from toylab.experiments.toy_cycles import PUSHES, growth_errors, largest_multipliers, size_and_sharpness
from toylab.experiments.toys import UNIT, Sample, Toys

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
    measure=size_and_sharpness,
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
    measure=largest_multipliers,
)


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
        family = toys(rule, points, jets)
        sample[rule] = Toys(family.hyperparameters, family.model, family.start, family.alpha, np.array(reference))
    return sample


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
    errors=growth_errors,
)


CLAIMS = [CYCLE, FLOQUET, GROWTH]
