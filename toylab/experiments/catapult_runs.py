"""Real runs of two-layer linear nets for the claims on catapults: nothing here knows a prediction."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab.curvature import dense_hessian
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear


def weights_at(
    random: np.random.Generator, curvature: np.ndarray, share: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (u, v), (members, n) each, with (|u|^2 + |v|^2)/n = curvature and f/sqrt(n) = share x curvature/2.

    All weights of that kind are equally likely up to rotation: u + v and u - v have independent random directions.
    `share` in [-1, 1] covers every feasible output.
    """
    parts = []
    for sign in (1.0, -1.0):
        direction = random.standard_normal((len(curvature), width))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        parts.append(direction * np.sqrt(width * curvature * (1 + sign * share))[:, None])
    return (parts[0] + parts[1]) / 2, (parts[0] - parts[1]) / 2


def nearly_fitted(curvature: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (members, 2) of width 2 whose output sqrt(2) x `output` is not a difference of large numbers.

    u = (U, 0), v = (e, V): the products that make up f are all of its own size, so outputs far below the rounding of
    lambda are exact.
    """
    first = np.sqrt(curvature)
    zero = np.zeros_like(first)
    return np.stack([first, zero], 1), np.stack([2 * output / first, first], 1)


def _observed(params: tuple[Array, Array]) -> tuple[Array, Array]:
    """f/sqrt(n) and lambda of one net."""
    u, v = params
    return jnp.sum(u * v) / len(u), (jnp.sum(u * u) + jnp.sum(v * v)) / len(u)


@partial(jax.jit, static_argnames=("rule", "steps"))
def paths(
    rule: str, numbers: dict[str, Array], u: Array, v: Array, targets: Array, steps: int
) -> tuple[Array, Array, Array]:
    """f/sqrt(n), lambda and loss at the first `steps` iterates of every member: (members, steps) each.

    The rule itself, on the net itself, gradients by autodiff; `numbers`: hyperparameters (members,).
    """

    def one(numbers: dict[str, Array], u: Array, v: Array, target: Array) -> tuple[Array, Array, Array]:
        problem = two_layer_linear(u=u, v=v, targets=target)
        kernel = discrete_steps(problem, NAMED[rule](**numbers))
        _, visited = rollout(kernel, kernel.init(problem.params), steps)
        return *jax.vmap(_observed)(visited.params), visited.loss

    return jax.vmap(one)(numbers, u, v, targets)


@partial(jax.jit, static_argnames=("rule", "steps"))
def ends(rule: str, numbers: dict[str, Array], u: Array, v: Array, steps: int) -> tuple[Array, Array]:
    """f/sqrt(n) and lambda after `steps` steps, target 0: (members,) each; inf or nan where the run diverged."""

    def one(numbers: dict[str, Array], u: Array, v: Array) -> tuple[Array, Array]:
        problem = two_layer_linear(u=u, v=v)
        kernel = discrete_steps(problem, NAMED[rule](**numbers))
        last = lax.fori_loop(0, steps, lambda _, state: kernel.step(state)[0], kernel.init(problem.params))
        return _observed(last.params)

    return jax.vmap(one)(numbers, u, v)


def critical_rates(u: np.ndarray, v: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int) -> np.ndarray:
    """Learning rates (members, 2), the largest seen to converge and the smallest seen to diverge, by 60 bisections.

    Gradient descent from the same weights each time; diverged means that lambda ends above its start.
    """
    _, before = jax.vmap(lambda u, v: _observed((u, v)))(jnp.asarray(u), jnp.asarray(v))

    @jax.jit
    def halved(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        lo, hi = bounds
        middle = (lo + hi) / 2
        _, after = ends("gd", {"learning_rate": middle}, jnp.asarray(u), jnp.asarray(v), steps)
        converged = after <= before  # False for nan
        return jnp.where(converged, middle, lo), jnp.where(converged, hi, middle)

    lo, hi = lax.fori_loop(0, 60, halved, (jnp.asarray(low), jnp.asarray(high)))
    return np.stack([np.asarray(lo), np.asarray(hi)], axis=-1)


def critical_curvatures(rule: str, numbers: dict[str, np.ndarray], low: float, high: float, steps: int) -> np.ndarray:
    """lambda (members,) at which a tiny output neither grows nor fades over the second half of a run, by bisection.

    `low`, `high`: bounds of learning_rate x lambda.
    """
    drawn = {name: jnp.asarray(values) for name, values in numbers.items()}
    rate = drawn["learning_rate"]

    def halved(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        lo, hi = bounds
        middle = (lo + hi) / 2
        first = jnp.sqrt(middle)
        zero = jnp.zeros_like(first)
        u, v = jnp.stack([first, zero], 1), jnp.stack([1e-40 / first, first], 1)
        outputs, curvature, _ = paths(rule, drawn, u, v, jnp.zeros(len(u)), steps)
        fades = jnp.abs(outputs[:, -1]) <= jnp.abs(outputs[:, steps // 2])  # True where both underflow, False for nan
        fades |= jnp.abs(outputs[:, -1]) < 1e-9 * jnp.abs(outputs[:, 0])  # down to the rounding of f
        fades &= curvature[:, -1] > 0.999 * middle  # not because a catapult is over already
        return jnp.where(fades, middle, lo), jnp.where(fades, hi, middle)

    lo, hi = lax.fori_loop(0, 60, halved, (low / rate, high / rate))
    return np.asarray((lo + hi) / 2)


@jax.jit
def spectra(u: Array, v: Array, targets: Array) -> Array:
    """All Hessian eigenvalues (members, 2 n) of the real loss, ascending."""

    def one(u: Array, v: Array, target: Array) -> Array:
        problem = two_layer_linear(u=u, v=v, targets=target)
        return jnp.linalg.eigvalsh(dense_hessian(problem, problem.params))

    return jax.vmap(one)(u, v, targets)
