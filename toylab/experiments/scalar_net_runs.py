"""Experiments on scalar networks: gradient flow to its minimum, and steps of descent that raise the flow sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab import problems
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems.scalar_nets import flow_sharpness


@dataclass(frozen=True)
class Nets:
    """Weights (nets, depth), all positive; for runs a learning rate (nets,) each."""

    weights: np.ndarray
    eta: np.ndarray


@jax.jit
def _flowed(weights: Array) -> Array:
    """Runge-Kutta of fourth order along the problem's own gradient, step 0.04/sharpness at the start, to rest."""

    def one(start: Array) -> Array:
        problem = problems.scalar_chain(start)
        top = jnp.linalg.eigvalsh(jax.hessian(problem.value)(start))[-1]
        size = 0.04 / jnp.maximum(jnp.abs(top), flow_sharpness(start))

        def step(_: int, w: Array) -> Array:
            a = -problem.gradient(w)
            b = -problem.gradient(w + size / 2 * a)
            c = -problem.gradient(w + size / 2 * b)
            d = -problem.gradient(w + size * c)
            return w + size / 6 * (a + 2 * b + 2 * c + d)

        return lax.fori_loop(0, 3_000, step, start)

    return jax.vmap(one)(weights)


def _squares_apart(final: Array, start: np.ndarray) -> np.ndarray:
    """w_i^2 - w_1^2 at the end, in units of the largest square at the start."""
    squares = np.asarray(final) ** 2
    return (squares[:, 1:] - squares[:, :1]) / (start**2).max(axis=1, keepdims=True)


def final_imbalances(sample: dict[str, Nets]) -> dict[str, np.ndarray]:
    """w_i^2 - w_1^2 where gradient flow comes to rest, in units of the largest square at the start."""
    return {
        name: np.asarray(_squares_apart(_flowed(jnp.asarray(nets.weights)), nets.weights))
        for name, nets in sample.items()
    }


@jax.jit
def _rises(weights: Array, eta: Array) -> Array:
    """Largest rise of the flow sharpness in one step, relative, over 400 steps (nets,); steps count while the product
    of the weights is positive, where the flow has such a minimum to find.
    """

    def one(start: Array, rate: Array) -> Array:
        kernel = discrete_steps(problems.scalar_chain(start), NAMED["gd"](learning_rate=rate))
        visited = rollout(kernel, kernel.init(start), 400)[1].params
        inside = jnp.cumprod(jnp.prod(visited, axis=1) > 0)
        sharpness = jax.vmap(flow_sharpness)(jnp.where(inside[:, None] > 0, visited, start))
        return jnp.max(jnp.where(inside[1:] > 0, jnp.diff(sharpness), -jnp.inf)) / sharpness[0]

    return jax.vmap(one)(weights, eta)


def largest_rises(sample: dict[str, Nets]) -> dict[str, np.ndarray]:
    """Largest relative rise of the flow sharpness in a step, over each run."""
    return {name: np.asarray(_rises(jnp.asarray(nets.weights), jnp.asarray(nets.eta))) for name, nets in sample.items()}


# ---------------------------------------------------------------------------------------------------------------
# The largest learning rate with which one step lowers the flow sharpness


def reach(weights: np.ndarray) -> np.ndarray:
    """|p - 1| p/(w_i w_j) for the two smallest weights (nets,): eta times it bounds the contraction of all gaps."""
    smallest = np.sort(weights, axis=1)[:, :2].prod(axis=1)
    product = weights.prod(axis=1)
    return np.abs(product - 1) * product / smallest


@jax.jit
def _first_rise(weights: Array, eta: Array) -> tuple[Array, Array]:
    """Bracket (lo, hi) of the smallest learning rate, among the rising ``eta`` (nets, grid) and by bisection between
    two of them, with which one step of optax's gradient descent raises the flow sharpness; both are close to the last
    of the grid where there is none.  Steps to a product that is not positive do not count.
    """

    def raises(start: Array, rate: Array) -> Array:
        kernel = discrete_steps(problems.scalar_chain(start), NAMED["gd"](learning_rate=rate))
        after = kernel.step(kernel.init(start))[0].params
        lost = jnp.prod(after) <= 0
        return ~lost & (flow_sharpness(jnp.where(lost, start, after)) > flow_sharpness(start))

    def one(start: Array, rates: Array) -> tuple[Array, Array]:
        bad = jax.vmap(lambda rate: raises(start, rate))(rates)
        first = jnp.where(jnp.any(bad), jnp.argmax(bad), len(rates) - 1)

        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            up = raises(start, middle)
            return jnp.where(up, ends[0], middle), jnp.where(up, middle, ends[1])

        return lax.fori_loop(0, 40, halve, (rates[first - 1], rates[first]))

    return jax.vmap(one)(weights, eta)


def brackets(nets: Nets) -> np.ndarray:
    """(nets, 2): bracket of the critical eta, in units of 1/`reach`."""
    grid = np.linspace(0.02, 2.0, 100) * np.sqrt(2)
    lo, hi = _first_rise(jnp.asarray(nets.weights), jnp.asarray(grid / reach(nets.weights)[:, None]))
    return np.stack([lo, hi], axis=1) * reach(nets.weights)[:, None]


def bounds(sample: dict[str, Nets]) -> dict[str, np.ndarray]:
    """Critical eta of each net, in units of 1/`reach`."""
    return {name: brackets(nets).mean(axis=1) for name, nets in sample.items()}


def lower_bounds(sample: dict[str, Nets]) -> dict[str, np.ndarray]:
    """Lower ends of the brackets of the critical eta of each net, in units of 1/`reach`."""
    return {name: brackets(nets)[:, 0] for name, nets in sample.items()}


# ---------------------------------------------------------------------------------------------------------------
# Any depth

DEVIATIONS = 0.1 + 0.08 * np.cos(np.pi * (2 * np.arange(7) + 1) / 14)
"""Distances from balance, Chebyshev nodes from 0.02 to 0.18."""


def reach_of_balanced(scale: np.ndarray, depth: int) -> np.ndarray:
    """`reach` of balanced nets of ``depth`` weights ``scale``."""
    return np.abs(scale**depth - 1) * scale ** (depth - 2)


def balanced_limits(sample: dict[str, Nets]) -> dict[str, np.ndarray]:
    """Critical eta |p - 1| p^(1 - 2/n), interpolated to zero deviation from balance (directions,)."""
    out = {}
    for name, nets in sample.items():
        depth = nets.weights.shape[1]
        unit = reach_of_balanced(nets.weights.prod(axis=1) ** (1 / depth), depth) / reach(nets.weights)
        middles = (brackets(nets).mean(axis=1) * unit).reshape(-1, len(DEVIATIONS))
        out[name] = np.linalg.solve(np.vander(DEVIATIONS / DEVIATIONS.max(), increasing=True), middles.T)[0]
    return out
