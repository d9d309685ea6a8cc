"""Experiments on adaptive rules, not frozen, on the cubic model."""

from __future__ import annotations

import numpy as np

import toylab
from toylab.optimizers import NAMED
from toylab.problems import cubic_normal_form

SHARPNESS, PUSH, STEPS = 10.0, 0.01, 6_000

ETA = 0.01
"""Learning rate."""

MEMORYLESS = {
    "rmsprop, decay .99": ("rmsprop", {"decay": 0.99}),
    "adam, b1 = 0": ("adam", {"b1": 0.0, "b2": 0.99}),
}

WITH_MOMENTUM = {
    "adam, b2 .99": ("adam", {"b1": 0.9, "b2": 0.99}),
    "nadam, b2 .99": ("nadam", {"b1": 0.9, "b2": 0.99}),
}


def _runs(chosen: dict[str, tuple[str, dict[str, float]]]) -> dict[str, np.ndarray]:
    """Per rule, over the last half: mean and spread of the edge ratio, swing of x over eta, rise of the sharpness."""
    out = {}
    problem = cubic_normal_form(SHARPNESS, PUSH, tilt=PUSH, start=(0.1, 0.0))
    for label, (rule, settings) in chosen.items():
        transform = NAMED[rule](learning_rate=ETA, eps=1e-12, **settings)
        observed = toylab.observers(edge_ratio=True, sharpness=1)
        run = toylab.train(problem, transform, STEPS, observe=observed)
        ratio, sharpness = run.edge_ratio[STEPS // 2 :], run.sharpness[:, 0]
        swing = 2 * abs(float(run.params[0])) / ETA
        out[label] = np.array([ratio.mean(), ratio.std(), swing, sharpness[-1] / sharpness[0]])
    return out


def memoryless_ratios(sample: None) -> dict[str, np.ndarray]:
    """Mean edge ratios, as intervals of no width."""
    del sample
    return {label: np.array([row[0], row[0]]) for label, row in _runs(MEMORYLESS).items()}


def ratios_with_momentum(sample: None) -> dict[str, np.ndarray]:
    """What `_runs` measures of rules with momentum."""
    del sample
    return _runs(WITH_MOMENTUM)
