"""Experiments on catapults of rules with memory: their paths, their lower edge, and where they land or diverge."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from toylab.experiments import catapult_runs as lab
from toylab.filters import held_filter
from toylab.optimizers import NAMED

Sample = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------
# The map

STEPS, WIDTH = 16, 5
"""Steps of a run, and width of the net."""


def trained_paths(sample: Sample) -> dict[str, np.ndarray]:
    """|f|/sqrt(n) and lambda over lambda_0 along each run, (2, members, `STEPS`)."""
    out = {}
    for rule, drawn in sample.items():
        numbers = {name: jnp.asarray(values) for name, values in drawn["numbers"].items()}
        weights = (jnp.asarray(drawn[name]) for name in ("u", "v", "targets"))
        output, curvature, _ = (np.asarray(path) for path in lab.paths(rule, numbers, *weights, STEPS))
        out[rule] = np.abs(np.stack([output, curvature])) / drawn["scale"][None, :, None]
    return out


def lower_edges(sample: Sample) -> dict[str, np.ndarray]:
    """lambda (members,) at which a tiny output neither grows nor fades."""
    return {rule: lab.critical_curvatures(rule, numbers, 0.5, 60.0, 600) for rule, numbers in sample.items()}


# ---------------------------------------------------------------------------------------------------------------
# Reflection about the rule's own edge

MIRRORED = {"heavy_ball": {"momentum": 0.3}, "nesterov": {"momentum": 0.3}}

EXCESSES = 0.02 / 2 ** np.arange(4)
"""Relative excesses of the start over the edge."""


def mirror_errors(sample: None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Relative excess of the start, and the distance of the landing from its mirror image."""
    out = {}
    for rule, settings in MIRRORED.items():
        edge = held_filter(NAMED[rule](learning_rate=1.0, **settings)).threshold
        u, v = lab.nearly_fitted(edge * (1 + EXCESSES), np.full(len(EXCESSES), 1e-9))
        numbers = {"learning_rate": jnp.ones(len(u))} | {
            name: jnp.full(len(u), value) for name, value in settings.items()
        }
        _, curvature = lab.ends(rule, numbers, jnp.asarray(u), jnp.asarray(v), 12_000)
        out[rule] = (EXCESSES, np.abs(np.asarray(curvature) / edge - (1 - EXCESSES)))
    return out


# ---------------------------------------------------------------------------------------------------------------
# The upper end with momentum

MOMENTA = (0.0, 0.1, 0.5, 0.9)
"""Momenta of heavy ball."""


def upper_edges(sample: Sample) -> dict[str, np.ndarray]:
    """Of lambda_0 over the rule's edge: the smallest that diverged, best separator, largest that landed."""
    out = {}
    for momentum in MOMENTA:
        edge = held_filter(NAMED["heavy_ball"](learning_rate=1.0, momentum=momentum)).threshold
        u, v = lab.nearly_fitted(edge * sample["ratio"], sample["output"])
        numbers = {"learning_rate": jnp.ones(len(u)), "momentum": jnp.full(len(u), momentum)}
        _, curvature = lab.ends("heavy_ball", numbers, jnp.asarray(u), jnp.asarray(v), 2_000)
        landed = np.asarray(curvature) < edge * sample["ratio"]
        ratio = sample["ratio"]
        places = np.sort(ratio)
        mistakes = [np.sum(landed & (ratio > at)) + np.sum(~landed & (ratio <= at)) for at in places]
        out[f"b = {momentum:g}"] = np.array([ratio[~landed].min(), places[np.argmin(mistakes)], ratio[landed].max()])
    return out
