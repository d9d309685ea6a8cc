"""Experiments on the gradient of a network averaged over an oscillation along its top eigenvector."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.curvature import dense_hessian, sharpness_gradient
from toylab.models import discrete_steps, rollout
from toylab.optimizers import NAMED
from toylab.problems import Problem, chebyshev_mlp

RATE, STEPS = 0.25, 400
"""Gradient descent that leads to the weights, still below the edge 2/eta."""

AMPLITUDES = 0.02 * 2.0 ** np.linspace(0, 3, 6)
"""x, the size of the oscillation along u."""


class Place(NamedTuple):
    """Weights (members, p) with the top eigenvector, grad L and grad S there, all alike."""

    weights: Array
    top: Array
    gradient: Array
    sharpness_gradient: Array


def network(seed: Array | int = 0) -> Problem:
    """The small regression network of these experiments, 48 weights."""
    return chebyshev_mlp(degree=3, hidden=(16,), seed=seed)


def value(flat: Array) -> Array:
    """Its loss on flat weights (p,)."""
    problem = network()
    return problem.value(ravel_pytree(problem.params)[1](flat))


@jax.jit
def reached(keys: Array) -> Place:
    """Where gradient descent is after `STEPS` steps from the starts drawn by ``keys``."""

    def one(key: Array) -> Place:
        problem = network(key)
        kernel = discrete_steps(problem, NAMED["gd"](RATE))
        params = rollout(kernel, kernel.init(problem.params), STEPS)[0].params
        flat = ravel_pytree(params)[0]
        top = jnp.linalg.eigh(dense_hessian(problem, params))[1][:, -1]
        return Place(flat, top, jax.grad(value)(flat), sharpness_gradient(value, flat, top))

    return jax.vmap(one)(keys)


def _mean(weights: Array, top: Array, amplitude: Array) -> Array:
    """The mean of the real gradient over w +- amplitude u, (p,)."""
    there, back = (jax.grad(value)(weights + way * amplitude * top) for way in (1, -1))
    return (there + back) / 2


# ---------------------------------------------------------------------------------------------------------------
# The order of what is left


@jax.jit
def _left(at: Place, amplitudes: Array) -> Array:
    """|mean of grad L - grad L - (x^2/2) grad S|, (members, amplitudes)."""

    def one(place: Place, amplitude: Array) -> Array:
        model = place.gradient + amplitude**2 / 2 * place.sharpness_gradient
        return jnp.linalg.norm(_mean(place.weights, place.top, amplitude) - model)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(at, amplitudes)


def remainders(at: Place) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`AMPLITUDES`, and what is left of the averaged gradient beyond its second order, (members, amplitudes)."""
    return {"": (AMPLITUDES, np.asarray(_left(at, jnp.asarray(AMPLITUDES))))}


# ---------------------------------------------------------------------------------------------------------------
# Where it turns against the sharpness


@jax.jit
def _turned(at: Place) -> Array:
    """The x at which the mean of the gradient stops pointing down the slope of S, (members,), by bisection."""

    def one(place: Place) -> Array:
        def along(amplitude: Array) -> Array:
            return _mean(place.weights, place.top, amplitude) @ place.sharpness_gradient

        def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            against = along(middle) > 0
            return jnp.where(against, low, middle), jnp.where(against, middle, high)

        # the first of a fine grid, so that no later zero is taken for it
        grid = jnp.linspace(0.0, 1.0, 201)
        first = jnp.argmax(jax.vmap(along)(grid) > 0)
        low, high = jax.lax.fori_loop(0, 45, halved, (grid[first - 1], grid[first]))
        return (low + high) / 2

    return jax.vmap(one)(at)


def turning_amplitudes(at: Place) -> np.ndarray:
    """The x (members,) from which on the averaged gradient points up the slope of S."""
    return np.asarray(_turned(at))
