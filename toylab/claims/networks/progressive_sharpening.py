"""Progressive sharpening: the sharpness of a network rises along gradient flow, at the rate -grad L . grad S."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

import toylab
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, sign
from toylab.curvature import dense_hessian

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065); rate: Damian, Nichani & Lee (arXiv:2209.15594)"
SPANS = 0.04 * 0.5 ** np.arange(6)
"""Flow times over which the sharpness is differenced, then extrapolated to none."""
TIMES = (10.0, 20.0, 40.0, 80.0, 160.0)
"""Flow times at which the sharpness is compared; before the first it may rise or fall."""
LENGTH = 0.04
"""Substep of the flow: 1/S or less up to S = 25, so that the fastest direction is resolved to about one per cent."""


def _problem(seed: Array) -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(16,), seed=jax.random.key(seed))


def _sharpness(problem: toylab.Problem, params: Any) -> Array:
    return jnp.linalg.eigvalsh(dense_hessian(problem, params))[-1]


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
        problem = _problem(seed)
        after = _flow(problem, problem.params, span, jnp.asarray(4))
        return (_sharpness(problem, after) - _sharpness(problem, problem.params)) / span

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(seeds, spans)


def _extrapolated(values: np.ndarray) -> np.ndarray:
    """The limit of values (..., n) at h, h/2, h/4, ... whose error is a power series in h (Richardson)."""
    for order in range(1, values.shape[-1]):
        values = (2.0**order * values[..., 1:] - values[..., :-1]) / (2.0**order - 1)
    return values[..., 0]


def _seeds(random: np.random.Generator, tier: str) -> np.ndarray:
    return random.integers(0, 2**31, {"quick": 4, "default": 8, "long": 64}[tier])


def _measured_rates(seeds: np.ndarray) -> np.ndarray:
    return _extrapolated(np.asarray(_quotients(jnp.asarray(seeds), jnp.asarray(SPANS))))


@jax.jit
def _rates(seeds: Array) -> Array:
    """-grad L . grad S at the starts, grad S being that of u^T H u at fixed u."""

    def one(seed: Array) -> Array:
        problem = _problem(seed)
        flat, unravel = ravel_pytree(problem.params)
        u = jnp.linalg.eigh(dense_hessian(problem, problem.params))[1][:, -1]

        def form(point: Array) -> Array:
            return u @ ravel_pytree(problem.hvp(unravel(point), unravel(u)))[0]

        return -ravel_pytree(problem.gradient(problem.params))[0] @ jax.grad(form)(flat)

    return jax.vmap(one)(seeds)


RATE = Claim(
    id="networks/sharpening_rate",
    tier="default",
    statement="along gradient flow dS/dt = -grad L . grad S, grad S = the third derivative of the loss twice along the "
    "top eigenvector",
    source=SOURCE,
    comparison=equality(
        1e-6,
        "differences over 0.04 and five halvings, extrapolated: rounding 1e-15 S over the shortest, times the weights",
        scale=1.0,
    ),
    draw=_seeds,
    predicted=lambda seeds: np.asarray(_rates(jnp.asarray(seeds))),
    measure=_measured_rates,
)


@jax.jit
def _risen(seeds: Array, times: Array) -> Array:
    """log S(w(t)) along gradient flow, (seeds, times)."""

    def one(seed: Array) -> Array:
        problem = _problem(seed)

        def leg(params: Any, span: Array) -> tuple[Any, Array]:
            after = _flow(problem, params, span, jnp.ceil(span / LENGTH).astype(int))
            return after, jnp.log(_sharpness(problem, after))

        return lax.scan(leg, problem.params, jnp.diff(times, prepend=0.0))[1]

    return jax.vmap(one)(seeds)


def _rises(seeds: np.ndarray) -> dict[str, np.ndarray]:
    logs = np.asarray(_risen(jnp.asarray(seeds), jnp.asarray(TIMES)))
    return {f"from {TIMES[i]:g} to {TIMES[i + 1]:g}": logs[:, i + 1] - logs[:, i] for i in range(len(TIMES) - 1)}


def _finding(found: dict[str, np.ndarray]) -> str:
    each = "; ".join(f"{label}: {rise.min():+.2f} to {rise.max():+.2f}" for label, rise in found.items())
    return f"change of log S over flow times, least to most of all seeds, {each}"


RISES = Claim(
    id="networks/progressive_sharpening",
    tier="default",
    statement="once the start is past, the sharpness of a network rises along gradient flow and goes on rising",
    source=SOURCE,
    comparison=sign(
        0.0,
        "a rise is counted whatever its size",
        ceiling=Ceiling(0.5, "S rises by a factor and not by a known amount: its sign is the statement"),
        scale=1.0,
    ),
    draw=_seeds,
    predicted=lambda seeds: {f"from {TIMES[i]:g} to {TIMES[i + 1]:g}": 1.0 for i in range(len(TIMES) - 1)},
    measure=_rises,
    finding=_finding,
)

CLAIMS = [RATE, RISES]
