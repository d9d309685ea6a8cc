"""Experiments on catapults of gradient descent: runs of the two-layer linear net, where they land and diverge."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from toylab.experiments import catapult_runs as lab

WIDTHS = (1, 5, 64)
"""Widths of the nets."""

Sample = dict[str, Any]


def starts(random: np.random.Generator, curvature: np.ndarray, share: np.ndarray) -> Sample:
    """For every width: learning rates and weights with eta lambda = curvature and eta f/sqrt(n) = share curvature/2."""
    out = {}
    for width in WIDTHS:
        rate = 10 ** random.uniform(-2, 0, len(curvature))
        u, v = lab.weights_at(random, curvature / rate, share, width)
        out[f"n = {width}"] = {"rate": rate, "u": u, "v": v, "a": curvature, "share": share}
    return out


def _numbers(start: Sample) -> dict[str, jnp.ndarray]:
    return {"learning_rate": jnp.asarray(start["rate"])}


def run(start: Sample, steps: int, targets: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """eta f/sqrt(n), eta lambda and loss along every member's run: (members, steps)."""
    rate = start["rate"][:, None]
    labels = jnp.zeros(len(rate)) if targets is None else jnp.asarray(targets)
    paths = lab.paths("gd", _numbers(start), jnp.asarray(start["u"]), jnp.asarray(start["v"]), labels, steps)
    output, curvature, loss = (np.asarray(path) for path in paths)
    return rate * output, rate * curvature, loss


# ---------------------------------------------------------------------------------------------------------------
# The map, at any width and label

STEPS = 12
"""Steps along which the map is compared."""


def trained_paths(sample: Sample) -> dict[str, np.ndarray]:
    """eta f/sqrt(n) and eta lambda along each run, (2, members, `STEPS`)."""
    return {label: np.stack(run(start, STEPS, start["targets"])[:2]) for label, start in sample.items()}


def divergence_edges(sample: Sample) -> dict[str, np.ndarray]:
    """eta lambda_0 (members, 2): the largest that converges, and the smallest that diverges."""
    out = {}
    for label, start in sample.items():
        curvature = (np.sum(start["u"] ** 2, 1) + np.sum(start["v"] ** 2, 1)) / start["u"].shape[1]
        rates = lab.critical_rates(start["u"], start["v"], 3 / curvature, 5 / curvature, 150)
        out[label] = rates * curvature[:, None]
    return out


def curvature_changes(sample: Sample) -> dict[str, np.ndarray]:
    """(lambda+ - lambda) n/(eta f^2) over the first steps of all runs, where eta f/sqrt(n) is above 1e-3."""
    ratios: dict[str, list[np.ndarray]] = {"below": [], "above": []}
    for start in sample.values():
        output, curvature, _ = run(start, 8)
        usable = (np.abs(output[:, :-1]) > 1e-3) & (curvature[:, 1:] < 1e6)
        for side, rows in (("below", start["a"] < 4), ("above", start["a"] > 4)):
            use = usable & rows[:, None]
            ratios[side].append((curvature[:, 1:][use] - curvature[:, :-1][use]) / output[:, :-1][use] ** 2)
    return {side: np.concatenate(changes)[None] for side, changes in ratios.items()}


def landings(sample: Sample) -> np.ndarray:
    """eta lambda where each run ends, all members in one row."""
    curvatures = []
    for start in sample.values():
        _, curvature = lab.ends("gd", _numbers(start), jnp.asarray(start["u"]), jnp.asarray(start["v"]), 4_000)
        curvatures.append(start["rate"] * np.asarray(curvature))
    return np.concatenate(curvatures)


def loss_budgets(sample: Sample) -> np.ndarray:
    """eta lambda_0 plus the eta lambda lost for each unit of the sum of eta^2 f^2/n, all members in one row."""
    budgets = []
    for start in sample.values():
        output, curvature, _ = run(start, 600)
        budgets.append(curvature[:, 0] + (curvature[:, 0] - curvature[:, -1]) / np.sum(output[:, :-1] ** 2, 1))
    return np.concatenate(budgets)[None]
