"""Progressive sharpening: the sharpness of a network rises along gradient flow, at the rate -grad L . grad S."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, sign
from toylab.curvature import dense_hessian
from toylab.experiments.sharpening_runs import TIMES, regression, sharpening_rates, sharpness_rises

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065); rate: Damian, Nichani & Lee (arXiv:2209.15594)"


def _seeds(random: np.random.Generator, tier: str) -> np.ndarray:
    return random.integers(0, 2**31, {"quick": 4, "default": 8, "long": 64}[tier])


@jax.jit
def _rates(seeds: Array) -> Array:
    """-grad L . grad S at the starts, grad S being that of u^T H u at fixed u."""

    def one(seed: Array) -> Array:
        problem = regression(seed)
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
    measure=sharpening_rates,
)


def _finding(measured: dict[str, np.ndarray]) -> str:
    each = "; ".join(f"{label}: {rise.min():+.2f} to {rise.max():+.2f}" for label, rise in measured.items())
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
    measure=sharpness_rises,
    finding=_finding,
)


CLAIMS = [RATE, RISES]
