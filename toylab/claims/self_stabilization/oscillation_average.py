"""The average of the gradient over an oscillation, on a network: the term from which self-stabilization comes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from theory.losses.mean_gradient import averaged_gradient
from toylab.claims.claim import Claim
from toylab.claims.comparisons import order
from toylab.problems import digits_mlp

AMPLITUDES = 2.0 ** np.arange(-7, -2)
"""x, the size of the oscillation along u, in units of the weights (variance 1/fan_in)."""


def _draw(random: np.random.Generator, tier: str) -> list[int]:
    return random.integers(0, 2**31, {"quick": 1, "default": 4, "long": 100}[tier]).tolist()


def _exponent(sample: list[int]) -> np.ndarray:
    """The lowest power of x that the derived mean of the gradient has beyond x^2/2 grad S."""
    expressions = averaged_gradient().expressions
    mean, slope = expressions["mean_gradient_1"], expressions["sharpness_slope_1"]
    x = averaged_gradient().arguments["x"]
    constant = mean.xreplace({x: 0 * x})
    rest: Any = (mean - constant - x**2 / 2 * slope).expand()
    return np.full(len(sample), float(rest.as_poly(x).monoms()[-1][0]))


def _errors(sample: list[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Norm of mean gradient - gradient - x^2/2 grad S, S and u from the dense Hessian, by autodiff of the network."""
    rows = []
    for seed in sample:
        problem = digits_mlp(hidden=(3,), examples=20, seed=seed)
        start, unravel = ravel_pytree(problem.params)
        rows.append(np.asarray(_gaps(start, problem.data, unravel=unravel, loss=problem.loss)))
    return {"digits network": (AMPLITUDES, np.array(rows))}


def _gaps(start: Any, data: Any, unravel: Any, loss: Any) -> Any:
    def value(flat: Any) -> Any:
        return loss(unravel(flat), data)

    gradient = jax.jit(jax.grad(value))
    values, vectors = jnp.linalg.eigh(jax.jit(jax.hessian(value))(start))
    del values
    u = vectors[:, -1]

    def curvature(flat: Any) -> Any:  # u^T H(w) u: its gradient at w is that of the top eigenvalue
        return jax.jvp(lambda w: jnp.vdot(jax.grad(value)(w), u), (flat,), (u,))[1]

    slope = jax.jit(jax.grad(curvature))(start)
    here = gradient(start)
    gaps = []
    for x in AMPLITUDES:
        mean = (gradient(start + x * u) + gradient(start - x * u)) / 2
        gaps.append(jnp.linalg.norm(mean - here - x**2 / 2 * slope))
    return jnp.stack(gaps)


AVERAGE = Claim(
    id="self_stabilization/averaged_gradient",
    tier="quick",
    statement="on a network the mean of grad L over w +- x u is grad L + (x^2/2) grad S + O(x^4)",
    source="theory.losses.mean_gradient.averaged_gradient; Cohen et al. 2207.14484 (talk), Damian et al. 2209.15594",
    comparison=order(
        0.1, "amplitudes from 1/128 to 1/8 of a unit weight: the sixth order is some per cent of the fourth"
    ),
    draw=_draw,
    predicted=lambda sample: {"digits network": _exponent(sample)},
    errors=_errors,
)

CLAIMS = [AVERAGE]
