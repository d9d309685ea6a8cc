"""Experiments on quadratics: the central map beside its optimizer below the edge, and Adam near its 2-cycle at it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

import toylab
from toylab.models.central_map import central_map_steps
from toylab.models.kernel import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED


class Below(NamedTuple):
    """A rule with its learning rate, on a quadratic all of whose curvatures are below its edge."""

    rule: str
    learning_rate: float
    curvatures: tuple[float, ...]
    start: tuple[float, ...]


def _bowl(weights: Array, curvatures: Array) -> Array:
    return jnp.mean(curvatures @ weights**2) / 2


STEPS = 40


def _bowl_problem(one: Below) -> toylab.Problem:
    return toylab.Problem(_bowl, jnp.array(one.start), jnp.array([one.curvatures]))


def mapped_distances(sample: tuple[Below, ...]) -> dict[str, np.ndarray]:
    """The norm of the central map's weights at each of `STEPS` steps (T,), by rule."""
    distances = {}
    for one in sample:
        problem = _bowl_problem(one)
        kernel = central_map_steps(problem, NAMED[one.rule](learning_rate=one.learning_rate), count=2)
        _, averages = rollout(kernel, kernel.init(problem.params), STEPS)
        distances[one.rule] = np.linalg.norm(np.asarray(averages.params), axis=1)
    return distances


def optimized_distances(sample: tuple[Below, ...]) -> dict[str, np.ndarray]:
    """The norm of the optimizer's own weights at each of `STEPS` steps (T,), by rule."""
    distances = {}
    for one in sample:
        problem = _bowl_problem(one)
        kernel = discrete_steps(problem, NAMED[one.rule](learning_rate=one.learning_rate))
        _, visited = rollout(kernel, kernel.init(problem.params), STEPS)
        distances[one.rule] = np.linalg.norm(np.asarray(visited.params), axis=1)
    return distances


KICK = 1e-3
"""The relative offset of the second moment: small, so that the start is near the 2-cycle, yet large against
rounding."""

STEPS_AT_REST = 20_000
MOMENTA = np.arange(0.1, 0.25, 0.0025)


@jax.jit
def _spreads(b1: Array, b2: Array) -> Array:
    """Standard deviations of log nu over the four quarters of a run of Adam on w^2/2 that starts near its 2-cycle."""
    rule = optax.adam(1.0, b1=b1, b2=b2, eps=0.0)
    swing = (1 - b1) / (1 + b1)  # of the first moment when the gradient alternates
    weight = swing / 2  # w+ = w - m+/|w| = -w
    initial: Any = rule.init(weight)
    adam, rest = initial
    late = jnp.asarray(1e6, adam.count.dtype)  # bias corrections are over
    state = (adam._replace(count=late.astype(jnp.int32), mu=-swing * weight, nu=(1 + KICK) * weight**2), rest)

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        updates, after = rule.update(carry[0], carry[1], carry[0])
        moment: Any = after
        return (carry[0] + updates, after), jnp.log(moment[0].nu)

    def quarter(carry: Any, _: None) -> tuple[Any, Array]:
        carry, logarithms = lax.scan(step, carry, length=STEPS_AT_REST // 4)
        return carry, jnp.std(logarithms)

    return lax.scan(quarter, (weight, state), length=4)[1]


def momenta_at_rest(sample: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The largest momentum whose run comes nearer to rest, and the smallest whose run does not."""
    brackets = {}
    for b2 in sample:
        spreads = np.asarray(jax.vmap(_spreads, in_axes=(0, None))(jnp.asarray(MOMENTA), jnp.asarray(b2)))
        calmer = spreads[:, -1] < spreads[:, 0]
        change = int(np.argmin(calmer))
        clean = calmer[0] and not calmer[change:].any()
        brackets[f"b2 = {b2:.4f}"] = np.array([MOMENTA[change - 1], MOMENTA[change]]) if clean else np.full(2, np.nan)
    return brackets
