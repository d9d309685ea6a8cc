"""Experiments on Berthier's three toys: gradient descent with one eigenvalue at the edge, with two, and on a circle."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab import problems
from toylab.curvature import dense_hessian
from toylab.experiments.predicted_runs import EPS, ETA, visited


def highest_sharpness(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """log2 of the highest sharpness within 20,000 steps, capped at twice the edge, over 1.5 times the edge."""

    def one(member: dict[str, Array], forcing: float) -> Array:
        start = jnp.stack([member["x"], member["y"]])
        problem = problems.berthier_one_eigenvalue(0.03, member["zeta"], forcing, start)
        sharpness = visited(problem, ETA, 20_000)[:, 1]
        return jnp.max(jnp.where(jnp.isfinite(sharpness), sharpness, 4 / ETA)) * ETA / 2

    run = jax.jit(jax.vmap(one, (0, None)))
    return {
        name: np.log2(np.minimum(np.asarray(run(sample, forcing)), 2) / 1.5)
        for name, forcing in {"with -x": 1.0, "without": 0.0}.items()
    }


def returns(sample: dict[str, np.ndarray]) -> np.ndarray:
    """y at which |x| is back at its start without forcing, interpolated, and extrapolated to eps = 0 by halving."""
    pushes, small = np.array([0.012, 0.006, 0.003]), 1e-6

    def one(below: Array, eps: Array) -> Array:
        start = jnp.stack([small + 0 * below, 2 / ETA - below])
        path = visited(problems.berthier_one_eigenvalue(eps, 0.0, 0.0, start), ETA, 2_600)
        grown = jnp.log(jnp.abs(path[:, 0]) / small)
        k = jnp.argmax((grown > 0) & (jnp.arange(len(grown)) > 1))
        part = -grown[k - 1] / (grown[k] - grown[k - 1])
        return path[k - 1, 1] + part * (path[k, 1] - path[k - 1, 1])

    levels = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(sample["below"], pushes)
    return np.asarray(levels) @ np.array([1 / 3, -2, 8 / 3])


def late_over_early_spread(sample: Any) -> dict[str, np.ndarray]:
    """Standard deviation in time of both eigenvalues of H(y), every third step, late over early; eps = .01."""
    del sample
    edge, steps = 2 / ETA, 60_000
    two = problems.berthier_two_eigenvalues(0.01, start=(0.1, 0.1, edge, edge - 0.3, 0.0))
    path = jax.jit(lambda problem: visited(problem, ETA, steps))(two)
    looked = path.at[:, :2].set(0)[::3]
    eigenvalues = np.asarray(jax.jit(jax.vmap(lambda w: jnp.linalg.eigvalsh(dense_hessian(two, w)[:2, :2])))(looked))
    early, late = eigenvalues[2_000:8_000].std(axis=0), eigenvalues[-6_000:].std(axis=0)
    return {"smaller, larger": late / early}


def _offset(eps: Array) -> Array:
    """|S - 2/eta| after the transient on the circle of codimension one, its largest value over 2,000 steps."""
    steps = 24_000
    problem = problems.berthier_codimension_one(eps, start=(0.0, 2.2, 2.94))
    path = visited(problem, ETA, steps)
    sharp = jnp.hypot(path[:, 1], path[:, 2]) + 3
    late = jnp.abs(jnp.arange(steps) * eps - 60) < 1000 * eps
    return jnp.max(jnp.where(late, jnp.abs(sharp - 2 / ETA), 0))


def offset_errors(sample: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """eps and the distance of the sharpness from the edge."""
    del sample
    return {"sharpness": (EPS, np.asarray(jax.jit(jax.vmap(_offset))(jnp.asarray(EPS))))}
