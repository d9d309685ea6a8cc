"""Experiments on noisy self-stabilization: where the sharpness settles, how it fluctuates, and what heats it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from toylab.experiments import sampled as lab

ETA, SQUARE = 0.1, 1.7
"""Learning rate, and beta."""

Inputs = dict[str, Any]


def averages(inputs: Inputs, horizon: float) -> np.ndarray:
    """(chains, 5) time averages of y, y^2, x^2, x^4, x^2 y^2 over ``horizon``/eps steps after 40/eps."""
    burn, steps = int(40 / inputs["eps"]), int((40 + horizon) / inputs["eps"])
    random = np.random.default_rng(inputs["seed"])
    batches = random.integers(0, 4, (steps, inputs["chains"], 1), dtype=np.int32)
    means, _ = lab.run_edge(inputs["rule"], burn, inputs["hyperparameters"], inputs["model"], jnp.asarray(batches))
    return np.asarray(means)


def gap_and_square(inputs: Inputs) -> np.ndarray:
    """(2, chains): how far y is below zero, and x^2, on average."""
    means = averages(inputs, 300)
    return np.stack([-means[:, 0], means[:, 2]])


# ---------------------------------------------------------------------------------------------------------------
# The stationary law


def gaps(sample: dict[str, Inputs]) -> dict[str, np.ndarray]:
    """How far y is below zero on average, (chains,)."""
    return {name: -averages(inputs, 200)[:, 0] for name, inputs in sample.items()}


EPSILONS = 0.01 * 2.0 ** np.arange(4)
"""eps = eta sqrt(alpha) of the ladder."""

LADDER = 15_000
"""Steps of every run of the ladder: 150 units of eps x steps at the smallest eps."""


def moments(sample: dict[str, list[Inputs]]) -> dict[str, np.ndarray]:
    """(3, eps): gap/sqrt(alpha), Var(y)/alpha and E[x^4]/E[x^2]^2."""
    out = {}
    for rule, ladder in sample.items():
        random = np.random.default_rng(ladder[0]["seed"])
        batches = random.integers(0, 4, (LADDER, ladder[0]["chains"], 1), dtype=np.int32)
        models = {name: jnp.array([inputs["model"][name] for inputs in ladder]) for name in ladder[0]["model"]}
        burns = jnp.asarray((40 / EPSILONS).astype(int))
        means, _ = lab.run_edges(rule, burns, ladder[0]["hyperparameters"], models, jnp.asarray(batches))
        y, yy, xx, x4, _ = np.moveaxis(np.asarray(means).mean(axis=1), -1, 0)
        rate = np.asarray(models["rate"])
        out[rule] = np.array([-y / np.sqrt(rate), (yy - y**2) / rate, x4 / xx**2])
    return out


def moment_limits(sample: dict[str, list[Inputs]]) -> dict[str, np.ndarray]:
    """`moments` in the limit of slow motion, as intervals of no width."""
    return {
        rule: np.stack(2 * [np.polyfit(EPSILONS, rows.T, 2)[-1]], axis=-1) for rule, rows in moments(sample).items()
    }


STEPS = 4_000
"""Steps of a run that is heated."""


def energies(inputs: Inputs) -> np.ndarray:
    """Gain of y^2/2 + (alpha/2)(X - log X), X = x^2/delta^2, of every chain in units of alpha."""
    model = inputs["model"]
    batches = np.random.default_rng(inputs["seed"]).integers(0, 4, (STEPS, inputs["chains"], 1), dtype=np.int32)
    _, last = lab.run_edge(inputs["rule"], 0, inputs["hyperparameters"], model, jnp.asarray(batches))
    x, y = np.asarray(last).T
    size = x**2 * model["square"] / (2 * model["rate"])
    return y**2 / (2 * model["rate"]) + (size - np.log(size) - 1) / 2
