"""Experiments on divergence episodes: a network in training crosses the edge, and its oscillation grows and fades."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

import toylab
from toylab.experiments.averaged_gradients import network, value
from toylab.numerics.period_two import midpoint
from toylab.optimizers import NAMED


class Crossing(NamedTuple):
    """A rule's first crossing: learning rate, its other hyperparameters, and enough steps to pass it."""

    rule: str
    learning_rate: float
    fixed: tuple[tuple[str, float], ...]
    steps: int


CROSSINGS = {
    "gradient descent": Crossing("gd", 0.35, (), 900),
    "heavy ball": Crossing("heavy_ball", 0.45, (("momentum", 0.5),), 500),
    "Nesterov": Crossing("nesterov", 0.25, (("momentum", 0.5),), 700),
}

SMALL, LARGE = 1e-6, 1e-2
"""Sizes of the oscillation along the top eigenvector between which its growth is compared. Below the first the drift,
which the midpoint does not take off entirely, is seen as well; beyond the second the oscillation acts back on S."""


class Episode(NamedTuple):
    """One run: the step at which the oscillation was smallest, those at which it passed `SMALL` and `LARGE` after that,
    and the one of its largest; its size and S at the midpoint, of every step (T,)."""

    smallest: int
    started: int
    grown: int
    largest: int
    size: np.ndarray
    sharpness: np.ndarray


@cache
def _runs(name: str, seeds: tuple[int, ...]) -> toylab.Sweep:
    of = CROSSINGS[name]
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    # 48 weights: the positions are exact
    observers = toylab.observers(midpoint_sharpness=1, projections=1, position=64)
    grid = {"learning_rate": [of.learning_rate]} | {name: [number] for name, number in of.fixed}
    return toylab.sweep(network, NAMED[of.rule], grid, steps=of.steps, seeds=keys, every=1, observe=observers)


def _of_seed(runs: toylab.Sweep, name: str, seed: int) -> np.ndarray:
    values = runs.records[name]
    return values.reshape(-1, *values.shape[runs.status.ndim :])[seed]


def _episodes(name: str, seeds: tuple[int, ...]) -> list[Episode]:
    """The first episode of every seed. Raises ArithmeticError where the steps do not suffice for one."""
    runs, episodes = _runs(name, seeds), []
    for seed in range(len(seeds)):
        size = np.abs(_of_seed(runs, "projections", seed)[:, 0])
        smallest = int(size.argmin())
        if size[smallest:].max() <= 10 * LARGE:
            raise ArithmeticError(f"{name}: no oscillation grows to {10 * LARGE:g} in {len(size)} steps")
        started = smallest + int(np.argmax(size[smallest:] > SMALL))
        grown = started + int(np.argmax(size[started:] > LARGE))
        over = grown + int(np.argmax(size[grown:] > 10 * LARGE))
        largest = over + int(np.argmax(np.diff(size[over:]) < 0))
        episodes.append(
            Episode(smallest, started, grown, largest, size, _of_seed(runs, "midpoint_sharpness", seed)[:, 0])
        )
    return episodes


def each(seeds: Mapping[str, tuple[int, ...]], number: Any) -> dict[str, np.ndarray]:
    """A number of the first episode of every seed, (seeds,), by rule."""
    return {name: np.array([number(name, one) for one in _episodes(name, drawn)]) for name, drawn in seeds.items()}


def _measured_growth(name: str, episode: Episode) -> float:
    del name
    return float(np.log(episode.size[episode.grown] / episode.size[episode.started]))


def growths(seeds: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Growth of log(oscillation) (seeds,) from `SMALL` to `LARGE`."""
    return each(seeds, _measured_growth)


# ---------------------------------------------------------------------------------------------------------------
# Where to


def _share(seeds: tuple[int, ...], name: str) -> np.ndarray:
    """The part of the oscillation along the top eigenvector, (seeds, steps): the steps after it passed `LARGE`."""
    runs, shares = _runs(name, seeds), []
    for seed, episode in enumerate(_episodes(name, seeds)):
        steps = slice(episode.grown, episode.grown + 4)
        shares.append(episode.size[steps] / _of_seed(runs, "oscillation", seed)[steps])
    return np.array(shares)


def shares(seeds: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The part of the oscillation along the top eigenvector, (seeds, steps)."""
    return {name: _share(drawn, name) for name, drawn in seeds.items()}


# ---------------------------------------------------------------------------------------------------------------
# And back


@jax.jit
def _cosine(before: Array, at: Array, after: Array) -> Array:
    """Of -(the gradient averaged over three consecutive weights) and -grad S at their midpoint."""
    problem = network()
    unravel = ravel_pytree(problem.params)[1]
    middle = midpoint(before, at, after)
    top = jnp.linalg.eigh(toylab.curvature.dense_hessian(problem, unravel(middle)))[1][:, -1]
    slope = toylab.curvature.sharpness_gradient(value, middle, top)
    mean = midpoint(*(jax.grad(value)(weights) for weights in (before, at, after)))
    return mean @ slope / (jnp.linalg.norm(mean) * jnp.linalg.norm(slope))


def alignments(seeds: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """By rule and moment of the episode, (seeds,)."""
    alignment = {}
    for name, drawn in seeds.items():
        runs, episodes = _runs(name, drawn), _episodes(name, drawn)
        for label, step in (("as it begins", "started"), ("at its largest", "largest")):
            cosines = []
            for seed, episode in enumerate(episodes):
                path, t = _of_seed(runs, "position", seed), getattr(episode, step)
                cosines.append(float(_cosine(path[t - 1], path[t], path[t + 1])))
            alignment[f"{name}, {label}"] = np.array(cosines)
    return alignment
