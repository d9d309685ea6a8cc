"""Experiments on progressive sharpening: gradient flow of networks, and the sharpness along it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

import toylab
from toylab.curvature import dense_sharpness

SPANS = 0.04 * 0.5 ** np.arange(6)
"""Flow times over which the sharpness is differenced, then extrapolated to none."""

TIMES = (10.0, 20.0, 40.0, 80.0, 160.0)
"""Flow times at which the sharpness is compared; before the first it may rise or fall."""

LENGTH = 0.04
"""Substep of the flow: 1/S or less up to S = 25, so that the fastest direction is resolved to about one per cent."""


def regression(seed: Array) -> toylab.Problem:
    """The regression network of a seed."""
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(16,), seed=jax.random.key(seed))


def _flow(problem: toylab.Problem, params: Any, time: Array, substeps: Array) -> Any:
    """w' = -grad L from `params` for `time`, by the classical Runge-Kutta method of order four."""
    h = time / substeps

    def moved(params: Any, by: Array, slope: Any) -> Any:
        return jax.tree.map(lambda w, d: w - by * d, params, slope)

    def step(_: int, params: Any) -> Any:
        one = problem.gradient(params)
        two = problem.gradient(moved(params, h / 2, one))
        three = problem.gradient(moved(params, h / 2, two))
        four = problem.gradient(moved(params, h, three))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, one, two, three, four)
        return moved(params, h, mean)

    return lax.fori_loop(0, substeps, step, params)


@jax.jit
def _quotients(seeds: Array, spans: Array) -> Array:
    """(S(w(span)) - S(w(0)))/span along gradient flow, (seeds, spans)."""

    def one(seed: Array, span: Array) -> Array:
        problem = regression(seed)
        after = _flow(problem, problem.params, span, jnp.asarray(4))
        return (dense_sharpness(problem, after) - dense_sharpness(problem, problem.params)) / span

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(seeds, spans)


def _extrapolated(values: np.ndarray) -> np.ndarray:
    """The limit of values (..., n) at h, h/2, h/4, ... whose error is a power series in h (Richardson)."""
    for order in range(1, values.shape[-1]):
        values = (2.0**order * values[..., 1:] - values[..., :-1]) / (2.0**order - 1)
    return values[..., 0]


def sharpening_rates(seeds: np.ndarray) -> np.ndarray:
    """dS/dt (seeds,) along gradient flow at the starts, extrapolated from differences."""
    return _extrapolated(np.asarray(_quotients(jnp.asarray(seeds), jnp.asarray(SPANS))))


@jax.jit
def _risen(seeds: Array, times: Array) -> Array:
    """log S(w(t)) along gradient flow, (seeds, times)."""

    def one(seed: Array) -> Array:
        problem = regression(seed)

        def leg(params: Any, span: Array) -> tuple[Any, Array]:
            after = _flow(problem, params, span, jnp.ceil(span / LENGTH).astype(int))
            return after, jnp.log(dense_sharpness(problem, after))

        return lax.scan(leg, problem.params, jnp.diff(times, prepend=0.0))[1]

    return jax.vmap(one)(seeds)


def sharpness_rises(seeds: np.ndarray) -> dict[str, np.ndarray]:
    """Changes of log S (seeds,) from each flow time to the next."""
    logs = np.asarray(_risen(jnp.asarray(seeds), jnp.asarray(TIMES)))
    return {f"from {TIMES[i]:g} to {TIMES[i + 1]:g}": logs[:, i + 1] - logs[:, i] for i in range(len(TIMES) - 1)}
