"""Self-stabilization on networks: the predicted dynamics beside gradient descent with one unstable eigenvalue."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.claims.averaged_gradients import network
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import order, sign
from toylab.curvature import dense_hessian
from toylab.dynamics import Validity, constrained_trajectory, discrete_steps, predicted_dynamics, rollout
from toylab.dynamics.gradient_flow import gradient_flow_steps
from toylab.optimizers import NAMED
from toylab.problems import Problem

DAMIAN = "Damian, Nichani & Lee, arXiv:2209.15594"
RATE = 0.35
"""Learning rate of gradient descent on the Chebyshev network: it crosses 2/eta within 250 steps."""
SEARCH = 500
KICKS = (0.5, 1.0, 1.5)
"""Starts along the top eigenvector, in units of delta = sqrt(2 alpha/beta)."""


class Start(NamedTuple):
    """Flat weights on the constraint set at the first crossing (members, p), the top eigenvector, grad L and delta
    there, and the start of the oscillation in units of delta.
    """

    weights: np.ndarray
    top: np.ndarray
    gradient: np.ndarray
    delta: np.ndarray
    kick: np.ndarray


def _flat(params: Any) -> Array:
    return ravel_pytree(params)[0]


def on_flat_weights(problem: Problem, slope: Array, share: Array) -> Problem:
    """The problem on flat weights, with all but the `share` of the `slope` grad L(w_0) taken off the loss: alpha is
    scaled by the share and every derivative from the Hessian on is left as it is.
    """
    unravel = ravel_pytree(problem.params)[1]
    return Problem(lambda w: problem.value(unravel(w)) - (1 - share) * (slope @ w), _flat(problem.params))


def _sharpness(problem: Problem, weights: Array) -> Array:
    return jnp.linalg.eigvalsh(dense_hessian(problem, weights))[-1]


@jax.jit
def _crossed(keys: Array) -> tuple[Array, Array, Array, Array, Array]:
    """`Start` without kicks, and the `Validity` of the projection."""

    def one(key: Array) -> tuple[Array, Array, Array, Array, Array]:
        problem = network(key)
        kernel = discrete_steps(problem, NAMED["gd"](RATE))
        path = rollout(kernel, kernel.init(problem.params), SEARCH)[1].params
        sharpness = jax.lax.map(lambda w: jnp.linalg.eigvalsh(dense_hessian(problem, w))[-1], path)
        over = RATE * sharpness > 2
        first = jnp.argmax(over[1:] & ~over[:-1]) + 1
        held = constrained_trajectory(problem, RATE, 2 / RATE).init(jax.tree.map(lambda leaf: leaf[first], path))
        across = held.here.across()
        alpha = -held.here.gradient @ held.here.sharpness_gradient
        delta = jnp.sqrt(2 * alpha / (across @ across))
        return _flat(held.params), held.here.vectors[0], held.here.gradient, delta, held.status

    return jax.vmap(one)(keys)


def _draw(random: np.random.Generator, tier: str) -> Start:
    count = {"quick": 1, "default": 3, "long": 12}[tier]
    keys = jax.vmap(jax.random.key)(jnp.asarray(random.integers(0, 2**31, count)))
    *found, status = (np.asarray(field) for field in _crossed(keys))
    if np.any(status != Validity.ok):
        raise ArithmeticError(f"no point of the constraint set near the crossing: {status}")
    return Start(*found, random.choice(KICKS, count))


# ---------------------------------------------------------------------------------------------------------------
# The order of the error, as the slope of the loss is taken off

SHARES = 0.25 ** np.arange(5)
"""Of the slope that is left: eps = eta sqrt(alpha) halves from each to the next."""
STEPS = 40
"""At the first; the number of steps doubles from each share to the next."""
QUANTITIES = ("weights", "sharpness", "loss")


@jax.jit
def _compared(start: Start, share: Array) -> dict[str, Array]:
    """Largest errors of the predicted dynamics up to STEPS/sqrt(share) steps, each (members,)."""
    longest = round(STEPS / np.sqrt(SHARES.min()))

    def one(of: Start) -> dict[str, Array]:
        problem = on_flat_weights(network(), of.gradient, share)
        first = of.weights + of.kick * jnp.sqrt(share) * of.delta * of.top
        kernel = predicted_dynamics(problem, RATE)
        found = rollout(kernel, kernel.init(first, of.weights), longest)[1]
        descent = discrete_steps(problem, NAMED["gd"](RATE))
        path = rollout(descent, descent.init(first), longest)[1]
        sharpness = jax.lax.map(lambda w: _sharpness(problem, w), path.params)
        errors = {
            "weights": jnp.linalg.norm(found.params - path.params, axis=1),
            "sharpness": found.sharpness - sharpness,
            "loss": found.loss - path.loss,
        }
        during = jnp.arange(longest) * jnp.sqrt(share) <= STEPS
        return {name: jnp.max(jnp.where(during, jnp.abs(error), 0)) for name, error in errors.items()}

    return jax.vmap(one)(start)


def _errors(start: Start) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = [_compared(start, jnp.asarray(share)) for share in SHARES]
    return {name: (np.sqrt(SHARES), np.stack([np.asarray(one[name]) for one in found], axis=-1)) for name in QUANTITIES}
