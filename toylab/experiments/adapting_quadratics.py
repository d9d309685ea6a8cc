"""Experiments on rules that adapt, not frozen, on quadratics, and optax's own loop beside ours."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

import toylab
from toylab.optimizers import NAMED

ETA = 1e-2
"""Learning rate."""


def _ratios(rule: str, grid: dict[str, list[float]], sample: Any, steps: int, every: int, **fixed: Any) -> np.ndarray:
    """Edge ratios (members, observations) of one rule that adapts."""
    runs = toylab.sweep(
        toylab.problems.quadratic(sample["eigenvalues"], sample["start"]),
        NAMED[rule],
        {"learning_rate": [ETA], **grid},
        steps=steps,
        every=every,
        observe=toylab.observers(loss=False, edge_ratio=True),
        fixed=fixed,
    )
    return runs.edge_ratio.reshape(-1, runs.edge_ratio.shape[-1])


# ---------------------------------------------------------------------------------------------------------------
# Rules without memory of the gradient

MEMORYLESS = {
    "rmsprop": ({"decay": [0.9, 0.99]}, {"bias_correction": True}),
    "adam": ({"b1": [0.0], "b2": [0.9, 0.99]}, {}),
}


def settled_ratios(sample: Any) -> dict[str, np.ndarray]:
    """The last two edge ratios (members, 2) of each run."""
    return {
        rule: _ratios(rule, grid, sample, 6_000, 100, **fixed)[:, -2:] for rule, (grid, fixed) in MEMORYLESS.items()
    }


# ---------------------------------------------------------------------------------------------------------------
# The others: measured

OTHERS = {
    "adam": {"b1": [0.5, 0.9], "b2": [0.9, 0.99, 0.999]},
    "nadam": {"b1": [0.9], "b2": [0.99]},
    "adabelief": {"b1": [0.9], "b2": [0.99]},
    "amsgrad": {"b1": [0.9], "b2": [0.99]},
    "adagrad": {},
}


def mean_and_spread(sample: Any) -> dict[str, np.ndarray]:
    """Mean and spread of the edge ratio over the second half of each run."""
    out = {}
    for rule, grid in OTHERS.items():
        late = np.array_split(_ratios(rule, grid, sample, 20_000, 20), 2, axis=1)[1]
        pairs = (late[:, 0::2] + late[:, 1::2]) / 2
        names = [dict(zip(grid, values, strict=True)) for values in np.ndindex(*(len(v) for v in grid.values()))]
        for index, row in zip(names, pairs, strict=True):
            label = ", ".join(f"{name}={grid[name][i]:g}" for name, i in index.items())
            out[f"{rule}({label})"] = np.array([row.mean(), row.std(ddof=1)])
    return out


# ---------------------------------------------------------------------------------------------------------------
# Our runs are optax's

COMPARED = ("gd", "heavy_ball", "nesterov", "rmsprop", "adam", "adamw", "nadam", "amsgrad", "adagrad", "adan")


def optax_losses(sample: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Losses of optax's own loop, eager, one update at a time, in units of the running maximum; and that maximum."""
    problem = toylab.problems.quadratic(sample["eigenvalues"], sample["start"], key=jax.random.key(sample["basis"]))
    losses, tops = {}, {}
    for rule in COMPARED:
        transform = NAMED[rule](learning_rate=ETA)
        params, state, path = problem.params, transform.init(problem.params), []
        for _ in range(sample["steps"]):
            path.append(float(problem.value(params)))
            updates, state = transform.update(problem.gradient(params), state, params)
            params = optax.apply_updates(params, updates)
        tops[rule] = np.maximum.accumulate(path)
        losses[rule] = np.array(path) / tops[rule]
    return losses, tops


def our_losses(sample: Any) -> dict[str, np.ndarray]:
    """Losses of `toylab.train` in units of their running maximum."""
    problem = toylab.problems.quadratic(sample["eigenvalues"], sample["start"], key=jax.random.key(sample["basis"]))
    out = {}
    for rule in COMPARED:
        run = toylab.train(problem, NAMED[rule](learning_rate=ETA), steps=sample["steps"])
        out[rule] = run.loss / np.maximum.accumulate(run.loss)
    return out
