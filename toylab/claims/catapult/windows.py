"""Catapults of gradient descent: what `theory.toy_losses.catapult` derives for the two-layer linear net, against real
runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from theory.theorem import Theorem
from theory.toy_losses import catapult
from toylab.claims.ceilings import EXACT, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, bracket, equality, sign, window
from toylab.experiments.catapult_windows import (
    STEPS,
    Sample,
    curvature_changes,
    divergence_edges,
    landings,
    loss_budgets,
    starts,
    trained_paths,
)
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear

SOURCE = (
    "theory.toy_losses.catapult, from the traced loss and optax.sgd; map: Lewkowycz et al. 2020, arXiv:2003.02218, "
    "eqs. 7-8"
)


@cache
def window_theorem() -> Theorem:
    """The exact window, derived once."""
    return catapult.catapult_window(two_layer_linear(width=1).loss, NAMED["gd"])


@cache
def map_theorem() -> Theorem:
    """The exact map, derived once."""
    return catapult.catapult_map(two_layer_linear(width=1).loss, NAMED["gd"])


def _value(name: str, **numbers: Any) -> np.ndarray:
    """A formula of the window at numbers."""
    return np.asarray(window_theorem().numeric(name)(**{key: jnp.asarray(value) for key, value in numbers.items()}))


def _count(tier: str) -> int:
    return {"quick": 100, "default": 400, "long": 20_000}[tier]


def _labelled(random: np.random.Generator, tier: str) -> Sample:
    count = _count(tier)
    out = starts(random, random.uniform(0.1, 3.9, count), random.uniform(-1, 1, count))
    for label, start in out.items():
        width = int(label.split()[-1])
        start["targets"] = random.uniform(-0.3, 0.3, count) * np.sqrt(width) / start["rate"]
    paths = _iterated(out)  # labels make some starts below 4 diverge: those are left out
    kept = {label: np.all(np.abs(path) < 10, axis=(0, 2)) for label, path in paths.items()}
    return {label: {name: values[kept[label]] for name, values in start.items()} for label, start in out.items()}


def _iterated(sample: Sample) -> dict[str, np.ndarray]:
    law = map_theorem()
    output_next, curvature_next = law.numeric("f_next"), law.numeric("curvature_next")
    out = {}
    for label, start in sample.items():
        width = float(label.split()[-1])
        output = np.sum(start["u"] * start["v"], 1) / np.sqrt(width)
        curvature = (np.sum(start["u"] ** 2, 1) + np.sum(start["v"] ** 2, 1)) / width
        path = []
        for _ in range(STEPS):
            path.append(np.stack([start["rate"] * output / np.sqrt(width), start["rate"] * curvature]))
            numbers = {"f": output, "lambda_": curvature, "n": width, "y": start["targets"]}
            numbers = {name: jnp.asarray(values) for name, values in numbers.items()}
            numbers["learning_rate"] = jnp.asarray(start["rate"])
            output, curvature = (np.asarray(move(**numbers)) for move in (output_next, curvature_next))
        out[label] = np.nan_to_num(np.moveaxis(np.array(path), 0, -1), nan=np.inf)
    return out


MAP = Claim(
    id="catapult/exact_map",
    tier="quick",
    statement="gradient descent on a two-layer linear net of any width and label moves f and "
    "lambda = (|u|^2 + |v|^2)/n by the derived closed map",
    source=SOURCE,
    comparison=equality(
        1e-8,
        "eta f/sqrt(n) and eta lambda are of order one; a catapult magnifies rounding, 1e-15 of f, up to threefold "
        "a step: 3^12 x 1e-15",
        scale=1.0,
    ),
    draw=_labelled,
    predicted=_iterated,
    measure=trained_paths,
)


# ---------------------------------------------------------------------------------------------------------------
# The window


def _anywhere(random: np.random.Generator, tier: str) -> Sample:
    count = _count(tier) // 10
    return starts(random, np.ones(count), random.uniform(-0.97, 0.97, count))


UPPER = Claim(
    id="catapult/upper_edge",
    tier="quick",
    statement="gradient descent on the two-layer linear net diverges from eta lambda_0 = 4 on, at every feasible "
    "start: the edge depends neither on the output nor on the width",
    source=SOURCE,
    comparison=bracket(
        1e-9,
        "next to the edge the distance to it grows by a factor of about 2.6 a step (chaos), so 150 steps decide every "
        "distance above rounding, about n x 1e-16 of lambda",
        ceiling=EXACT,
    ),
    draw=_anywhere,
    predicted=lambda sample: {k: np.full(len(s["rate"]), _value("upper_edge")) for k, s in sample.items()},
    measure=divergence_edges,
)


def _below_and_above(random: np.random.Generator, tier: str) -> Sample:
    count = _count(tier)
    near = 4 + 10 ** random.uniform(-7, 0, count) * random.choice([-1.0, 1.0], count)
    start = np.concatenate([near, random.uniform(0.05, 3, count), random.uniform(5, 8, count)])
    return starts(random, start, random.uniform(-1, 1, len(start)))


FALLS = Claim(
    id="catapult/curvature_moves_one_way",
    tier="default",
    statement="lambda falls at every step of a run that starts below eta lambda = 4, and rises at every step of one "
    "that starts above",
    source=SOURCE,
    comparison=sign(
        1e-8,
        "the change of eta lambda in units of eta^2 f^2/n, at least 1e-6 here, so rounding counts for 1e-15/1e-6",
        ceiling=EXACT,
        scale=1.0,
    ),
    draw=_below_and_above,
    predicted=lambda sample: {
        side: np.sign(_value("curvature_change", a=a, c=1.0))[None] for side, a in (("below", 3.0), ("above", 5.0))
    },
    measure=curvature_changes,
)


def _catapulted(random: np.random.Generator, tier: str) -> Sample:
    count = _count(tier)
    near = 2 + 10 ** random.uniform(-2, -1, count // 4)
    start = np.concatenate([near, random.uniform(2, 4, count - count // 4)])
    share = np.concatenate([random.uniform(-1, 1, count // 4) * (near - 2), random.uniform(-1, 1, count - count // 4)])
    return starts(random, start, share)


LANDS = Claim(
    id="catapult/lands_below_the_edge",
    tier="quick",
    statement="every feasible start with 2 < eta lambda_0 < 4 ends with 0 < eta lambda < 2, however large its output",
    source=SOURCE + "; no start was found that the large-width argument of the paper would have excluded",
    comparison=window(
        1e-9,
        "rounding of lambda",
        ceiling=Ceiling(0.02, "of the drawn starts the flattest and the sharpest ending limit the resolution"),
    ),
    draw=_catapulted,
    predicted=lambda sample: np.array([0.0, _value("lower_edge")]),
    measure=landings,
)


def _lossy(random: np.random.Generator, tier: str) -> Sample:
    return starts(random, random.uniform(0.05, 3.9, _count(tier)), random.uniform(0.02, 1, _count(tier)))


BUDGET = Claim(
    id="catapult/loss_budget",
    tier="default",
    statement="below eta lambda_0 = 4 the loss is summable from every feasible start: the sum of eta^2 f^2/n over all "
    "steps is at most 1/(4 - eta lambda_0) of the eta lambda that is lost",
    source=SOURCE,
    comparison=at_least(
        1e-9,
        "the lost eta lambda, above 1e-5 here, is known to the rounding of lambda, 1e-15",
        ceiling=Ceiling(0.01, "starts are drawn: the bound is met where little of lambda is lost"),
    ),
    draw=_lossy,
    predicted=lambda sample: 1 / _value("loss_budget", a=0.0)[None] + 0.0,
    measure=loss_budgets,
)


CLAIMS = [MAP, UPPER, FALLS, LANDS, BUDGET]
