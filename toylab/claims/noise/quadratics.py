"""Mini-batch noise on quadratics: where second moments, and where single runs, start to grow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

import theory
from theory.noise.almost_sure import edge_splitting
from theory.noise.mean_square import closed_loop, mean_square_edge, second_moment_operator, spectral_radius
from theory.noise.sampling import batch_variance
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order, statistical
from toylab.experiments import sampled as lab
from toylab.optimizers import NAMED
from toylab.problems import noisy_line

SOURCE = "derived from each rule's own code by theory.noise.mean_square; for gradient descent Wu, Ma & E, NeurIPS 2018"
FALSE_ALARM = 1e-4
"""Of all intervals of one claim together (Bonferroni)."""


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(1 << 30))


def variance(curvatures: np.ndarray, size: int, independent: bool) -> float:
    """What `theory.noise.sampling` says about the variance of the batch mean."""
    formula = batch_variance().numeric("with_replacement" if independent else "without_replacement")
    return float(formula(examples=len(curvatures), batch=size, spread=float(np.std(curvatures))))


# ---------------------------------------------------------------------------------------------------------------
# The variance of a batch

WAYS = list(product((1, 2, 3), (False, True)))
"""Batch sizes, and whether the examples of a batch are drawn independently (True) or differ (False)."""


def _gradients(sample: np.ndarray) -> np.ndarray:
    """Variance over all batches of the gradient at w = 1, in units of the examples' own variance."""
    out = []
    for curvatures in sample:
        problem = noisy_line(curvatures)
        one = jax.jit(jax.vmap(lambda batch, problem=problem: lab.on(problem, batch).gradient(problem.params)))
        found = [np.var(np.asarray(one(lab.all_batches(len(curvatures), *way)))) for way in WAYS]
        out.append(np.array(found) / np.var(curvatures))
    return np.array(out)


VARIANCE = Claim(
    id="noise/batch_variance",
    tier="quick",
    statement="the gradient of a mini-batch has variance s^2 (n - B)/(B (n - 1)) without and s^2/B with replacement",
    source="theory.noise.sampling: derived by counting batches",
    comparison=equality(1e-12, "sums of at most 216 terms in double precision"),
    draw=lambda random, tier: random.normal(1.0, 1.0, ({"quick": 2, "default": 5, "long": 20}[tier], 6)),
    predicted=lambda sample: np.array([[variance(c, *way) / np.var(c) for way in WAYS] for c in sample]),
    measure=_gradients,
)

# ---------------------------------------------------------------------------------------------------------------
# The mean-square edge

FEW = ("gd", "heavy_ball", "nesterov", "delayed_gradient", "adam")
MORE = (*FEW, "ema_momentum", "quasi_hyperbolic", "optimistic_gd", "ema_cascade", "rmsprop")
ALL = (*MORE, "nadam", "adamw", "adan", "ademamix")
EXAMPLES = 5
DRAWS = [(1, True), (2, False), (2, True)]


@dataclass(frozen=True)
class Drawn:
    """Hyperparameters (members,) and the examples' curvatures (members, n) for one rule."""

    hyperparameters: dict[str, np.ndarray]
    curvatures: np.ndarray

    def member(self, i: int) -> dict[str, float]:
        """Hyperparameters of member ``i``."""
        return {name: float(values[i]) for name, values in self.hyperparameters.items()}


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


def _found(sample: dict[str, Drawn]) -> dict[str, np.ndarray]:
    groups = [lab.all_batches(EXAMPLES, 2, False), lab.all_batches(EXAMPLES, 2, True)]
    groups.insert(0, np.repeat(np.arange(EXAMPLES)[:, None], 2, axis=1))  # one example, twice: a batch of one
    return {r: lab.critical_scale(r, d.hyperparameters, d.curvatures, groups) for r, d in sample.items()}


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
    measure=_found,
)


def _flipped(sample: Any) -> dict[str, np.ndarray]:
    strengths, eta = sample
    pair = np.array([[0], [1]])
    out = {}
    for rule in SPLIT:
        ends = [1 - np.sqrt(strengths), 1 + np.sqrt(strengths)]
        still = lab.critical_scale(rule, {"learning_rate": np.array([eta])}, np.ones((1, 2)), [pair])[0, 0]
        named = {"learning_rate": np.full(len(strengths), eta)}
        noisy = lab.critical_scale(rule, named, np.stack(ends, axis=1), [pair])[:, 0]
        out[rule] = np.stack([strengths, 1 - noisy / still])
    return out


SPLIT = ("heavy_ball", "nesterov", "nadam", "quasi_hyperbolic")
STRENGTHS = 1e-3 * 2.0 ** np.arange(5)

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
    measure=lambda sample: {
        r: np.repeat(np.polyfit(c, shift / c, 3)[-1], 2) for r, (c, shift) in _flipped(sample).items()
    },
)


def _reference(rule: str, eta: float) -> dict[str, float]:
    """The rule's default hyperparameters, which the experiments run."""
    values = {name: float(value) for name, value in theory.cached_edge(NAMED[rule]).reference.items()}
    return values | {"learning_rate": eta}


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
    measure=lambda sample: {
        rule: np.array(
            [
                [lab.moments_growth(rule, point, x, lab.all_batches(EXAMPLES, *way)) for way in DRAWS]
                for point, x in members
            ]
        )
        for rule, members in sample.items()
    },
)

# ---------------------------------------------------------------------------------------------------------------
# Drawn batches

SPREAD = np.array([0.17, 0.43, 0.61, 0.83, 1.19, 1.37, 1.67, 1.93])
SIZES = [(1, True), (2, False), (2, True), (4, False), (4, True)]
HORIZON = 4
ETA = 0.1


def _scales(sample: Any) -> np.ndarray:
    """(ways, 2): factors on the curvatures between which the mean of w^2 after the horizon passes its start."""
    seed, chains = sample
    scales = np.linspace(0.9, 2.1, 61)
    out = []
    for way in SIZES:
        random = np.random.default_rng([seed, *map(int, way)])
        batches = jnp.asarray(lab.drawn_batches(random, (HORIZON, chains), len(SPREAD), *way))

        def squares(scale: Any, batches: Any = batches) -> Any:
            w, log = lab.run_line("gd", {"learning_rate": ETA}, scale * SPREAD / ETA, batches)
            del log  # nothing is divided out in so few steps
            return jnp.mean(w**2), jnp.std(w**2) / np.sqrt(chains)

        mean, error = map(np.asarray, jax.jit(lambda s, run=squares: jax.lax.map(run, s))(jnp.asarray(scales)))
        margin = 4.6 * error  # two-sided 4e-6 for each of the ways, normal
        low = scales[mean + margin < 1].max()
        out.append([low, scales[(mean - margin > 1) & (scales > low)].min()])
    return np.array(out)


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
    measure=_scales,
)

# ---------------------------------------------------------------------------------------------------------------
# Almost surely

FACTORS = (0.63, 1.03, 1.57, 1.97, 2.57, 3.17)


def _single(sample: Any) -> np.ndarray:
    """(factors, ways, chains) Lyapunov exponents of gradient descent."""
    seed, chains, steps = sample
    out = []
    for way in ((1, True), (2, False)):
        random = np.random.default_rng([seed, *map(int, way)])
        batches = lab.drawn_batches(random, (steps, chains), len(SPREAD), *way)
        out.append([lab.exponents("gd", {"learning_rate": ETA}, f * SPREAD / ETA, batches) for f in FACTORS])
    return np.array(out).swapaxes(0, 1)


def _mean_logarithm(sample: Any) -> np.ndarray:
    step = jax.vmap(lambda h: closed_loop(NAMED["gd"])(h[None, None], learning_rate=ETA)[0, 0])
    rows = []
    for f in FACTORS:
        means = [SPREAD[lab.all_batches(len(SPREAD), *way)].mean(axis=1) for way in ((1, True), (2, False))]
        rows.append([float(np.mean(np.log(np.abs(np.asarray(step(jnp.asarray(f * m / ETA))))))) for m in means])
    return np.array(rows)


ALMOST_SURE = Claim(
    id="noise/almost_sure_exponent",
    tier="quick",
    statement="single runs of mini-batch gradient descent grow by E log|1 - eta h_B| a step, averaged over all "
    "batches: their edge lies above the one of the second moments",
    source="the law of large numbers on the traced step",
    comparison=statistical(
        FALSE_ALARM / 12,
        "twelve exponents share a chance of 1e-4; chains are independent and their exponents nearly normal",
        ceiling=Ceiling(0.03, "exponents of a few hundred thousand random steps are known to about 0.01"),
        scale=1.0,
    ),
    draw=lambda random, tier: (
        int(random.integers(1 << 30)),
        128,
        {"quick": 2_000, "default": 8_000}.get(tier, 40_000),
    ),
    predicted=_mean_logarithm,
    measure=_single,
)

RULES = ("gd", "heavy_ball", "nesterov")
MOMENTUM = {"gd": {}, "heavy_ball": {"momentum": 0.5}, "nesterov": {"momentum": 0.5}}
NOISES = 3e-5 * 2.0 ** np.arange(4)


def _at_edge(sample: Any) -> dict[str, np.ndarray]:
    """Exponents (strengths,) at the noiseless edge that the experiment finds; each run has a mirror image.

    The mirror of a run of two examples a(1 - r), a(1 + r) swaps them: what is odd in the noise cancels in the mean.
    """
    seed, chains, steps = sample
    batches = np.random.default_rng(seed).integers(0, 2, (steps, chains, 1), dtype=np.int32)
    both = np.concatenate([batches, 1 - batches], axis=1)
    pair, out = np.array([[0], [1]]), {}
    for rule in RULES:
        named = {"learning_rate": ETA, **MOMENTUM[rule]}
        still = lab.critical_scale(rule, {n: np.array([v]) for n, v in named.items()}, np.ones((1, 2)), [pair])[0, 0]
        out[rule] = np.array(
            [lab.exponents(rule, named, still * (1 + np.sqrt(c) * np.array([-1, 1])), both).mean() for c in NOISES]
        )
    return out


def _exponents_at_edge(rule: str) -> np.ndarray:
    formula = edge_splitting(NAMED[rule]).numeric("exponent")
    return np.array([float(formula(learning_rate=ETA, **MOMENTUM[rule], relative_variance=c)) for c in NOISES])


EXPONENT = Claim(
    id="noise/exponent_at_edge",
    tier="default",
    statement="at the noiseless edge k* of any rule that crosses it by a flip, curvature noise damps single runs at "
    "the rate c (kappa k*)^2/2 while their second moments grow: the two edges move apart symmetrically",
    source="theory.noise.almost_sure, first order in c, kappa = -1/k'(-1)",
    comparison=bracket(
        0.02,
        "exponent/c is extrapolated to c = 0 by a line through four values of c up to 2.4e-4: the curvature of the "
        "rest, up to 1e-2 for heavy ball, and less of sampling error remain",
        ceiling=Ceiling(0.05, "a small random exponent is extrapolated from finite noise"),
    ),
    draw=lambda random, tier: (_seed(random), 128, {"default": 8_000}.get(tier, 64_000)),
    predicted=lambda sample: {r: _exponents_at_edge(r)[0] / NOISES[0] for r in RULES},
    measure=lambda sample: {
        r: np.repeat(np.polyfit(NOISES, found / NOISES, 1)[-1], 2) for r, found in _at_edge(sample).items()
    },
)


def _errors(sample: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    out = {}
    for rule, (strengths, shifts) in _flipped((STRENGTHS / 20, ETA)).items():
        halved = shifts[1:] - 2 * shifts[:-1]  # what is of first order drops out
        out[rule] = (strengths[1:], np.abs(halved))
    return out


SHIFT_ORDER = Claim(
    id="noise/mean_square_shift_order",
    tier="default",
    statement="what is left of the mean-square edge's shift beyond first order is of second order in the variance c",
    source="theory.noise.almost_sure",
    comparison=order(0.1, "slopes over c up to 8e-4, where the third order is a few percent of the second"),
    predicted=lambda sample: dict.fromkeys(SPLIT, 2.0),
    errors=_errors,
)

CLAIMS = [VARIANCE, MEAN_SQUARE, SEVERAL, MONTE_CARLO, ALMOST_SURE, MOMENT_SHIFT, SHIFT_ORDER, EXPONENT]
