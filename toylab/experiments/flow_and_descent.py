"""Experiments on gradient descent beside gradient flow on a network: how far apart they are, and when they part."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

import toylab
from toylab.models.gradient_flow import gradient_flow_steps
from toylab.optimizers import NAMED

SETTINGS = {"degree": 3, "hidden": (32,)}

FRACTION = 0.5
"""Substeps of the flow are 1/(2 S): the fastest direction decays with an error of (1/2)^5/120 a substep."""


def _problem() -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(**SETTINGS)


@partial(jax.jit, static_argnames="points")
def _flowed(problem: toylab.Problem, time_step: Array, points: int) -> tuple[Array, Array]:
    """The flow at times 0, time_step, ...: weights (points, p) and sharpness (points,)."""
    kernel = gradient_flow_steps(problem, time_step, fraction=FRACTION)

    def step(state: Any, _: None) -> tuple[Any, tuple[Array, Array]]:
        after, info = kernel.step(state)
        return after, (ravel_pytree(info.params)[0], info.sharpness)

    return lax.scan(step, kernel.init(problem.params), None, length=points)[1]


@partial(jax.jit, static_argnames="points")
def _descended(problem: toylab.Problem, time_step: Array, substeps: Array, points: int) -> Array:
    """Gradient descent with learning rate time_step/substeps at the same times: weights (points, p)."""
    rule = NAMED["gd"](learning_rate=time_step / substeps)

    def one(_: int, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        updates, state = rule.update(problem.gradient(pair[0]), pair[1], pair[0])
        return jax.tree.map(jnp.add, pair[0], updates), state

    def step(pair: Any, _: None) -> tuple[Any, Array]:
        return lax.fori_loop(0, substeps, one, pair), ravel_pytree(pair[0])[0]

    return lax.scan(step, (problem.params, rule.init(problem.params)), None, length=points)[1]


@cache
def distances(time_step: float, points: int, substeps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distance of GD to the flow at times 0, time_step, ... for learning rates time_step/substeps, an array
    (rates, points), and the sharpness of the flow there (points,)."""
    problem, step = _problem(), jnp.asarray(time_step)
    flow, sharpness = _flowed(problem, step, points)
    runs = [_descended(problem, step, jnp.asarray(n), points) for n in substeps]
    return np.array([np.linalg.norm(run - flow, axis=1) for run in runs]), np.asarray(sharpness)


POINTS = 200
"""Units of flow time."""

BELOW = (4, 6, 8, 12, 16)
"""Runs below the edge all along have learning rates 1/these."""

TIMES = (50, 100)
"""Flow times at which distances are compared."""

LEAVING = (2, 3, 4)
"""Runs that cross the edge have learning rates 1/these."""

RATES = (2, 3, 4, 6, 8, 12, 16)
"""All learning rates are 1/these."""

APART = 3.0
"""Twice as far as at half the learning rate is Euler's first order; three times as far is not."""


def distance_errors(sample: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Learning rates, and the distance to the flow at each of `TIMES`."""
    distance, _ = distances(1.0, POINTS, RATES)
    rows = [RATES.index(n) for n in BELOW]
    return {f"time {time}": (1 / np.array(BELOW), distance[rows, time]) for time in TIMES}


def levels_at_departure(sample: Any) -> dict[str, float]:
    """eta S of the flow when gradient descent has left it: when it is `APART` times as far as half its learning rate.

    The start, where the fastest directions are still to be resolved, is passed by beginning at the smallest ratio.
    """
    distance, sharpness = distances(1.0, POINTS, RATES)
    levels = {}
    for n in LEAVING:
        ratio = distance[RATES.index(n), 1:] / distance[RATES.index(2 * n), 1:]
        gone = np.flatnonzero((ratio > APART) & (np.arange(ratio.size) > np.argmin(ratio)))
        levels[f"learning rate 1/{n}"] = float(sharpness[gone[0] + 1] / n) if gone.size else float("nan")
    return levels
