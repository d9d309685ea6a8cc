"""Experiments on how a network leaves the edge: the held step, run from a tiny push at weights from training.

The slope of the loss at these weights is taken off, L(w) - w . grad L(w_0), so that w_0 is at rest and every other
derivative is that of the network: what grows is then the divergence alone, without the drift of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature import dense_hessian
from toylab.experiments.held_runs import roles_of
from toylab.filters import limit_state
from toylab.models import discrete_steps, rollout
from toylab.optimizers import NAMED
from toylab.problems import Problem, chebyshev_mlp
from toylab.rules.held import held_step

TRAINED = 300
"""Steps of Adam that lead to the weights and to the second moment."""

PUSH = 1e-7
"""Length of the push, to which the perturbation is scaled back after every step: its square is below rounding in L."""

STEPS = 4000
"""The first half lets the fastest direction win, the second is measured."""


@dataclass(frozen=True)
class Weights:
    """Hyperparameters name -> (members,), weights, second moments and pushes, each (members, p)."""

    hyperparameters: dict[str, np.ndarray]
    weights: np.ndarray
    moments: np.ndarray
    pushes: np.ndarray


Sample = dict[str, Weights]


def network(seed: Array | int = 0) -> Problem:
    """The small regression network of these experiments, 30 weights."""
    return chebyshev_mlp(degree=3, hidden=(10,), seed=seed)


def value(flat: Array) -> Array:
    """Its loss on flat weights (p,)."""
    problem = network()
    return problem.value(ravel_pytree(problem.params)[1](flat))


@jax.jit
def trained(keys: Array) -> tuple[Array, Array]:
    """Weights and second moments (members, p) after Adam from the starts drawn by `keys`."""

    def one(key: Array) -> tuple[Array, Array]:
        problem = network(key)
        kernel = discrete_steps(problem, NAMED["adam"](0.01, b2=0.99))
        params, state = rollout(kernel, kernel.init(problem.params), TRAINED)[0]
        return ravel_pytree(params)[0], ravel_pytree(state[0].nu)[0]

    return jax.vmap(one)(keys)


@jax.jit
def hessians(weights: Array) -> Array:
    """The Hessians (members, p, p)."""
    problem = network()
    unravel = ravel_pytree(problem.params)[1]
    return jax.vmap(lambda flat: dense_hessian(problem, unravel(flat)))(weights)


# ---------------------------------------------------------------------------------------------------------------
# The experiment: the rule's own code, step by step


@partial(jax.jit, static_argnums=0)
def _pushed(rule: str, hyperparameters: dict[str, Array], *arrays: Array) -> tuple[Array, Array]:
    """Growth per step, (members,), and direction, (members, p), of what a push has become."""

    def one(hyperparameters: dict[str, Array], weights: Array, moment: Array, push: Array) -> tuple[Array, Array]:
        transform, parts = NAMED[rule](**hyperparameters), roles_of(rule)
        step, slope = held_step(transform, parts), jax.grad(value)(weights)
        held = [moment for _ in parts.slow]
        leaves, tree = jax.tree.flatten(limit_state(transform, weights, parts))

        def scaled(by: Array, off: Array, state: list[Array]) -> tuple[Array, list[Array]]:
            return by * off, [by * leaf if i in parts.fast else leaf for i, leaf in enumerate(state)]

        def stepped(carry: tuple[Array, list[Array]], _: None) -> tuple[tuple[Array, list[Array]], Array]:
            off, state = carry
            gradient = jax.grad(value)(weights + off) - slope
            update, after = step(gradient, jax.tree.unflatten(tree, state), weights + off, held)
            longer = jnp.linalg.norm(off + update) / PUSH
            return scaled(1 / longer, off + update, jax.tree.leaves(after)), jnp.log(longer)

        start = (PUSH * push / jnp.linalg.norm(push), leaves)
        (off, _), logs = lax.scan(stepped, start, None, length=STEPS)
        return jnp.mean(logs[STEPS // 2 :]), off / PUSH

    return jax.vmap(one)(hyperparameters, *arrays)


def _run(rule: str, at: Weights) -> tuple[np.ndarray, np.ndarray]:
    roles_of(rule)  # found by running the rule, which cannot be done inside the compiled program
    rates, directions = _pushed(rule, at.hyperparameters, at.weights, at.moments, at.pushes)
    return np.asarray(rates), np.asarray(directions)


def growth_rates(sample: Sample) -> dict[str, np.ndarray]:
    """Growth per step (members,) of a push."""
    return {rule: _run(rule, at)[0] for rule, at in sample.items()}


def oriented(vectors: np.ndarray) -> np.ndarray:
    """Vectors (members, p) with the sign that makes their largest coordinate positive."""
    largest = np.argmax(np.abs(vectors), axis=-1)[:, None]
    return vectors * np.sign(np.take_along_axis(vectors, largest, axis=-1))


def directions(sample: Sample) -> dict[str, np.ndarray]:
    """Unit vectors (members, p) that a push has become, oriented."""
    return {rule: oriented(_run(rule, at)[1]) for rule, at in sample.items()}
