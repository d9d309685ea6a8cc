"""Experiments on adaptive rules on networks: where they settle, with P in motion and frozen, and the raw sharpness.

Runs: a tanh network 64-16-16-10 on 200 digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

import toylab
from toylab.experiments import frozen_runs
from toylab.experiments.network_plateaus import PlateauGrid, numbers, settled, starts, summary
from toylab.problems import digits_mlp

DIGITS = {"hidden": (16, 16), "examples": 200}

RATES = {  # four for each rule, within a factor of eight, under which the edge is reached in time
    "rmsprop": (1.5e-4, 3e-4, 6e-4, 1.2e-3),
    "adam b1=0": (1.5e-4, 3e-4, 6e-4, 1.2e-3),
    "adam b1=0.5": (5e-4, 1e-3, 2e-3, 4e-3),
    "adam b1=0.9": (1e-3, 2e-3, 4e-3, 8e-3),
    "adam b1=0.95": (1e-3, 2e-3, 4e-3, 8e-3),
    "adamw": (1e-3, 2e-3, 4e-3, 8e-3),
    "nadam": (1e-3, 2e-3, 4e-3, 8e-3),
    "amsgrad": (1e-3, 2e-3, 4e-3, 8e-3),
    "adagrad": (1e-2, 2e-2, 4e-2, 8e-2),
    "unfactored_adafactor": (1.5e-4, 3e-4, 6e-4, 1.2e-3),
}


def _digits(key: Any) -> toylab.Problem:
    return digits_mlp(seed=key, loss="mse", **DIGITS)


def grid(label: str, fixed: Mapping[str, float], loss: str = "mse", steps: int = 3_000) -> PlateauGrid:
    """A rule of `RATES`, named with its b1 if it has one there, from three seeds at its four learning rates."""
    rule, _, b1 = label.partition(" b1=")
    settings = DIGITS | {"loss": loss}
    others = ({"b1": float(b1)} if b1 else {}) | dict(fixed)
    return PlateauGrid(
        problem="digits_mlp",
        settings=settings,
        rule=rule,
        fixed=others,
        learning_rates=RATES[label],
        steps=steps,
        every=20,
        one_by_one=True,
    )


def settled_levels(sample: Mapping[str, PlateauGrid]) -> dict[str, float]:
    """Mean of eta lambda_max(P^-1 H) over the plateaus; NaN if any member does not settle."""
    return {label: float(np.mean(settled(one).level)) for label, one in sample.items()}


def _memory(label: str) -> dict[str, float]:
    return {"rmsprop": {"decay": 0.99}, "adagrad": {}, "unfactored_adafactor": {}}.get(label, {"b2": 0.99})


GRIDS = [grid(label, _memory(label), loss) for loss in ("mse", "cross_entropy") for label in RATES]

CHEBYSHEV = [
    PlateauGrid(
        problem="chebyshev_mlp",
        settings={"degree": 3, "hidden": (32,)},
        rule=rule,
        fixed=fixed,
        learning_rates=rates,
        steps=4_000,
        one_by_one=True,
    )
    for rule, fixed, rates in (
        ("rmsprop", {"decay": 0.99}, (2e-4, 4e-4, 8e-4, 1.6e-3)),
        ("adam", {"b1": 0.9, "b2": 0.99}, (2e-3, 4e-3, 8e-3, 1.6e-2)),
    )
]


def bands(sample: Any) -> dict[str, np.ndarray]:
    """Each grid of `GRIDS` in the numbers of its summary."""
    return {one.label: numbers(summary(settled(one))) for one in GRIDS}


# ---------------------------------------------------------------------------------------------------------------
# Why RMSProp settles above its edge.

MOVING = {"learning_rate": [1.2e-3], "decay": [0.9, 0.99], "at": [800, frozen_runs.NEVER]}

STEPS = 2_400


@cache
def _late_levels() -> np.ndarray:
    """eta lambda_max(P^-1 H) of RMSProp over the last half, (decays, frozen or not, seeds)."""
    runs = toylab.sweep(
        _digits,
        frozen_runs.freezing("rmsprop"),
        MOVING,
        STEPS,
        seeds=starts(3),
        every=40,
        observe=toylab.observers(edge_ratio=True),
        one_by_one=True,
    )
    return MOVING["learning_rate"][0] * frozen_runs.late(runs, runs.preconditioned_sharpness)[0]


def _by_decay(index: int) -> dict[str, np.ndarray]:
    return {f"decay {decay:g}": each[index] for decay, each in zip(MOVING["decay"], _late_levels(), strict=True)}


def late_frozen_levels(sample: None) -> dict[str, np.ndarray]:
    """Late levels (seeds,) of RMSProp with P frozen."""
    del sample
    return _by_decay(0)


def late_moving_levels(sample: None) -> dict[str, np.ndarray]:
    """Late levels (seeds,) of RMSProp with P moving."""
    del sample
    return _by_decay(1)


def log_ratios(sample: Any) -> np.ndarray:
    """log of the late level with P moving over that with P frozen, all decays and seeds in one row."""
    levels = _late_levels()
    return np.log(levels[:, 1] / levels[:, 0]).ravel()


# ---------------------------------------------------------------------------------------------------------------
# The raw sharpness has no such level.


def sharpness_rises(sample: Any) -> np.ndarray:
    """Changes of log S of Adam from the middle of its runs to their late part, all seeds in one row."""
    run = frozen_runs.recorded("adam")
    sharp = np.log(run.sharpness[0, :, -1, :, :, 0])  # (b2, seeds, T)
    middle = (run.steps >= run.steps[-1] * 0.4) & (run.steps < run.steps[-1] * 0.6)
    return frozen_runs.late(run, sharp).ravel() - sharp[..., middle].mean(axis=-1).ravel()


def log_spread_ratio(sample: Any) -> float:
    """log10 of the standard deviation, over seeds and learning rates, of log(eta S) over that of the level's log."""
    run = frozen_runs.by_rate()
    eta = np.array(frozen_runs.RATES)[:, None]
    raw = np.log(eta * frozen_runs.late(run, run.sharpness[..., 0])[:, 0])
    level = np.log(eta * frozen_runs.late(run, run.preconditioned_sharpness)[:, 0])
    return float(np.log10(np.std(raw) / np.std(level)))
