"""The edge: what `theory.edge` derives from a rule's code, against runs of that code."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

import theory
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality
from toylab.experiments import held_runs as lab
from toylab.experiments.thresholds import (
    Drawn,
    Sample,
    cosines_at_own_edge,
    critical_scales,
    critical_scales_in_single_precision,
    filter_numbers,
    growth_rates,
    naive_brackets,
)
from toylab.optimizers import NAMED

SOURCE = "derived from each rule's own code by theory.edge; filter statement: Lee & Lee, The Road Taken"


def derived(rule: str) -> theory.Edge:
    """The theorem of a built-in rule, derived once."""
    return theory.cached_edge(NAMED[rule])


def _draw(random: np.random.Generator, count: int, dimension: int) -> Sample:
    """For every rule: hyperparameters from its whole stable domain, slow state over four decades, any SPD Hessian."""
    sample = {}
    for rule in lab.rules():
        points = [derived(rule).draw(random) for _ in range(count)]
        slow = [10 ** random.uniform(-2, 2, (count, *shape)) for shape in lab.slow_shapes(rule, dimension)]
        factors = random.standard_normal((count, dimension, dimension))
        hessian = factors @ np.swapaxes(factors, 1, 2) / dimension + 0.1 * np.eye(dimension)
        named = {name: np.array([p[name] for p in points]) for name in points[0]}
        sample[rule] = Drawn(named, slow, hessian if dimension > 1 else np.ones((count, 1, 1)))
    return sample


def _one(random: np.random.Generator, tier: str) -> Sample:
    return _draw(random, {"quick": 3, "default": 6, "long": 100}[tier], 1)


def _many(random: np.random.Generator, tier: str) -> Sample:
    return _draw(random, {"quick": 1, "default": 3, "long": 50}[tier], int(random.integers(2, 6)))


# ---------------------------------------------------------------------------------------------------------------
# Predictions


def _preconditioner(rule: str, drawn: Drawn, i: int) -> np.ndarray:
    """Diagonal of P (d,) of member ``i``, from the derived formula at the held slow leaves."""
    edge = derived(rule)
    dimension = drawn.hessian.shape[-1]
    held = [np.broadcast_to(leaf[i], (dimension,)) for leaf in drawn.slow]
    values = {edge.symbols[name]: value for name, value in drawn.member(i).items()}
    diagonal = [
        float(sp.N(edge.preconditioner.xreplace(values | {s: h[j] for s, h in zip(edge.slow, held, strict=True)}), 20))
        for j in range(dimension)
    ]
    return np.array(diagonal)


def _critical_scale(rule: str, drawn: Drawn, i: int) -> float:
    """c at which lambda_max(P^-1 (c H + coupled I)) meets the threshold, for one member."""
    edge, point = derived(rule), drawn.member(i)
    threshold = edge.at(**point).threshold
    diagonal = _preconditioner(rule, drawn, i)
    values = {edge.symbols[name]: value for name, value in point.items()}
    coupled = float(sp.N(edge.loop.coupled.xreplace(values)))
    root = np.sqrt(diagonal)

    def largest(scale: float) -> float:
        matrix = scale * drawn.hessian[i] + coupled * np.eye(len(root))
        return float(np.linalg.eigvalsh(matrix / np.outer(root, root))[-1])

    if coupled == 0:
        return threshold / largest(1.0)
    low, high = 0.0, 2 * threshold / largest(1.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if largest(middle) < threshold else (low, middle)
    return (low + high) / 2


def _thresholds(sample: Sample) -> dict[str, np.ndarray]:
    return {
        rule: np.array([_critical_scale(rule, drawn, i) for i in range(len(drawn.hessian))])
        for rule, drawn in sample.items()
    }


ZERO = Claim(
    id="edge/lyapunov_zero",
    tier="quick",
    statement="the Lyapunov exponent of the held step crosses zero where lambda(P^-1 H) meets the derived threshold, "
    "for every built-in rule, over its whole domain of hyperparameters and slow states",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "growth is called above 1e-11 a step: at the flattest crossing of the domain (two averages of .99 in a row, "
        "k d|z|/dk = 2e-3) that is 5e-9 above the threshold; near a double critical root rounding moves it by 1e-8 and "
        "a small factor",
    ),
    draw=_one,
    predicted=_thresholds,
    measure=critical_scales,
)


TOP = Claim(
    id="edge/largest_eigenvalue_decides",
    tier="default",
    statement="in several dimensions only the largest eigenvalue of P^-1 H matters: a random Hessian, rotated and "
    "rescaled against a random diagonal P, loses stability where lambda_max(P^-1/2 H P^-1/2) meets the threshold",
    source=SOURCE,
    comparison=equality(1e-7, "as for edge/lyapunov_zero: the same search finds the scale of the Hessian"),
    draw=_many,
    predicted=_thresholds,
    measure=critical_scales,
)


SINGLE = Claim(
    id="edge/lyapunov_zero_float32",
    tier="default",
    statement="in float32, too, the Lyapunov exponent of the held step crosses zero at the derived threshold",
    source=SOURCE,
    comparison=bracket(
        1e-3,
        "float32: growth is called above 1e-6 a step, and hyperparameters are rounded to 6e-8 of their value, which "
        "long memories magnify by 1/(1 - beta)",
        ceiling=Ceiling(3e-3, "float32 carries seven digits and the crossing is as flat as in float64"),
    ),
    draw=_one,
    predicted=_thresholds,
    measure=critical_scales_in_single_precision,
)


NAIVE = Claim(
    id="edge/naive_runs",
    tier="default",
    statement="plain runs of the held step on random quadratics diverge above the threshold and not below it",
    source=SOURCE,
    comparison=bracket(
        2e-3,
        "the grid is spaced by 0.5%, and just above the edge a run of 8,192 steps grows by less than what counts",
        ceiling=Ceiling(2e-2, "a plain run must grow within its steps: the edge is seen to about 1%"),
    ),
    draw=lambda random, tier: _draw(random, {"quick": 1, "default": 3, "long": 50}[tier], int(random.integers(2, 6))),
    predicted=_thresholds,
    measure=naive_brackets,
)


# ---------------------------------------------------------------------------------------------------------------
# Rates and multipliers


def _around_windows(random: np.random.Generator, tier: str) -> Sample:
    """One eigendirection at six places around the ends of each member's stable windows."""
    base = _one(random, tier)
    out = {}
    for rule, drawn in base.items():
        members, scales = [], []
        for i in range(len(drawn.hessian)):
            ends = [e for w in derived(rule).at(**drawn.member(i)).windows for e in w if 0 < e < np.inf]
            for end in ends:
                for factor in (0.2, 0.9, 0.999, 1.001, 1.1, 3.0):
                    members.append(i)
                    scales.append(end * factor * _preconditioner(rule, drawn, i)[0])
        named = {name: values[members] for name, values in drawn.hyperparameters.items()}
        out[rule] = Drawn(named, [leaf[members] for leaf in drawn.slow], np.array(scales)[:, None, None])
    return out


def _rates(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for rule, drawn in sample.items():
        rates = []
        for i in range(len(drawn.hessian)):
            edge, point = derived(rule), drawn.member(i)
            numbers = edge.at(**point)
            values = {edge.symbols[name]: value for name, value in point.items()}
            coupled = float(sp.N(edge.loop.coupled.xreplace(values)))
            sharpness = (drawn.hessian[i, 0, 0] + coupled) / _preconditioner(rule, drawn, i)[0]
            roots = np.concatenate([numbers.roots(sharpness), numbers.spectators])
            rates.append(np.log(np.abs(roots).max()))
        out[rule] = np.array(rates)
    return out


RATES = Claim(
    id="edge/growth_rates",
    tier="quick",
    statement="along an eigendirection the held step grows or decays by log|z_max| a step, z the roots of the "
    "characteristic polynomial, on both sides of every end of the stable windows",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "rates are compared in units of one e-fold a step; a double root (critical damping) is known to the square "
        "root of rounding, 1e-8",
        scale=1.0,
    ),
    draw=_around_windows,
    predicted=_rates,
    measure=growth_rates,
)


ANGLE = Claim(
    id="edge/crossing_multiplier",
    tier="quick",
    statement="at a flip the oscillation has period 2, at a Neimark-Sacker crossing it has the predicted angle",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "cos(angle) in units of 1; the edge is found to 1e-7 (edge/lyapunov_zero), and the cosine moves in proportion",
        scale=1.0,
    ),
    draw=_one,
    predicted=lambda sample: {
        r: np.array([np.cos(derived(r).at(**d.member(i)).angle) for i in range(len(d.hessian))])
        for r, d in sample.items()
    },
    measure=cosines_at_own_edge,
)


# ---------------------------------------------------------------------------------------------------------------
# Two derivations


def _points(random: np.random.Generator, tier: str) -> dict[str, list[dict[str, float]]]:
    count = {"quick": 2, "default": 10, "long": 100}[tier]
    return {rule: [derived(rule).draw(random) for _ in range(count)] for rule in lab.rules()}


def _symbols(sample: dict[str, list[dict[str, float]]]) -> dict[str, np.ndarray]:
    def row(rule: str, point: dict[str, float]) -> list[float]:
        edge: Any = derived(rule).at(**point)
        return [edge.threshold * point["learning_rate"], edge.gain_nyquist]

    return {rule: np.array([row(rule, p) for p in points]) for rule, points in sample.items()}


AGREE = Claim(
    id="edge/symbols_equal_numbers",
    tier="quick",
    statement="the edge k* and the gain Q(-1) derived in SymPy equal those that toylab.filters reads off the built "
    "transform by differentiation",
    source="theory.edge against toylab.filters.held_filter: two derivations that share no code",
    comparison=equality(
        1e-12,
        "double precision through polynomial roots of a few O(1) coefficients, with memories up to 1/(1 - 0.99)",
    ),
    draw=_points,
    predicted=_symbols,
    measure=filter_numbers,
)


CLAIMS = [ZERO, TOP, SINGLE, NAIVE, RATES, ANGLE, AGREE]
