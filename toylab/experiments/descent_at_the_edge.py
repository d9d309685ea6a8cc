"""Experiments on training at the edge: moves of the loss, a dropped learning rate, and cross-entropy."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import toylab
from toylab.experiments.network_plateaus import PlateauGrid, starts, swept
from toylab.optimizers import NAMED

DIGITS = {"hidden": (24, 24), "examples": 200}


# ---------------------------------------------------------------------------------------------------------------
# The loss: three starts, one learning rate below the edge all along and two at it

LOSSES = PlateauGrid(
    problem="digits_mlp",
    settings=DIGITS | {"loss": "mse"},
    rule="gd",
    learning_rates=(0.1, 0.4, 0.6),
    steps=1000,
    every=1,
)

BURNED = 500
"""Single steps are looked at from here on: the learning rates at the edge have been there for a while."""

WINDOW = 250


def loss_moves(sample: Any) -> dict[str, np.ndarray]:
    """For every start the largest change of log L in one step, and from one window's mean to the next, (seeds,)."""
    runs = swept(LOSSES, observe=toylab.observers(loss=True))
    logs = np.log(runs.loss)
    single = np.diff(logs[..., BURNED:], axis=-1).max(axis=-1)
    means = np.log(runs.loss.reshape(*logs.shape[:2], -1, WINDOW).mean(axis=-1))
    long = np.diff(means, axis=-1).max(axis=-1)
    return {
        "one step, below the edge": single[0],
        "one step, at the edge": single[1:],
        "window to window, below the edge": long[0],
        "window to window, at the edge": long[1:],
    }


# ---------------------------------------------------------------------------------------------------------------
# Dropping the learning rate

DROP_AT, DROP_STEPS = 800, 3000

BEFORE, AFTER = slice(400, DROP_AT), slice(2000, DROP_STEPS)


def dropped(learning_rate: float, fraction: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent whose learning rate is multiplied by `fraction` after `DROP_AT` steps."""
    return NAMED["gd"](learning_rate=lambda step: learning_rate * jnp.where(step < DROP_AT, 1.0, fraction))


RATES = (0.4, 0.5)


@cache
def _dropped_levels() -> dict[str, np.ndarray]:
    """eta S before the drop, right after it and long after it, means over seeds, by learning rate."""
    runs = toylab.sweep(
        _chebyshev,
        dropped,
        {"learning_rate": RATES},
        steps=DROP_STEPS,
        seeds=starts(3),
        every=16,
        observe=toylab.observers(sharpness=1),
    )

    def level(window: slice, fraction: float) -> np.ndarray:
        inside = (runs.steps >= window.start) & (runs.steps < window.stop)
        rates = fraction * np.array(RATES)[:, None]
        return (rates * runs.sharpness[..., inside, 0].mean(axis=-1)).mean(axis=-1)

    after = slice(DROP_AT, DROP_AT + 32)
    return {"before": level(BEFORE, 1.0), "right after": level(after, 0.5), "long after": level(AFTER, 0.5)}


def _chebyshev(key: Any) -> toylab.Problem:
    """The regression network of a start."""
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(32,), seed=key)


def settled_levels(sample: Any) -> dict[str, np.ndarray]:
    """`_dropped_levels` before the drop and long after it."""
    levels = _dropped_levels()
    return {label: levels[label] for label in ("before", "long after")}


# ---------------------------------------------------------------------------------------------------------------
# Cross-entropy: the sharpness falls in the end

LATE = PlateauGrid(
    problem="digits_mlp",
    settings=DIGITS | {"loss": "cross_entropy"},
    rule="gd",
    learning_rates=(1.0, 3.0),
    steps=600,
)

WINDOWS = 6


def late_changes(sample: Any) -> dict[str, np.ndarray]:
    """Change of log S from each sixth of the run to the next one, means over the sixth: (seeds, 5)."""
    runs = swept(LATE, observe=toylab.observers(sharpness=1))
    sharpness = runs.sharpness[..., 0]
    part = runs.steps * WINDOWS // LATE.steps
    logs = np.stack([np.log(sharpness[..., part == i].mean(axis=-1)) for i in range(WINDOWS)], axis=-1)
    return {f"learning rate {rate:g}": np.diff(logs[i], axis=-1) for i, rate in enumerate(LATE.learning_rates)}
