"""Experiments on mini-batches: the rule's own code on batches of real problems, over all batches or over drawn ones.

Nothing here knows a threshold, a variance or a stationary law.  A batch is the problem with its data indexed; its
gradient is by autodiff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.experiments.held_runs import roles_of
from toylab.filters import limit_state
from toylab.optimizers import NAMED
from toylab.problems import Problem, cubic_normal_form, noisy_line, rank_one_quadratic
from toylab.rules.held import held_step

Array = Any

AMPLITUDE = 2.0**-30
"""Size of what is run: rules that are linear only at rest are at rest to 2^-60."""


def all_batches(examples: int, size: int, independent: bool) -> np.ndarray:
    """(batches, size) indices: every subset, or every sequence of independent draws, each equally likely."""
    batches = product(range(examples), repeat=size) if independent else combinations(range(examples), size)
    return np.array(list(batches))


def drawn_batches(
    random: np.random.Generator, shape: tuple[int, ...], examples: int, size: int, independent: bool
) -> np.ndarray:
    """(*shape, size) indices of batches drawn at random, afresh for every entry of ``shape``."""
    if independent:
        return random.integers(0, examples, (*shape, size), dtype=np.int32)
    ranks = random.random((*shape, examples), dtype=np.float32)
    return np.argsort(ranks, axis=-1)[..., :size].astype(np.int32)


def on(problem: Problem, batch: Array) -> Problem:
    """The problem on the examples ``batch``."""
    return replace(problem, data=jax.tree.map(lambda leaf: leaf[batch], problem.data))


def step_matrix(rule: str, hyperparameters: Mapping[str, Array], problem: Problem) -> Array:
    """One held step on a quadratic problem as a matrix on (w, fast state), by running it on a basis.

    Slow leaves (if the rule has any) are held at 1.
    """
    parts = roles_of(rule)
    transform = NAMED[rule](**hyperparameters)
    leaves, tree = jax.tree.flatten(limit_state(transform, problem.params, parts))
    step = held_step(transform, parts)
    shapes = [problem.params.shape, *(leaves[i].shape for i in parts.fast)]
    sizes = [int(np.prod(shape)) for shape in shapes]

    def run(x: Array) -> Array:
        weight, *fast = (p.reshape(s) for p, s in zip(jnp.split(x, np.cumsum(sizes)[:-1]), shapes, strict=True))
        state_leaves = list(leaves)
        for i, leaf in zip(parts.fast, fast, strict=True):
            state_leaves[i] = leaf
        held = [jnp.ones_like(leaves[i]) for i in parts.slow]
        for i, leaf in zip(parts.slow, held, strict=True):
            state_leaves[i] = leaf
        update, new = step(problem.gradient(weight), jax.tree.unflatten(tree, state_leaves), weight, held)
        after = jax.tree.leaves(new)
        return jnp.concatenate([(weight + update).ravel(), *(after[i].ravel() for i in parts.fast)])

    return jax.vmap(run, in_axes=1, out_axes=1)(AMPLITUDE * jnp.eye(sum(sizes))) / AMPLITUDE


@partial(jax.jit, static_argnums=0)
def _line_matrices(rule: str, hyperparameters: dict, curvatures: Array, batches: Array) -> Array:
    def member(hyperparameters: dict, curvatures: Array) -> Array:
        problem = noisy_line(curvatures)
        return jax.vmap(lambda batch: step_matrix(rule, hyperparameters, on(problem, batch)))(batches)

    return jax.vmap(member)(hyperparameters, curvatures)


@partial(jax.jit, static_argnums=0)
def _plane_matrices(rule: str, hyperparameters: dict, features: Array, batches: Array) -> Array:
    problem = rank_one_quadratic(features)
    return jax.vmap(lambda batch: step_matrix(rule, hyperparameters, on(problem, batch)))(batches)


def second_moments_radius(matrices: np.ndarray) -> np.ndarray:
    """Growth a step of E[x x^T] when one of the steps (..., N, m, m) is taken with equal chance: an eigenvalue."""
    size = matrices.shape[-1] ** 2
    both = np.einsum("...nij,...nkl->...ikjl", matrices, matrices) / matrices.shape[-3]
    return np.abs(np.linalg.eigvals(both.reshape(*matrices.shape[:-3], size, size))).max(axis=-1)


def moments_growth(rule: str, hyperparameters: Mapping[str, Array], features: np.ndarray, batches: np.ndarray) -> float:
    """Growth a step of the second moments on `rank_one_quadratic`, over all the batches."""
    roles_of(rule)
    matrices = _plane_matrices(rule, dict(hyperparameters), jnp.asarray(features), jnp.asarray(batches))
    return float(second_moments_radius(np.asarray(matrices)))


def critical_scale(
    rule: str, hyperparameters: Mapping[str, np.ndarray], curvatures: np.ndarray, groups: list[np.ndarray]
) -> np.ndarray:
    """(members, groups): the smallest factor on the curvatures (members, n) at which E[w^2] starts to grow.

    ``groups``: ways of drawing, each the list of its batches (all of one size).  Scanned upwards by 5%, then bisected.
    """
    roles_of(rule)  # found by running the rule, which cannot be done inside the compiled program
    ends = np.cumsum([len(group) for group in groups])[:-1]
    batches, eta = jnp.asarray(np.concatenate(groups)), np.asarray(hyperparameters["learning_rate"])
    named = {name: np.asarray(values) for name, values in hyperparameters.items()}

    def radius(scales: np.ndarray) -> np.ndarray:
        """(members, groups) at scales (members, groups)."""
        columns = []
        for g in range(len(groups)):
            matrices = _line_matrices(rule, named, jnp.asarray(scales[:, g, None] * curvatures), batches)
            columns.append(second_moments_radius(np.split(np.asarray(matrices), ends, axis=1)[g]))
        return np.stack(columns, axis=1)

    scan = np.geomspace(1e-2, 1e3, 236)[None, :] / eta[:, None]
    rows = {name: np.repeat(values, scan.shape[1]) for name, values in named.items()}
    many = (scan[:, :, None] * curvatures[:, None]).reshape(-1, curvatures.shape[-1])
    grouped_matrices = np.split(np.asarray(_line_matrices(rule, rows, jnp.asarray(many), batches)), ends, axis=1)
    grows = np.stack([second_moments_radius(f).reshape(scan.shape) > 1 + 1e-12 for f in grouped_matrices], axis=1)
    first = np.argmax(grows, axis=2)
    member = np.arange(len(eta))[:, None]
    low, high = scan[member, np.maximum(first - 1, 0)], scan[member, first]
    for _ in range(45):
        middle = (low + high) / 2
        above = radius(middle) > 1 + 1e-12
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(grows.any(axis=2), (low + high) / 2, np.nan)


# ---------------------------------------------------------------------------------------------------------------
# Drawn batches


@partial(jax.jit, static_argnums=0)
def run_line(rule: str, hyperparameters: dict, curvatures: Array, batches: Array) -> tuple[Array, Array]:
    """Plain runs of the rule's real step on `noisy_line` from w = 1; batches (steps, chains, size).

    Returns w at the end (rescaled where it had left 1e+-30) and log(|w| + |state|), (chains,) both.
    """
    problem, transform = noisy_line(curvatures), NAMED[rule](**hyperparameters)

    def chain(carry: tuple, batch: Array) -> tuple:
        (w, state), log = carry
        updates, state = transform.update(on(problem, batch).gradient(w), state, w)
        pair = (optax.apply_updates(w, updates), state)
        size = jnp.maximum(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(pair)), 1e-300)
        size = jnp.where((size > 1e30) | (size < 1e-30), size, 1.0)
        return jax.tree.map(lambda leaf: leaf / size, pair), log + jnp.log(size)

    def step(carry: tuple, batch: Array) -> tuple[tuple, None]:
        return jax.vmap(chain)(carry, batch), None

    start = (problem.params, transform.init(problem.params))
    chains = batches.shape[1]
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (chains, *jnp.shape(leaf))), (start, jnp.zeros(())))
    ((w, state), log), _ = jax.lax.scan(step, start, batches)
    return w, log + jnp.log(sum(jnp.abs(leaf) for leaf in jax.tree.leaves((w, state))))


def exponents(rule: str, hyperparameters: Mapping, curvatures: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """(chains,) growth of log(|w| + |state|) a step over the second half of the run."""
    half = len(batches) // 2
    logs = []
    for steps in (half, len(batches)):
        _, log = run_line(rule, dict(hyperparameters), jnp.asarray(curvatures), jnp.asarray(batches[:steps]))
        logs.append(np.asarray(log))
    return (logs[1] - logs[0]) / (len(batches) - half)


def noisy_edge(threshold: Array, rate: Array, square: Array, gradient_noise: Array, curvature_noise: Array) -> Problem:
    """`cubic_normal_form` with four examples: tilts +-gradient_noise and sharpnesses threshold +- curvature_noise.

    A batch of one example has independent noises of those standard deviations; the mean is the cubic model itself.
    """
    problem = cubic_normal_form(threshold, rate, square)
    four = jax.tree.map(lambda leaf: jnp.repeat(leaf, 4, axis=0), problem.data)
    tilt, sharp = jnp.array([1.0, 1.0, -1.0, -1.0]), jnp.array([1.0, -1.0, 1.0, -1.0])
    return replace(
        problem, data=four._replace(tilt=gradient_noise * tilt, threshold=threshold + curvature_noise * sharp)
    )


@partial(jax.jit, static_argnums=0)
def run_edges(rule: str, burns: Array, hyperparameters: dict, models: dict, batches: Array) -> tuple[Array, Array]:
    """`run_edge` for several models and burns (leading axes) on the same batches."""
    return jax.vmap(lambda burn, model: run_edge(rule, burn, hyperparameters, model, batches))(burns, models)


@partial(jax.jit, static_argnums=0)
def run_edge(rule: str, burn: Array, hyperparameters: dict, model: dict, batches: Array) -> tuple[Array, Array]:
    """The rule on `noisy_edge` from (delta, 0), delta^2 = 2 rate/square; ``batches`` (steps, chains, 1).

    Returns time averages after ``burn`` steps, (chains, 5): y, y^2, x^2, x^4, x^2 y^2 (y: the sharpness above the
    threshold); and the last (x, y), (chains, 2).
    """
    problem, transform = noisy_edge(**model), NAMED[rule](**hyperparameters)
    root = jnp.sqrt(model["square"])
    params = jnp.stack([jnp.sqrt(2 * model["rate"] / model["square"]), 0.0])

    def chain(w: Array, state: Any, total: Array, batch: Array, counts: Array) -> tuple:
        updates, state = transform.update(on(problem, batch).gradient(w), state, w)
        after: Any = optax.apply_updates(w, updates)
        x, y = after[0], root * after[1]
        return after, state, total + counts * jnp.stack([y, y**2, x**2, x**4, x**2 * y**2])

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        batch, t = inputs
        counts = jnp.where(t >= burn, 1.0, 0.0)
        return jax.vmap(chain, in_axes=(0, 0, 0, 0, None))(*carry, batch, counts), None

    start = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (batches.shape[1], *jnp.shape(leaf))),
        (params, transform.init(params), jnp.zeros(5)),
    )
    (w, _, total), _ = jax.lax.scan(step, start, (batches, jnp.arange(len(batches))))
    return total / (len(batches) - burn), w * jnp.stack([1.0, root])[None]
