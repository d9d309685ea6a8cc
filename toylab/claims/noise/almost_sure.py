"""Mini-batch noise on quadratics: where single runs start to grow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from theory.noise.almost_sure import edge_splitting
from theory.noise.mean_square import closed_loop
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, statistical
from toylab.experiments import sampled as lab
from toylab.experiments.noisy_quadratics import (
    ETA,
    FACTORS,
    MOMENTUM,
    NOISES,
    RULES,
    SPREAD,
    exponent_limits,
    single_exponents,
)
from toylab.optimizers import NAMED

FALSE_ALARM = 1e-4
"""The probability that one of all intervals of a claim misses its true value (Bonferroni)."""


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(1 << 30))


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
    measure=single_exponents,
)


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
    measure=exponent_limits,
)


CLAIMS = [ALMOST_SURE, EXPONENT]
