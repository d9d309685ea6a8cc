"""Mini-batch noise on quadratics: the variance of a batch, and where second moments start to grow."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy as sp

import theory
from theory.noise.almost_sure import edge_splitting
from theory.noise.mean_square import closed_loop, mean_square_edge, second_moment_operator, spectral_radius
from theory.noise.sampling import batch_variance
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order
from toylab.experiments.noisy_quadratics import (
    DRAWS,
    ETA,
    EXAMPLES,
    SIZES,
    SPLIT,
    SPREAD,
    STRENGTHS,
    WAYS,
    Drawn,
    critical_factors,
    gradient_variances,
    mean_square_edges,
    moment_growths,
    shift_errors,
    shift_limits,
)
from toylab.optimizers import NAMED

SOURCE = "derived from each rule's own code by theory.noise.mean_square; for gradient descent Wu, Ma & E, NeurIPS 2018"


def variance(curvatures: np.ndarray, size: int, independent: bool) -> float:
    """The variance of the batch mean, as `theory.noise.sampling` derives it."""
    formula = batch_variance().numeric("with_replacement" if independent else "without_replacement")
    return float(formula(examples=len(curvatures), batch=size, spread=float(np.std(curvatures))))


VARIANCE = Claim(
    id="noise/batch_variance",
    tier="quick",
    statement="the gradient of a mini-batch has variance s^2 (n - B)/(B (n - 1)) without and s^2/B with replacement",
    source="theory.noise.sampling: derived by counting batches",
    comparison=equality(1e-12, "sums of at most 216 terms in double precision"),
    draw=lambda random, tier: random.normal(1.0, 1.0, ({"quick": 2, "default": 5, "long": 20}[tier], 6)),
    predicted=lambda sample: np.array([[variance(c, *way) / np.var(c) for way in WAYS] for c in sample]),
    measure=gradient_variances,
)


# ---------------------------------------------------------------------------------------------------------------
# The mean-square edge

FEW = ("gd", "heavy_ball", "nesterov", "delayed_gradient", "adam")

MORE = (*FEW, "ema_momentum", "quasi_hyperbolic", "optimistic_gd", "ema_cascade", "rmsprop")

ALL = (*MORE, "nadam", "adamw", "adan", "ademamix")


def _hyperparameters(rule: str, random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    points = [theory.cached_edge(NAMED[rule]).draw(random) for _ in range(count)]
    return {name: np.array([p[name] for p in points]) for name in points[0]}


def _lines(random: np.random.Generator, tier: str) -> dict[str, Drawn]:
    count = {"quick": 2, "default": 2, "long": 40}[tier]
    rules = {"quick": FEW, "default": MORE, "long": ALL}[tier]
    return {
        rule: Drawn(_hyperparameters(rule, random, count), random.uniform(-0.5, 2.5, (count, EXAMPLES)) + 0.5)
        for rule in rules
    }


def _preconditioner(rule: str, point: dict[str, float]) -> float:
    """P where the slow leaves are 1, from the derived formula."""
    edge = theory.cached_edge(NAMED[rule])
    values = {edge.symbols[name]: value for name, value in point.items()} | dict.fromkeys(edge.slow, 1)
    return float(sp.N(edge.preconditioner.xreplace(values), 20))


def _edges(sample: dict[str, Drawn]) -> dict[str, np.ndarray]:
    out = {}
    for rule, drawn in sample.items():
        theorem, rows = mean_square_edge(NAMED[rule]), []
        for i, curvatures in enumerate(drawn.curvatures):
            mean, point = curvatures.mean(), drawn.member(i)
            relative = [variance(curvatures, *way) / mean**2 for way in DRAWS]
            rows.append([theorem.at(c, **point) * _preconditioner(rule, point) / mean for c in relative])
        out[rule] = np.array(rows)
    return out


MEAN_SQUARE = Claim(
    id="noise/mean_square_edge",
    tier="quick",
    statement="averaged exactly over all mini-batches, E[w^2] starts to grow where c k^2 N(k) = 1, for any rule, its "
    "hyperparameters drawn from their whole domain, batches with and without replacement",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "growth is called above 1e-12 a step; at the flattest crossing of the domain, where memories last a hundred "
        "steps, that is 1e-8 above the edge",
    ),
    draw=_lines,
    predicted=_edges,
    measure=mean_square_edges,
)


MOMENT_SHIFT = Claim(
    id="noise/mean_square_shift",
    tier="default",
    statement="small noise lowers the mean-square edge by the relative amount c kappa k*/2",
    source="theory.noise.almost_sure: the pole of the noise gain at the flip, kappa = -1/k'(-1)",
    comparison=bracket(
        2e-3,
        "shift/c is extrapolated to c = 0 by a cubic through five values of c up to 0.016, whose next term is "
        "(20 c)^4 at momentum .9",
        ceiling=Ceiling(1e-2, "the shift of a small noise is a small difference, and is extrapolated"),
    ),
    draw=lambda random, tier: (STRENGTHS / 20, float(random.uniform(0.05, 0.5))),
    predicted=lambda sample: {
        r: -float(edge_splitting(NAMED[r]).numeric("mean_square")(**_reference(r, sample[1]), relative_variance=1.0))
        for r in SPLIT
    },
    measure=shift_limits,
)


def _reference(rule: str, eta: float) -> dict[str, float]:
    """The rule's default hyperparameters, which the experiments run."""
    values = {name: float(value) for name, value in theory.cached_edge(NAMED[rule]).reference.items()}
    return values | {"learning_rate": eta}


SHIFT_ORDER = Claim(
    id="noise/mean_square_shift_order",
    tier="default",
    statement="what is left of the mean-square edge's shift beyond first order is of second order in the variance c",
    source="theory.noise.almost_sure",
    comparison=order(0.1, "slopes over c up to 8e-4, where the third order is a few percent of the second"),
    predicted=lambda sample: dict.fromkeys(SPLIT, 2.0),
    errors=shift_errors,
)


# ---------------------------------------------------------------------------------------------------------------
# Several directions


def _planes(random: np.random.Generator, tier: str) -> dict[str, Any]:
    count = {"default": 2}.get(tier, 20)
    rules = ("gd", "heavy_ball", "adam", "ema_cascade")
    return {
        rule: [
            (theory.cached_edge(NAMED[rule]).draw(random), 3 * random.standard_normal((EXAMPLES, 3)))
            for _ in range(count)
        ]
        for rule in rules
    }


def _operators(sample: dict[str, Any]) -> dict[str, np.ndarray]:
    out = {}
    for rule, members in sample.items():
        step, rows = closed_loop(NAMED[rule]), []
        for point, features in members:
            hessians = jnp.einsum("ni,nj->nij", features, features)
            mean = step(hessians.mean(axis=0), **point)
            away = jnp.stack([step(one, **point) for one in hessians]) - mean
            unit = np.array([0.0, 1.0] * 3)[: len(features)]  # the factor of the variance does not depend on numbers
            for way in DRAWS:
                factor = variance(unit, *way) / np.var(unit)
                rows.append(spectral_radius(second_moment_operator(mean, np.sqrt(factor) * away)))
        out[rule] = np.array(rows).reshape(len(members), len(DRAWS))
    return out


SEVERAL = Claim(
    id="noise/several_directions",
    tier="default",
    statement="with examples of rank one whose Hessians do not commute, E[w w^T] grows at the rate of the "
    "second-moment operator, the covariance of the Hessians times (n - B)/(B (n - 1)) or 1/B",
    source=SOURCE,
    comparison=equality(1e-8, "an eigenvalue of a dense matrix of up to 144 rows, the defective ones to its root"),
    draw=_planes,
    predicted=_operators,
    measure=moment_growths,
)


def _critical_factor(way: tuple[int, bool]) -> float:
    mean = SPREAD.mean()
    relative = variance(SPREAD, *way) / mean**2
    return ETA * mean_square_edge(NAMED["gd"]).at(relative, learning_rate=ETA) / mean


MONTE_CARLO = Claim(
    id="noise/minibatch_threshold",
    tier="quick",
    statement="plain mini-batch runs of gradient descent gain second moment above eta a = 2/(1 + c) and lose it below, "
    "c = s^2 (n - B)/(a^2 B (n - 1)) without, s^2/(a^2 B) with replacement",
    source=SOURCE,
    comparison=bracket(
        0.0,
        "the bracket is one of confidence: each end is 4.6 standard errors from 1, so that all of them together miss "
        "with a chance below 1e-4 (nearly normal means of 16,384 runs or more of four steps)",
        ceiling=Ceiling(0.08, "second moments have heavy tails: their mean is known to some percent"),
    ),
    draw=lambda random, tier: (
        int(random.integers(1 << 30)),
        {"quick": 1 << 14, "default": 1 << 15}.get(tier, 1 << 18),
    ),
    predicted=lambda sample: np.array([_critical_factor(way) for way in SIZES]),
    measure=critical_factors,
)


CLAIMS = [VARIANCE, MEAN_SQUARE, MOMENT_SHIFT, SHIFT_ORDER, SEVERAL, MONTE_CARLO]
