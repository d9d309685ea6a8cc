"""Where rules settle on a curve of minima when nothing pushes: real runs against the derived law."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy as sp

import theory
from theory.self_stabilization.minima_curves import curve_of_minima
from theory.self_stabilization.reflection import settled
from theory.self_stabilization.settling import LOCAL, Settling, settling_law
from toylab import problems
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, order
from toylab.experiments.settling_runs import (
    FAR,
    Runs,
    deviations,
    far_gaps,
    quadratic_coefficient,
    relative_deviations,
    spread_of_starts,
)
from toylab.optimizers import NAMED

SOURCE = (
    "derived by theory.self_stabilization.settling from the rule's traced filter and the traced loss; "
    "setting: Zhu et al. 2210.03294"
)

RULES: dict[str, tuple[str, dict[str, float]]] = {
    "gd": ("gd", {}),
    "heavy_ball .5": ("heavy_ball", {"momentum": 0.5}),
    "heavy_ball .9": ("heavy_ball", {"momentum": 0.9}),
    "nesterov .5": ("nesterov", {"momentum": 0.5}),
    "ema_momentum .7": ("ema_momentum", {"momentum": 0.7}),
}
"""Label -> rule and hyperparameters other than the learning rate."""

STEEPNESS = {"product_regression": 1.0, "minimalist": 2.0, "hyperbolic_product": 1.0}
"""Sharpness over x^2 + y^2 at the minima x y = 1 of each loss, see its docstring."""


# ---------------------------------------------------------------------------------------------------------------
# Design, with the help of theory


@lru_cache(maxsize=16)
def _law(rule: str) -> Settling:
    return settling_law(theory.cached_edge(NAMED[rule]))


@lru_cache(maxsize=8)
def _valley(loss: str) -> theory.Theorem:
    """The local derivatives at (p, 1/p), for every p at once."""
    p = sp.Symbol("p", positive=True)
    return curve_of_minima(problems.NAMED[loss]().value, (p, 1 / p), (p,))


def _point(place: np.ndarray) -> np.ndarray:
    """p > 1 with p^2 + 1/p^2 = place."""
    return np.sqrt((place + np.sqrt(place**2 - 4)) / 2)


def constants(rule: str, settings: Mapping[str, float], loss: str, place: np.ndarray) -> dict[str, np.ndarray]:
    """eta, edge, C, kappa and beta of a rule whose edge lies at ``place``.

    "size": the excess at which the law ends to be local, 1/C without cancellation between its parts, at most edge/3.
    """
    p = _point(place)
    local = {name: np.asarray(_valley(loss).numeric(name)(p=p)) + 0 * p for name in LOCAL}
    edge = STEEPNESS[loss] * place
    eta = theory.cached_edge(NAMED[rule]).at(learning_rate=1.0, **settings).threshold / edge
    values = {"learning_rate": eta, **settings}
    parts = [np.asarray(_law(rule).numeric(name)(**values, **local)) + 0 * p for name in ("across", "along", "lag")]
    return {
        "eta": eta,
        "edge": edge,
        "coefficient": np.sum(parts, axis=0),
        "size": 1 / np.maximum(np.sum(np.abs(parts), axis=0), 3 / edge),
        "speed": np.asarray(_law(rule).numeric("speed")(**values)) + 0 * p,
        "slope_sq": local["grad_sharpness_sq"],
    }


def runs_from(loss: str, label: str, place: np.ndarray, scaled: np.ndarray, unit: str = "law") -> Runs:
    """Runs at ``place`` (runs,) from the excess ``scaled`` (runs,), in units of 1/|C| ("law"), of the "size" of
    `constants` ("local"), or of the edge ("edge").

    The start lies off the curve by 1e-7 of the oscillation that the law expects, so its square counts 1e-14; there are
    steps for 40 e-folds at the slower of the starting and the final rate.
    """
    rule, settings = RULES[label]
    c = constants(rule, settings, loss, place)
    size = 1 / np.abs(c["coefficient"])
    excess = scaled * {"law": size, "local": c["size"], "edge": c["edge"]}[unit]
    p = _point((c["edge"] + excess) / STEEPNESS[loss])
    on_curve = np.stack([p, 1 / p], axis=1)
    across = on_curve[:, ::-1] / np.linalg.norm(on_curve, axis=1, keepdims=True)
    oscillation = np.minimum(excess, size) * np.sqrt(2 * c["speed"] / c["slope_sq"])
    rate = c["speed"] * c["eta"] * np.minimum(excess, np.minimum(size, 0.5 * np.abs(excess)))
    return Runs(
        loss,
        rule,
        settings,
        place,
        c["eta"],
        c["edge"],
        excess,
        on_curve + 1e-7 * oscillation[:, None] * across,
        np.asarray(settled(jnp.asarray(c["coefficient"] * excess))) / c["coefficient"],
        int(40 / rate.min()),
    )


# ---------------------------------------------------------------------------------------------------------------
# Near start

NEAR = ("gd", "heavy_ball .5", "nesterov .5", "ema_momentum .7")

SMALL = 0.2 * 2.0 ** (-np.arange(5) / 2)

NODES = np.sqrt(0.085 + 0.075 * np.cos(np.pi * (2 * np.arange(7) + 1) / 14))


def _near(random: np.random.Generator, tier: str, scaled: np.ndarray) -> dict[str, Runs]:
    labels = {"quick": NEAR[:2], "default": NEAR, "long": tuple(RULES)}[tier]
    place = 3.0 * random.uniform(0.97, 1.03, (len(STEEPNESS), len(labels)))
    return {
        f"{loss}, {label}": runs_from(loss, label, np.full(scaled.shape, place[i, j]), scaled, "local")
        for i, loss in enumerate(STEEPNESS)
        for j, label in enumerate(labels)
    }


def _reflections(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    return {
        name: 2 / 3 * constants(r.rule, r.settings, r.loss, r.place)["coefficient"][0] for name, r in sample.items()
    }


ORDER = Claim(
    id="self_stabilization/settling_order",
    tier="default",
    statement="near start: the excess at rest follows Y - log(1 + Y) = const, Y = C y, up to an error of order y_0^4, "
    "for every loss and rule, with C derived from the filter and four numbers of the valley",
    source=SOURCE,
    comparison=order(
        0.06, "slopes over a factor 4 in y_0 <= 0.2 of the local scale; the next term is two powers smaller"
    ),
    draw=partial(_near, scaled=SMALL),
    predicted=lambda sample: dict.fromkeys(sample, 4.0),
    errors=deviations,
)


REFLECTION = Claim(
    id="self_stabilization/settling_reflection",
    tier="quick",
    statement="near start the excess is reflected, y_f = -y_0 + (2/3) C y_0^2 + ..., with the derived C",
    source=SOURCE,
    comparison=equality(
        5e-6,
        "interpolation at 7 Chebyshev nodes, 0.1 to 0.4 of the local scale: what is left out is 2 (0.15/4)^7 / 0.15^7 "
        "of a term of the size of 1; rounding of 2e4 steps is magnified to 1e-7 with momentum .9",
    ),
    draw=partial(_near, scaled=NODES),
    predicted=_reflections,
    measure=quadratic_coefficient,
)


# ---------------------------------------------------------------------------------------------------------------
# All starts

STARTS = {"minimalist": (0.5, 2.0, 6.0), "hyperbolic_product": (-0.3, -0.6)}
"""Scaled excess Y_0 = C y_0; negative in a subcritical valley."""

STEEP = {"minimalist": np.array([12.0, 16.0, 22.0, 30.0]), "hyperbolic_product": np.array([40.0, 55.0, 75.0, 100.0])}


def _all_starts(random: np.random.Generator, tier: str) -> dict[str, Runs]:
    labels = {"quick": ("gd",), "default": ("gd", "heavy_ball .5"), "long": ("gd", "heavy_ball .5", "ema_momentum .7")}
    stretch = random.uniform(0.95, 1.05)
    return {
        f"{loss}, {label}, Y0 = {y}": runs_from(loss, label, stretch * STEEP[loss], np.full(4, abs(y)), "law")
        for loss in STARTS
        for label in labels[tier]
        for y in STARTS[loss]
        if loss == "minimalist" or label == "gd"
    }


REGIMES = Claim(
    id="self_stabilization/settling_all_starts",
    tier="default",
    statement="from near to far starts, super- and subcritical: at fixed Y_0 the excess at rest follows Lambert's law "
    "with a relative error of second order in 1/(x^2 + y^2), that is, of the order of 1/(C k*/eta)",
    source=SOURCE,
    comparison=order(0.1, "slopes over a factor 2.5 in steepness; the next term is two powers smaller, times up to 6"),
    draw=_all_starts,
    predicted=lambda sample: dict.fromkeys(sample, 2.0),
    errors=relative_deviations,
)

FAR_LABELS = ("gd", "heavy_ball .5", "nesterov .5")

FAR_EXCESS = (0.04, 0.08, 0.14)


def _far_starts(random: np.random.Generator, tier: str) -> dict[str, Runs]:
    stretch = random.uniform(0.95, 1.05)
    place, excess = np.repeat(stretch * FAR, len(FAR_EXCESS)), np.tile(FAR_EXCESS, len(FAR))
    labels = FAR_LABELS[:1] if tier == "quick" else FAR_LABELS
    return {label: runs_from("minimalist", label, place, excess, "edge") for label in labels}


def _far_limit(label: str) -> float:
    """Limit of y_f (x^2 + y^2) for ever steeper minima, in SymPy."""
    rule, settings = RULES[label]
    law, valley = _law(rule), _valley("minimalist")
    p, edge = valley.arguments["p"], theory.cached_edge(NAMED[rule])
    numbers: dict[Any, Any] = {edge.symbols[name]: sp.Rational(str(value)) for name, value in settings.items()}
    rate = edge.symbols["learning_rate"]
    numbers[rate] = sp.solve(law.threshold.subs(numbers) - valley.expressions["sharpness"], rate)[0]
    numbers |= {symbol: valley.expressions[name] for name, symbol in LOCAL.items()}
    gap: Any = law.expressions["far_gap"].subs(numbers, simultaneous=True)
    return float(sp.limit(sp.cancel(sp.together(gap * (p**2 + p**-2))), p, sp.oo))


GAP = Claim(
    id="self_stabilization/settling_far_gap",
    tier="quick",
    statement="far start on Zhu's minimalist example: whatever the starting excess, the sharpness at rest is below the "
    "edge by the derived gap, eta/2 for gradient descent, in the limit of small eta",
    source=SOURCE,
    comparison=equality(
        1e-6,
        "interpolation over five places in 1/(x^2 + y^2)^2 <= 1/230 leaves less than 1e-10; rounding of 1e5 steps "
        "leaves 1e-9 of each gap, which interpolation magnifies tenfold; starts above Y_0 = 35 leave e^-35",
    ),
    draw=_far_starts,
    predicted=lambda sample: {label: np.full(len(FAR_EXCESS), _far_limit(label)) for label in sample},
    measure=far_gaps,
)


FORGOTTEN = Claim(
    id="self_stabilization/settling_forgets_far_starts",
    tier="quick",
    statement="far starts that differ by a factor of 3.5 in excess come to rest at the same sharpness",
    source=SOURCE + ": differences are of the order of e^(-Y_0), Y_0 > 35 here",
    comparison=at_most(
        1e-8,
        "relative to the gap, which is down to 2e-4 of the sharpness; rounding of 1e5 steps leaves 1e-9",
        ceiling=EXACT,
        scale=1.0,
    ),
    draw=_far_starts,
    predicted=lambda sample: dict.fromkeys(sample, 0.0),
    measure=spread_of_starts,
)


CLAIMS = [ORDER, REFLECTION, REGIMES, GAP, FORGOTTEN]
