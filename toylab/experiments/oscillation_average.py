"""Experiments on the average of the gradient over an oscillation, on a network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from toylab.problems import digits_mlp

AMPLITUDES = 2.0 ** np.arange(-7, -2)
"""x, the size of the oscillation along u, in units of the weights (variance 1/fan_in)."""


def average_errors(sample: list[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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
    start_gradient = gradient(start)
    gaps = []
    for x in AMPLITUDES:
        mean = (gradient(start + x * u) + gradient(start - x * u)) / 2
        gaps.append(jnp.linalg.norm(mean - start_gradient - x**2 / 2 * slope))
    return jnp.stack(gaps)
