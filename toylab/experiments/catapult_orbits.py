"""Experiments on orbits of the catapult: when a step raises the loss, chaos at the upper edge, and landings."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from toylab.experiments import catapult_runs as lab
from toylab.experiments.catapult_windows import run

Sample = dict[str, Any]


def rise_edges(sample: Sample) -> dict[str, np.ndarray]:
    """eta lambda (lo, hi) between which the first step turns from lowering the loss to raising it, by bisection."""
    out = {}
    for label, start in sample.items():
        height, width = start["height"], int(label.split()[-1])
        lo, hi = np.maximum(1.0, 2 * np.sqrt(height)), np.full_like(height, 6.0)
        for _ in range(52):
            middle = (lo + hi) / 2
            share = np.minimum(2 * np.sqrt(height) / middle, 1)
            u, v = lab.weights_at(np.random.default_rng(start["seed"]), middle, share, width)
            loss = run({"rate": np.ones(len(u)), "u": u, "v": v}, 2)[2]
            lowers = loss[:, 1] < loss[:, 0]
            lo, hi = np.where(lowers, middle, lo), np.where(lowers, hi, middle)
        out[label] = np.stack([lo, hi], axis=-1)
    return out


def monotone_bracket(sample: None) -> np.ndarray:
    """eta lambda_0 (lo, hi) between which a loss that falls at the first step can first rise at the second."""

    def worst(curvature: float) -> float:
        low, high = max(curvature - 2, 0.0), min(curvature**2 / 4, 2.5)
        for _ in range(4):  # closer each time around the start with the largest rise
            heights = np.linspace(low, high, 201)
            first = np.full(201, curvature)
            u, v = lab.weights_at(np.random.default_rng(0), first, 2 * np.sqrt(heights) / curvature, 2)
            path = lab.paths("gd", {"learning_rate": jnp.ones(201)}, jnp.asarray(u), jnp.asarray(v), jnp.zeros(201), 3)
            loss = np.asarray(path[2])
            rise = np.where(loss[:, 1] < loss[:, 0], loss[:, 2] / loss[:, 1], 0)
            best, width = heights[np.argmax(rise)], (high - low) / 20
            low, high = max(best - width, curvature - 2), min(best + width, curvature**2 / 4)
        return float(rise.max())

    lo, hi = 2.5, 3.9
    for _ in range(30):
        middle = (lo + hi) / 2
        lo, hi = (lo, middle) if worst(middle) > 1 else (middle, hi)
    return np.array([lo, hi])


# ---------------------------------------------------------------------------------------------------------------
# Chaos at the upper edge

TRIPLINGS = 12
"""Steps at the upper edge, each of which triples an error."""


def outputs(sample: Sample) -> dict[str, np.ndarray]:
    """eta f/sqrt(n) (members, `TRIPLINGS`) along each run."""
    return {label: run(start, TRIPLINGS)[0] for label, start in sample.items()}


# ---------------------------------------------------------------------------------------------------------------
# Where a catapult lands

NODES = np.linspace(0.02, 0.2, 14)
"""Excesses delta that the series of the landing is fitted to."""


def _landings(excess: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """eta lambda at the end, and the largest eta^2 f^2/n, of runs from eta lambda = 2 + excess and a tiny output."""
    u, v = lab.nearly_fitted(2 + excess, np.full(len(excess), 1e-11))
    numbers = {"learning_rate": jnp.ones(len(excess))}
    output, curvature, _ = lab.paths("gd", numbers, jnp.asarray(u), jnp.asarray(v), jnp.zeros(len(u)), steps)
    return np.asarray(curvature)[:, -1], np.max(np.asarray(output) ** 2, axis=1)


def landing_coefficients(sample: None) -> dict[str, np.ndarray]:
    """Of excess^2 and excess^3 in the landing, by a polynomial through the zero at excess 0."""
    landing, _ = _landings(NODES, 6_000)
    powers = NODES[:, None] ** np.arange(1, 10)[None]
    scale = powers[-1]
    fitted = np.linalg.lstsq(powers / scale, landing - 2, rcond=None)[0] / scale
    return {"linear": fitted[0], "quadratic": fitted[1]}


EXCESSES = 0.2 / 2 ** np.arange(5)
"""Excesses delta of which the order is measured."""


def reflection_errors(sample: None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """delta, and the distances of landing and height from their leading orders."""
    landing, top = _landings(EXCESSES, 12_000)
    series = landing - (2 - EXCESSES)
    return {
        "landing beyond the mirror image": (EXCESSES, np.abs(series)),
        "height beyond delta^2/2": (EXCESSES, np.abs(top - EXCESSES**2 / 2)),
    }
