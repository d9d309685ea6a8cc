"""Experiments on growth that balances: the edge ratios of Adam on the cubic model and on digits, over time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import optax

import toylab
from toylab.experiments.compared_models import Setting, compared
from toylab.filters import held_filter
from toylab.optimizers import NAMED
from toylab.problems import cubic_normal_form
from toylab.rules.growth import growth_rates

SHARPNESS, PUSH, ETA = 10.0, 0.01, 0.01


@cache
def _ratios(b1: float, steps: int) -> np.ndarray:
    """The edge ratio of Adam on the cubic model, second moments let go, over the last half of its steps."""
    problem = cubic_normal_form(SHARPNESS, PUSH, tilt=PUSH, start=(0.1, 0.0))
    observers = toylab.observers(edge_ratio=True)
    return toylab.train(problem, _adam(b1), steps, observe=observers).edge_ratio[steps // 2 :]


def _adam(b1: float) -> optax.GradientTransformation:
    return NAMED["adam"](learning_rate=ETA, b1=b1, b2=0.99, eps=1e-12)


def mean_growth(sample: Iterable[tuple[float, int]]) -> dict[str, float]:
    """|mean of log|mu|| over its spread in time, mu the largest root of the held rule, for each (b1, steps)."""
    excesses = {}
    for b1, steps in sample:
        rate = growth_rates(held_filter(_adam(b1)), _ratios(b1, steps))
        excesses[f"b1 = {b1:g}"] = float(abs(rate.mean()) / rate.std())
    return excesses


def mean_ratios(sample: Iterable[tuple[float, int]]) -> dict[str, np.ndarray]:
    """The mean edge ratio, and its distance from 1 over its spread in time (2,), for each (b1, steps)."""
    each = {f"b1 = {b1:g}": _ratios(b1, steps) for b1, steps in sample}
    return {label: np.array([ratio.mean(), (ratio.mean() - 1) / ratio.std()]) for label, ratio in each.items()}


SHOWN = 5


def growth_by_rank(sample: Iterable[Setting]) -> dict[str, np.ndarray]:
    """Of the largest edge ratios (SHOWN,) in the settled phase the mean, and the mean growth rate of them and all
    above them."""
    means = {}
    for setting in sample:
        run = compared(setting)
        ratios = np.asarray(run.measured.edge_ratios)[run.settled :, :SHOWN]
        transform = NAMED[setting.rule](learning_rate=setting.learning_rate, **dict(setting.fixed))
        rates = growth_rates(held_filter(transform), ratios)
        means[f"{setting.label}, ratio"] = ratios.mean(axis=0)
        means[f"{setting.label}, growth"] = np.cumsum(rates.mean(axis=0))
    return means
