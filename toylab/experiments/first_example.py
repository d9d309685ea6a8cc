"""First example on real data: three rules on a small network of digits, each run to its edge."""

from __future__ import annotations

from typing import Any

import numpy as np

import toylab
from toylab.optimizers import NAMED

RUNS: dict[str, tuple[dict[str, float], int]] = {
    "gd": ({"learning_rate": 0.28}, 1500),
    "rmsprop": ({"learning_rate": 3e-4, "decay": 0.99}, 1500),
    "adam": ({"learning_rate": 2e-3, "b1": 0.9, "b2": 0.99}, 1500),
}


def plateaus(sample: Any) -> dict[str, np.ndarray]:
    """Mean and spread of the edge ratio, pairs averaged, and the step at which the edge was reached."""
    problem = toylab.problems.digits_mlp(hidden=(32, 32), loss="mse", examples=500)
    out = {}
    for rule, (settings, steps) in RUNS.items():
        run = toylab.train(
            problem, NAMED[rule](**settings), steps=steps, every=30, observe=toylab.observers(edge_ratio=True)
        )
        settled = toylab.plateau(run.steps, run.edge_ratio)
        out[rule] = np.array([settled.mean, settled.spread, settled.pairs, settled.reached])
    return out
