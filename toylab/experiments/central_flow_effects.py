"""Experiments on what central flows say of small networks: runs at the edge, and models with and without penalty."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toylab
from toylab.curvature import begin_track, follow
from toylab.models.central_flow import central_flow_steps
from toylab.models.central_map import central_map_steps
from toylab.models.kernel import rollout
from toylab.models.mean_step import MeanStep
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.rules.edge import edge_data


def _regression(seed: Any, width: int = 32) -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(width,), seed=seed)


RATES = (0.005, 0.01, 0.02)
STEPS = 3000


def effective_steps(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    """eta S/sqrt(nu+), averaged over the second half of a run."""
    observers = toylab.observers(edge_ratio=True)
    grid = {"learning_rate": RATES}
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    runs = toylab.sweep(_regression, NAMED["scalar_rmsprop"], grid, STEPS, keys, observers, fixed={"decay": 0.99})
    ratio = np.asarray(runs.preconditioned_sharpness)[..., STEPS // 2 :].mean(axis=-1)
    return {f"learning rate {rate:g}": rate * ratio[i] for i, rate in enumerate(RATES)}


FLOWED = 1500


def loss_changes(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The relative change of the loss from each mean point to the next, along the central flow of gradient descent."""
    rule = NAMED["gd"](learning_rate=0.5)
    known = edge_data(rule, _regression(0).params)

    @jax.jit
    def path(key: Any) -> Any:
        problem = _regression(key)
        kernel = central_flow_steps(problem, rule, known, count=4)
        return rollout(kernel, kernel.init(problem.params), FLOWED)[1].loss

    return {f"seed {seed}": np.diff(np.log(np.asarray(path(jax.random.key(seed))))) for seed in seeds}


RULES: Mapping[str, dict[str, float]] = {
    "scalar_rmsprop": {"learning_rate": 0.03, "decay": 0.99},
    "rmsprop": {"learning_rate": 6e-4, "decay": 0.99},
    "adam": {"learning_rate": 4e-3, "b2": 0.99},
}


WARM_UP, LENGTH, COUNT = 20, 600, 6


def _changes(rule: str, seed: int) -> dict[str, float]:
    """Logarithms of what is without the penalty over what is with it: at the end the sharpness and the geometric mean
    of the diagonal of P^-1, and the loss averaged over the last half."""
    with_it, without = (penalized(rule, seed, share) for share in (True, False))
    return dict(zip(("sharpness", "step", "loss"), map(float, np.log(without / with_it)), strict=True))


def changes_without_penalty(seeds: tuple[int, ...]) -> dict[str, float]:
    """What scalar RMSProp changes without its penalty: logarithms of sharpness, step and loss, by seed."""
    changes = {}
    for seed in seeds:
        changes |= {f"seed {seed}, {name}": value for name, value in _changes("scalar_rmsprop", seed).items()}
    return changes


def changes_of_rules(seeds: tuple[int, ...]) -> dict[str, float]:
    """The same logarithms averaged over the seeds, by rule."""
    means = {}
    for rule in RULES:
        changes = [_changes(rule, seed) for seed in seeds]
        means |= {f"{rule}, {name}": float(np.mean([one[name] for one in changes])) for name in changes[0]}
    return means


@cache
def penalized(rule: str, seed: int, share: bool) -> np.ndarray:
    """Sharpness, step and mean loss (3,) of the central map with or without its penalty."""
    problem = toylab.problems.digits_mlp(hidden=(16, 16), examples=100, seed=seed)
    transform = NAMED[rule](**RULES[rule])
    known = edge_data(transform, problem.params)
    own = discrete_steps(problem, transform)
    kernel = central_map_steps(problem, transform, known, count=COUNT, curvature_penalty=share)
    mean_step = MeanStep(transform, *known, problem.params)

    @jax.jit
    def run() -> Any:
        start, _ = rollout(own, own.init(problem.params), WARM_UP)
        end, predictions = rollout(kernel, kernel.init(start.params, start.state), LENGTH)
        w, gradient = (mean_step.flat(tree) for tree in (end.params, problem.gradient(end.params)))
        inverse = mean_step.inverse(gradient, end.state, w, mean_step.slow(end.state))
        step = jnp.exp(jnp.sum(jnp.where(inverse > 0, jnp.log(inverse), 0)) / jnp.sum(inverse > 0))
        top, _ = follow(problem.hessian(end.params), begin_track(end.params, 1), end.params)
        results = jnp.stack([top.value[0], step, jnp.mean(predictions.mean_loss[LENGTH // 2 :])])
        return jnp.where(top.converged[0] & jnp.all(predictions.converged), results, jnp.nan)

    return np.asarray(run())
