"""Experiments on mini-batches of quadratics: variance of a batch, growth of second moments, growth of single runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toylab.experiments import sampled as lab
from toylab.problems import noisy_line

# ---------------------------------------------------------------------------------------------------------------
# The variance of a batch

WAYS = list(product((1, 2, 3), (False, True)))
"""Batch sizes, and whether the examples of a batch are drawn independently (True) or differ (False)."""


def gradient_variances(sample: np.ndarray) -> np.ndarray:
    """Variance over all batches of the gradient at w = 1, in units of the examples' own variance."""
    out = []
    for curvatures in sample:
        problem = noisy_line(curvatures)
        one = jax.jit(jax.vmap(lambda batch, problem=problem: lab.on(problem, batch).gradient(problem.params)))
        variances = [np.var(np.asarray(one(lab.all_batches(len(curvatures), *way)))) for way in WAYS]
        out.append(np.array(variances) / np.var(curvatures))
    return np.array(out)


EXAMPLES = 5

DRAWS = [(1, True), (2, False), (2, True)]
"""Sizes of batches of them, and whether the examples of a batch are drawn independently."""


@dataclass(frozen=True)
class Drawn:
    """Hyperparameters (members,) and the examples' curvatures (members, n) for one rule."""

    hyperparameters: dict[str, np.ndarray]
    curvatures: np.ndarray

    def member(self, i: int) -> dict[str, float]:
        """Hyperparameters of member ``i``."""
        return {name: float(values[i]) for name, values in self.hyperparameters.items()}


def mean_square_edges(sample: dict[str, Drawn]) -> dict[str, np.ndarray]:
    """Factors (members, draws) on the curvatures at which E[w^2] over all batches starts to grow."""
    groups = [lab.all_batches(EXAMPLES, 2, False), lab.all_batches(EXAMPLES, 2, True)]
    groups.insert(0, np.repeat(np.arange(EXAMPLES)[:, None], 2, axis=1))  # one example, twice: a batch of one
    return {r: lab.critical_scale(r, d.hyperparameters, d.curvatures, groups) for r, d in sample.items()}


SPLIT = ("heavy_ball", "nesterov", "nadam", "quasi_hyperbolic")

STRENGTHS = 1e-3 * 2.0 ** np.arange(5)
"""Relative variances of the curvature, times 20."""


def flip_shifts(sample: Any) -> dict[str, np.ndarray]:
    """Relative variance of the curvature, and the relative shift of the mean-square edge that it causes."""
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


def shift_limits(sample: Any) -> dict[str, np.ndarray]:
    """The shift over c in the limit of small noise, as an interval of no width."""
    return {r: np.repeat(np.polyfit(c, shift / c, 3)[-1], 2) for r, (c, shift) in flip_shifts(sample).items()}


def shift_errors(sample: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Relative variance, and what is left of the shift beyond first order."""
    out = {}
    for rule, (strengths, shifts) in flip_shifts((STRENGTHS / 20, ETA)).items():
        halved = shifts[1:] - 2 * shifts[:-1]  # what is of first order drops out
        out[rule] = (strengths[1:], np.abs(halved))
    return out


def moment_growths(sample: dict[str, Any]) -> dict[str, np.ndarray]:
    """Growth of E[w w^T] a step, (members, draws), of the real step averaged over all batches."""
    return {
        rule: np.array(
            [
                [lab.moments_growth(rule, point, x, lab.all_batches(EXAMPLES, *way)) for way in DRAWS]
                for point, x in members
            ]
        )
        for rule, members in sample.items()
    }


# ---------------------------------------------------------------------------------------------------------------
# Drawn batches

SPREAD = np.array([0.17, 0.43, 0.61, 0.83, 1.19, 1.37, 1.67, 1.93])
"""Curvatures of eight examples, in units of 1/eta before they are scaled."""

SIZES = [(1, True), (2, False), (2, True), (4, False), (4, True)]
"""Sizes of batches of them, and whether the examples of a batch are drawn independently."""

HORIZON = 4
"""Steps of a run."""

ETA = 0.1
"""Learning rate."""


def critical_factors(sample: Any) -> np.ndarray:
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


# ---------------------------------------------------------------------------------------------------------------
# Almost surely

FACTORS = (0.63, 1.03, 1.57, 1.97, 2.57, 3.17)
"""Factors on `SPREAD` at which exponents are taken."""


def single_exponents(sample: Any) -> np.ndarray:
    """(factors, ways, chains) Lyapunov exponents of gradient descent."""
    seed, chains, steps = sample
    out = []
    for way in ((1, True), (2, False)):
        random = np.random.default_rng([seed, *map(int, way)])
        batches = lab.drawn_batches(random, (steps, chains), len(SPREAD), *way)
        out.append([lab.exponents("gd", {"learning_rate": ETA}, f * SPREAD / ETA, batches) for f in FACTORS])
    return np.array(out).swapaxes(0, 1)


RULES = ("gd", "heavy_ball", "nesterov")

MOMENTUM = {"gd": {}, "heavy_ball": {"momentum": 0.5}, "nesterov": {"momentum": 0.5}}

NOISES = 3e-5 * 2.0 ** np.arange(4)
"""Relative variances of the curvature."""


def exponents_at_edge(sample: Any) -> dict[str, np.ndarray]:
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


def exponent_limits(sample: Any) -> dict[str, np.ndarray]:
    """The exponent over c in the limit of small noise, as an interval of no width."""
    return {
        r: np.repeat(np.polyfit(NOISES, rates / NOISES, 1)[-1], 2) for r, rates in exponents_at_edge(sample).items()
    }
