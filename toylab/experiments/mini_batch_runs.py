"""Experiments on mini-batches on a network: where the whole loss settles, and the batch sharpness."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

import toylab
from toylab.experiments.network_plateaus import starts
from toylab.optimizers import NAMED

EXAMPLES = 128

SETTINGS = {"hidden": (16,), "examples": EXAMPLES}


class Sizes(NamedTuple):
    """A rule run with batches of several sizes."""

    rule: str
    learning_rate: float
    fixed: tuple[tuple[str, float], ...]
    steps: int
    sizes: tuple[int, ...]


SHORT = {
    "SGD": Sizes("gd", 0.6, (), 1000, (4, 32, EXAMPLES)),
    "Adam": Sizes("adam", 0.004, (("b2", 0.99),), 800, (16, EXAMPLES)),
}

ALL = tuple(EXAMPLES // parts for parts in (32, 16, 8, 4, 2, 1))

LONG = {
    "SGD": Sizes("gd", 0.6, (), 3000, ALL),
    "Adam": Sizes("adam", 0.004, (("b2", 0.99),), 3000, ALL),
    "RMSProp": Sizes("rmsprop", 0.001, (("decay", 0.99),), 3000, ALL),
}

SETTLED = {
    "SGD": Sizes("gd", 0.9, (), 20_000, (8, 32)),
    "momentum 0.5": Sizes("heavy_ball", 0.6, (("momentum", 0.5),), 12_000, (8, EXAMPLES)),
}

SEEDS = 3


def _network(key: Any) -> toylab.Problem:
    return toylab.problems.digits_mlp(**SETTINGS, seed=key)


@cache
def _run(of: Sizes, size: int, with_batch_sharpness: bool) -> dict[str, np.ndarray]:
    """The means over the last third of a run, each (seeds,): `level`, the edge ratio of the Hessian of all examples;
    `batch_sharpness` = eta E[g_B^T H_B g_B/|g_B|^2] if asked for.
    """
    runs = toylab.sweep(
        _network,
        NAMED[of.rule],
        {"learning_rate": [of.learning_rate]} | {name: [number] for name, number in of.fixed},
        steps=of.steps,
        seeds=starts(SEEDS),
        every=50,
        batch_size=size,
        observe=toylab.observers(edge_ratio=1, batch_sharpness=size)
        if with_batch_sharpness
        else toylab.observers(edge_ratio=1),
    )
    late = runs.steps >= 2 * of.steps // 3
    names = {"level": "edge_ratio"} | ({"batch_sharpness": "batch_sharpness"} if with_batch_sharpness else {})
    means = {name: runs.records[record].reshape(SEEDS, -1)[:, late].mean(axis=1) for name, record in names.items()}
    return means | ({"batch_sharpness": of.learning_rate * means["batch_sharpness"]} if with_batch_sharpness else {})


# ---------------------------------------------------------------------------------------------------------------
# All examples as one batch


def weights(batch: int | None) -> np.ndarray:
    """Weights (p,) after 40 steps of Adam on batches of this size, or on all examples at once."""
    problem = toylab.problems.digits_mlp(hidden=(8,), examples=32, seed=starts(1)[0])
    run = toylab.train(problem, NAMED["adam"](0.002), 40, batch_size=batch)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.params)])


def weights_of_whole_batches(sample: None) -> np.ndarray:
    """Weights (p,) after training on batches of all examples."""
    del sample
    return weights(32)


# ---------------------------------------------------------------------------------------------------------------
# The level of the whole loss


def grid(tier: str) -> dict[str, Sizes]:
    """The rules and batch sizes of a tier."""
    return LONG if tier == "long" else SHORT


def level_rises(tier: str) -> dict[str, np.ndarray]:
    """Changes of log(level) from each batch size to the next larger, means over seeds, (sizes - 1,)."""
    rises = {}
    for name, of in grid(tier).items():
        levels = np.array([np.log(_run(of, size, False)["level"]).mean() for size in of.sizes])
        rises[name] = np.diff(levels)
    return rises


def settled_levels(tier: str) -> dict[str, np.ndarray]:
    """Label -> edge ratios (sizes, seeds)."""
    return {name: np.array([_run(of, size, False)["level"] for size in of.sizes]) for name, of in grid(tier).items()}


def batch_sharpness(sample: Any) -> dict[str, np.ndarray]:
    """eta times the batch sharpness, by batch size."""
    of = SETTLED["SGD"]
    return {f"batches of {size}": _run(of, size, True)["batch_sharpness"] for size in of.sizes}


def levels_of_whole_loss(sample: Any) -> dict[str, np.ndarray]:
    """The edge ratio of the whole loss, by batch size."""
    of = SETTLED["SGD"]
    return {f"batches of {size}": _run(of, size, True)["level"] for size in of.sizes}


def batch_sharpness_with_momentum(sample: Any) -> dict[str, np.ndarray]:
    """eta times the batch sharpness of heavy ball, by batch size."""
    of = SETTLED["momentum 0.5"]
    return {f"batches of {size}": _run(of, size, True)["batch_sharpness"] for size in of.sizes}
