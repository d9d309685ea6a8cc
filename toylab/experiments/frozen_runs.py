"""Experiments on adaptive rules whose P is frozen, and on gradient descent beside them, where the sharpness can rise.

Runs: regression of a Chebyshev polynomial by 30 tanh units, where the sharpness can rise a hundredfold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import toylab
from toylab import filters
from toylab.experiments.network_plateaus import starts
from toylab.optimizers import NAMED
from toylab.problems import chebyshev_mlp
from toylab.rules.frozen_rules import frozen

SEEDS, EVERY = 3, 80

AT, NEVER = 1_000, 1e9
"""The step at which P is frozen, and a step that no run reaches."""

GD = {"learning_rate": [0.4]}

ADAM = {"learning_rate": [3e-3], "b2": [0.9, 0.99, 0.999], "at": [AT, NEVER]}

RMSPROP = {"learning_rate": [3e-4], "decay": [0.9, 0.99], "at": [AT, NEVER]}

STEPS = {"gd": 6_000, "adam": 3_000, "rmsprop": 4_000}

LATE, LAST = 0.5, 0.75
"""Parts of the steps by which frozen rules have come to rest, and the distance has grown."""

SHARED_LOSS = 0.03
"""The loss at which sharpnesses are compared."""


def regression(key: Any) -> toylab.Problem:
    """The Chebyshev regression, its initial weights drawn with `key`."""
    return chebyshev_mlp(hidden=(30,), seed=key)


@cache
def freezing(rule: str) -> Callable[..., optax.GradientTransformation]:
    """The factory of a named rule with one hyperparameter more: `at`, the step at which its slow state is frozen."""
    roles = filters.roles(NAMED[rule](learning_rate=1e-3), jnp.zeros(()))

    def factory(at: Any, **hyperparameters: Any) -> optax.GradientTransformation:
        return frozen(NAMED[rule](**hyperparameters), roles, at)

    return factory


def runs(rule: str, grid: dict[str, list[float]], steps: int) -> toylab.Sweep:
    """A sweep over `grid` and `SEEDS` seeds that records loss, sharpness and edge ratio; `at` freezes the rule."""
    factory = freezing(rule) if "at" in grid else NAMED[rule]
    observed = toylab.observers(loss=True, sharpness=1, edge_ratio=True)
    return toylab.sweep(regression, factory, grid, steps, seeds=starts(SEEDS), every=EVERY, observe=observed)


@cache
def recorded(rule: str) -> toylab.Sweep:
    """The runs of a rule that several claims look at: axes are those of its grid, then seeds."""
    return runs(rule, {"gd": GD, "adam": ADAM, "rmsprop": RMSPROP}[rule], STEPS[rule])


def paired(values: np.ndarray) -> np.ndarray:
    """Means of consecutive pairs along the last axis, which an oscillation of period two leaves alone."""
    return (values[..., ::2] + values[..., 1::2]) / 2


def sharpness_at(run: toylab.Sweep, loss: np.ndarray | float) -> np.ndarray:
    """S of every member where its loss first is at most `loss` (NaN if it never is): equal progress."""
    below = paired(run.loss) <= np.asarray(loss)[..., None]
    first = np.argmax(below, axis=-1)[..., None]
    sharpness = np.take_along_axis(paired(run.sharpness[..., 0]), first, -1)[..., 0]
    return np.where(below.any(axis=-1), sharpness, np.nan)


def late(run: toylab.Sweep, values: np.ndarray, after: float = LATE) -> np.ndarray:
    """Mean of a record (..., T) over the steps from the fraction `after` of the run on."""
    return values[..., run.steps >= after * run.steps[-1]].mean(axis=-1)


def late_sharpness(sample: Any) -> np.ndarray:
    """The sharpness (seeds,) of gradient descent over the late part of its runs."""
    run = recorded("gd")
    return late(run, run.sharpness[..., 0])[0]


def sharpness_of_adam(sample: Any) -> dict[str, np.ndarray]:
    """The sharpness (seeds,) of Adam at the lowest loss that gradient descent attains, by b2."""
    least = np.min(paired(recorded("gd").loss)[0], axis=-1)  # (seeds,)
    adam = recorded("adam")
    sharp = sharpness_at(adam, np.broadcast_to(least, adam.status.shape))[0, :, -1]
    return {f"b2 {b2:g}": each for b2, each in zip(ADAM["b2"], sharp, strict=True)}


def frozen_levels(sample: Any) -> dict[str, np.ndarray]:
    """eta lambda_max(P^-1 H) (seeds,) of RMSProp with P frozen, by decay."""
    run = recorded("rmsprop")
    level = RMSPROP["learning_rate"][0] * late(run, run.preconditioned_sharpness)[0, :, 0]
    return {f"decay {decay:g}": each for decay, each in zip(RMSPROP["decay"], level, strict=True)}


def left_behind(sample: Any) -> dict[str, np.ndarray]:
    """log of S with P adapting over S with P frozen, from the same seed, over the last quarter."""
    ratios = {}
    for rule in ("adam", "rmsprop"):
        run = recorded(rule)
        sharp = np.log(late(run, run.sharpness[..., 0], LAST))[0]
        ratios[rule] = (sharp[:, 1] - sharp[:, 0]).ravel()
    return ratios


# ---------------------------------------------------------------------------------------------------------------
# What lets Adam go sharper.


def gain_of_forgetting(sample: Any) -> np.ndarray:
    """log of the sharpness at equal loss (seeds,), with b2 = .9 over with b2 = .999."""
    sharp = np.log(sharpness_at(recorded("adam"), SHARED_LOSS))[0, :, -1]
    return sharp[0] - sharp[-1]


RATES = [1e-3, 3e-3, 1e-2]


@cache
def by_rate() -> toylab.Sweep:
    """Adam at the learning rates `RATES`: axes (learning rate, b2, seed)."""
    return runs("adam", {"learning_rate": RATES, "b2": [0.99]}, 6_000)


def sharpness_by_rate(sample: Any) -> dict[str, np.ndarray]:
    """Sharpness (seeds,) of Adam at equal loss, by learning rate."""
    sharp = sharpness_at(by_rate(), SHARED_LOSS)[:, 0]
    return {f"eta {eta:g}": each for eta, each in zip(RATES, sharp, strict=True)}


FREEZE_AT = [500.0, 1000.0, 2000.0]


def survivors(sample: Any) -> dict[str, np.ndarray]:
    """Per rule: how many frozen runs go on to the end, and how many there are."""
    adam = runs("adam", {"learning_rate": RATES[:2], "b2": [0.9, 0.99, 0.999], "at": FREEZE_AT}, 4_000)
    rmsprop = runs("rmsprop", {"learning_rate": [3e-4, 1e-3], "decay": [0.9, 0.99, 0.999], "at": FREEZE_AT}, 4_000)
    both = {"adam": adam.status, "rmsprop": rmsprop.status}
    return {rule: np.array([np.sum(status == toylab.Status.completed), status.size]) for rule, status in both.items()}
