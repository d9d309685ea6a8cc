"""Where rules settle on a curve of minima when nothing pushes: real runs against the derived law.

Every run starts beside a minimum that is sharper than the edge by a chosen excess y_0 and goes on until it has come
to rest; measured is the sharpness of the minimum that it rests at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array, lax

import theory
from theory.self_stabilization.minima_curves import LOCAL, curve_of_minima
from theory.self_stabilization.reflection import settled
from theory.self_stabilization.settling import Settling, settling_law
from theory.toy_losses.second_order_model import second_order_settling
from toylab import problems
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, order
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import Problem

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
"""Sharpness over x^2 + y^2 at the minima x y = 1 of each loss (its docstring)."""


@dataclass(frozen=True)
class Runs:
    """Runs of one rule on one loss: ``eta`` and ``edge`` (runs,), ``start`` (runs, 2), and how many steps they get.

    ``place`` (runs,): x^2 + y^2 at the minimum whose sharpness is ``edge`` = k*/eta; ``excess`` (runs,): y_0.
    ``law`` (runs,): what theory expects of y_f, for claims about the *order* of the deviation from it, whose
    prediction is the exponent alone.
    """

    loss: str
    rule: str
    settings: dict[str, float]
    place: np.ndarray
    eta: np.ndarray
    edge: np.ndarray
    excess: np.ndarray
    start: np.ndarray
    law: np.ndarray
    steps: int


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

    The start lies off the curve by 1e-7 of the swing that the law expects, so its square counts 1e-14; there are steps
    for 40 e-folds at the slower of the starting and the final rate.
    """
    rule, settings = RULES[label]
    c = constants(rule, settings, loss, place)
    size = 1 / np.abs(c["coefficient"])
    excess = scaled * {"law": size, "local": c["size"], "edge": c["edge"]}[unit]
    p = _point((c["edge"] + excess) / STEEPNESS[loss])
    on_curve = np.stack([p, 1 / p], axis=1)
    across = on_curve[:, ::-1] / np.linalg.norm(on_curve, axis=1, keepdims=True)
    swing = np.minimum(excess, size) * np.sqrt(2 * c["speed"] / c["slope_sq"])
    rate = c["speed"] * c["eta"] * np.minimum(excess, np.minimum(size, 0.5 * np.abs(excess)))
    return Runs(
        loss,
        rule,
        settings,
        place,
        c["eta"],
        c["edge"],
        excess,
        on_curve + 1e-7 * swing[:, None] * across,
        np.asarray(settled(jnp.asarray(c["coefficient"] * excess))) / c["coefficient"],
        int(40 / rate.min()),
    )


# ---------------------------------------------------------------------------------------------------------------
# Experiments


@partial(jax.jit, static_argnames=("rule", "settings"))
def _rest(problem: Problem, eta: Array, start: Array, steps: Array, rule: str, settings: tuple) -> Array:
    """Weights after ``steps`` steps of optax's own transform, from each start; all members at once."""

    def one(rate: Array, weights: Array) -> Array:
        kernel = discrete_steps(problem, NAMED[rule](learning_rate=rate, **dict(settings)))
        return lax.fori_loop(0, steps, lambda _, now: kernel.step(now)[0], kernel.init(weights)).params

    return jax.vmap(one)(eta, start)


@jax.jit
def _sharpness(problem: Problem, weights: Array) -> Array:
    """Top Hessian eigenvalue (runs,) by autodiff."""
    return jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(problem.value)(w))[-1])(weights)


def settled_excess(runs: Runs) -> np.ndarray:
    """Measured y_f (runs,): sharpness where each run rests, minus the edge."""
    problem = problems.NAMED[runs.loss]()
    settings = tuple(sorted(runs.settings.items()))
    weights = _rest(problem, jnp.asarray(runs.eta), jnp.asarray(runs.start), runs.steps, runs.rule, settings)
    return np.asarray(_sharpness(problem, weights)) - runs.edge


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


def _deviations(sample: dict[str, Runs]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Half swing d = (y_0 - y_f)/2, and the deviation of y_0 + y_f from the law at equal d.

    At equal d instead of equal y_0 (to first order, a factor 1 + (y_0 + y_f)/d) every second power drops out.
    """
    out = {}
    for name, runs in sample.items():
        rest = settled_excess(runs)
        half = (runs.excess - rest) / 2
        out[name] = (half, np.abs(rest - runs.law) * (1 + (runs.excess + rest) / half))
    return out


def _bend(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """c in y_f = -y_0 + c y_0^2 + ...: with d = (y_0 - y_f)/2, (y_0 + y_f)/d^2 is even in d, since every orbit can be
    run backwards; its value at 0 by interpolation in d^2.
    """
    out = {}
    for name, runs in sample.items():
        rest = settled_excess(runs)
        half_sq = ((runs.excess - rest) / 2) ** 2
        powers = np.linalg.solve(np.vander(half_sq / half_sq.max(), increasing=True), (runs.excess + rest) / half_sq)
        out[name] = powers[0]
    return out


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
    errors=_deviations,
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
    measure=_bend,
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


def _relative_deviations(sample: dict[str, Runs]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """1/(x^2 + y^2), and the relative deviation from the law."""
    return {name: (1 / runs.place, np.abs(settled_excess(runs) / runs.law - 1)) for name, runs in sample.items()}


REGIMES = Claim(
    id="self_stabilization/settling_all_starts",
    tier="default",
    statement="from near to far starts, super- and subcritical: at fixed Y_0 the excess at rest follows Lambert's law "
    "with a relative error of second order in 1/(x^2 + y^2), that is, of the order of 1/(C k*/eta)",
    source=SOURCE,
    comparison=order(0.1, "slopes over a factor 2.5 in steepness; the next term is two powers smaller, times up to 6"),
    draw=_all_starts,
    predicted=lambda sample: dict.fromkeys(sample, 2.0),
    errors=_relative_deviations,
)

FAR = np.array([16.0, 19.0, 23.0, 28.0, 34.0])
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


def _far_gaps(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """y_f (x^2 + y^2) in the limit of steep minima, by interpolation in 1/(x^2 + y^2)^2, for each starting excess."""
    out = {}
    for label, runs in sample.items():
        gaps = (settled_excess(runs) * runs.place).reshape(len(FAR), -1)
        inverse = (runs.place.reshape(gaps.shape)[:, 0] / runs.place.min()) ** -2
        out[label] = np.linalg.solve(np.vander(inverse, increasing=True), gaps)[0]
    return out


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
    measure=_far_gaps,
)


def _spread(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """Largest difference of y_f between starts, relative to y_f, for each place; all places are one member."""
    out = {}
    for label, runs in sample.items():
        rest = settled_excess(runs).reshape(len(FAR), -1)
        out[label] = np.ptp(rest, axis=1) / np.abs(rest).min(axis=1)
    return out


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
    measure=_spread,
)

# ---------------------------------------------------------------------------------------------------------------
# The second-order regression model


@dataclass(frozen=True)
class Regression:
    """``epsilon`` (values,), ``target`` (members,), ``start`` (members, values, 2), learning rate and steps."""

    epsilon: np.ndarray
    target: np.ndarray
    start: np.ndarray
    eta: float
    steps: int


def _regression(random: np.random.Generator, tier: str, smallest: float) -> Regression:
    """Minima that are sharper than 2/eta by 5% to 30%, and a small residual; epsilon from 1e-2 down."""
    eta, members = 0.5, {"quick": 3, "default": 10, "long": 100}[tier]
    epsilon = np.geomspace(1e-2, smallest, 6)
    target = random.uniform(0.1, 0.6, members) / eta
    kernel = (2 / eta * random.uniform(1.05, 1.3, members))[:, None]
    rising = (kernel - 2 * target[:, None]) / (1 + epsilon)  # epsilon t2^2
    start = np.stack([np.sqrt(2 * target[:, None] + rising) + 1e-3, np.sqrt(rising / epsilon)], axis=-1)
    return Regression(epsilon, target, start, eta, int(150 / epsilon.min()))


@partial(jax.jit, static_argnames="eta")
def _regression_rest(epsilon: Array, target: Array, start: Array, steps: Array, eta: float) -> Array:
    """Top Hessian eigenvalue where each run (members, values) rests."""

    def one(curvature: Array, goal: Array, weights: Array) -> Array:
        problem = problems.second_order_model(curvature, goal, weights)
        kernel = discrete_steps(problem, NAMED["gd"](learning_rate=eta))
        last = lax.fori_loop(0, steps, lambda _, now: kernel.step(now)[0], kernel.init(weights)).params
        return jnp.linalg.eigvalsh(jax.hessian(problem.value)(last))[-1]

    return jax.vmap(lambda e, g, w: jax.vmap(one, (0, None, 0))(e, g, w), (None, 0, 0))(epsilon, target, start)


def _below_edge(sample: Regression) -> np.ndarray:
    """Sharpness at rest minus 2/eta, (members, values)."""
    rest = _regression_rest(sample.epsilon, sample.target, sample.start, sample.steps, sample.eta)
    return np.asarray(rest) - 2 / sample.eta


def _limit_of_gap(sample: Regression) -> np.ndarray:
    """(sharpness at rest - 2/eta)/epsilon for epsilon -> 0, by interpolation in epsilon."""
    scaled = _below_edge(sample) / sample.epsilon
    powers = np.vander(sample.epsilon / sample.epsilon.max(), increasing=True)
    return np.linalg.solve(powers, scaled.T)[0]


KERNEL = Claim(
    id="self_stabilization/second_order_model_gap",
    tier="quick",
    statement="the second-order regression model settles at sharpness 2/eta - (epsilon/2)(1/eta - E) + O(epsilon^2)",
    source="derived by theory.toy_losses.second_order_model; model: Agarwala et al. 2210.04860, section 3",
    comparison=equality(
        1e-7,
        "interpolation at six epsilon <= 1e-2 leaves 1e-9; rounding of 1e5 steps, 1e-14 of the sharpness, is divided "
        "by epsilon and magnified tenfold",
    ),
    draw=partial(_regression, smallest=1e-3),
    predicted=lambda sample: np.asarray(
        second_order_settling().numeric("gap")(learning_rate=sample.eta, target=sample.target)
    ),
    measure=_limit_of_gap,
)

KERNEL_ORDER = Claim(
    id="self_stabilization/second_order_model_order",
    tier="quick",
    statement="the second-order regression model settles off 2/eta in proportion to epsilon",
    source="Agarwala et al. 2210.04860; derived by theory.toy_losses.second_order_model",
    comparison=order(0.02, "the next term is epsilon <= 1e-2 times the first"),
    draw=partial(_regression, smallest=1e-4),
    predicted=lambda sample: np.ones(len(sample.target)),
    errors=lambda sample: {"sharpness at rest": (sample.epsilon, np.abs(_below_edge(sample)))},
)

CLAIMS = [ORDER, REFLECTION, REGIMES, GAP, FORGOTTEN, KERNEL, KERNEL_ORDER]
