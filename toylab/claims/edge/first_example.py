"""First light on real data: three rules on a small network of digits, each run to its edge."""

from __future__ import annotations

from typing import Any

import numpy as np

import toylab
from toylab.claims.claim import Claim
from toylab.claims.comparisons import measurement
from toylab.optimizers import NAMED

RUNS: dict[str, tuple[dict[str, float], int]] = {
    "gd": ({"learning_rate": 0.28}, 1500),
    "rmsprop": ({"learning_rate": 3e-4, "decay": 0.99}, 1500),
    "adam": ({"learning_rate": 2e-3, "b1": 0.9, "b2": 0.99}, 1500),
}


def _plateaus(sample: Any) -> dict[str, np.ndarray]:
    problem = toylab.problems.digits_mlp(hidden=(32, 32), loss="mse", examples=500)
    out = {}
    for rule, (settings, steps) in RUNS.items():
        run = toylab.train(
            problem, NAMED[rule](**settings), steps=steps, every=30, observe=toylab.observers(edge_ratio=True)
        )
        settled = toylab.plateau(run.steps, run.edge_ratio)
        out[rule] = np.array([settled.mean, settled.spread, settled.pairs, settled.reached])
    return out


def _told(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(
        f"{rule} {mean:.3f} ± {spread:.3f} ({int(pairs)} pairs, edge reached at step {int(reached)})"
        if np.isfinite(mean)
        else f"{rule} never settled"
        for rule, (mean, spread, pairs, reached) in found.items()
    )
    return f"plateau of the edge ratio, mean ± spread in time: {listed}"


PLATEAU = Claim(
    id="edge/first_light",
    tier="long",
    statement="on 500 digits, a tanh network 64-32-32-10 with squared loss trains at the edge: plateau of the edge "
    "ratio for GD, RMSProp and Adam",
    source="measured; Cohen et al. 2021 and 2022 on larger networks",
    comparison=measurement(),
    measure=_plateaus,
    finding=_told,
)

CLAIMS = [PLATEAU]
