"""A divergence episode: what happens while a network in training crosses the edge and its oscillation grows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

import theory
import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, equality, sign
from toylab.claims.networks.averaged_gradients import network, value
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065) and 2022 (arXiv:2207.14484); rate: theory.edge"


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
    begun: int
    grown: int
    largest: int
    size: np.ndarray
    sharpness: np.ndarray


@cache
def _runs(name: str, seeds: tuple[int, ...]) -> toylab.Sweep:
    of = CROSSINGS[name]
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    seen = toylab.observers(midpoint_sharpness=1, projections=1, position=64)  # 48 weights: the positions are exact
    grid = {"learning_rate": [of.learning_rate]} | {name: [number] for name, number in of.fixed}
    return toylab.sweep(network, NAMED[of.rule], grid, steps=of.steps, seeds=keys, every=1, observe=seen)


def _of_seed(runs: toylab.Sweep, name: str, seed: int) -> np.ndarray:
    values = runs.records[name]
    return values.reshape(-1, *values.shape[runs.status.ndim :])[seed]


def _episodes(name: str, seeds: tuple[int, ...]) -> list[Episode]:
    """The first episode of every seed. Raises ArithmeticError where the steps do not suffice for one."""
    runs, found = _runs(name, seeds), []
    for seed in range(len(seeds)):
        size = np.abs(_of_seed(runs, "projections", seed)[:, 0])
        smallest = int(size.argmin())
        if size[smallest:].max() <= 10 * LARGE:
            raise ArithmeticError(f"{name}: no oscillation grows to {10 * LARGE:g} in {len(size)} steps")
        begun = smallest + int(np.argmax(size[smallest:] > SMALL))
        grown = begun + int(np.argmax(size[begun:] > LARGE))
        over = grown + int(np.argmax(size[grown:] > 10 * LARGE))
        largest = over + int(np.argmax(np.diff(size[over:]) < 0))
        found.append(Episode(smallest, begun, grown, largest, size, _of_seed(runs, "midpoint_sharpness", seed)[:, 0]))
    return found


def _draw(random: np.random.Generator, tier: str) -> dict[str, tuple[int, ...]]:
    count = {"quick": 1, "default": 3, "long": 12}[tier]
    return {name: tuple(map(int, random.integers(0, 2**31, count))) for name in CROSSINGS}


def _each(seeds: Mapping[str, tuple[int, ...]], number: Any) -> dict[str, np.ndarray]:
    return {name: np.array([number(name, one) for one in _episodes(name, drawn)]) for name, drawn in seeds.items()}


# ---------------------------------------------------------------------------------------------------------------
# How fast


def _predicted_growth(name: str, episode: Episode) -> float:
    """The sum of log|z| at the sharpness of every step."""
    of = CROSSINGS[name]
    numbers = theory.cached_edge(NAMED[of.rule]).at(learning_rate=of.learning_rate, **dict(of.fixed))
    passed = episode.sharpness[episode.begun : episode.grown]
    return float(sum(np.log(np.abs(numbers.roots(float(s))).max()) for s in passed))


def _measured_growth(name: str, episode: Episode) -> float:
    del name
    return float(np.log(episode.size[episode.grown] / episode.size[episode.begun]))


GROWTH = Claim(
    id="networks/episode_growth",
    tier="default",
    statement="while a network crosses the edge its oscillation along the top eigenvector grows, over four decades, by "
    "the product of the |z| of the derived polynomial at the sharpness of every step",
    source=SOURCE,
    comparison=equality(
        5e-3,
        "the top eigenvector turns and S rises while the oscillation grows: one to two in a thousand",
        ceiling=NETWORK_PLATEAU,
    ),
    draw=_draw,
    predicted=lambda seeds: _each(seeds, _predicted_growth),
    measure=lambda seeds: _each(seeds, _measured_growth),
)


# ---------------------------------------------------------------------------------------------------------------
# Where to


def _share(seeds: tuple[int, ...], name: str) -> np.ndarray:
    """The part of the oscillation along the top eigenvector, (seeds, steps): the steps after it passed `LARGE`."""
    runs, shares = _runs(name, seeds), []
    for seed, episode in enumerate(_episodes(name, seeds)):
        steps = slice(episode.grown, episode.grown + 4)
        shares.append(episode.size[steps] / _of_seed(runs, "oscillation", seed)[steps])
    return np.array(shares)


ALONG = Claim(
    id="networks/episode_direction",
    tier="default",
    statement="the oscillation of the weights in a divergence episode is one along the top eigenvector of the Hessian",
    source=SOURCE,
    comparison=at_least(
        0.01,
        "the whole oscillation, but for what the drift leaves in second differences",
        ceiling=Ceiling(0.02, "the drift is of the order of a per cent of an oscillation of 1e-2"),
    ),
    draw=_draw,
    predicted=lambda seeds: {name: np.ones(len(drawn)) for name, drawn in seeds.items()},
    measure=lambda seeds: {name: _share(drawn, name) for name, drawn in seeds.items()},
)


# ---------------------------------------------------------------------------------------------------------------
# And back


@jax.jit
def _cosine(before: Array, at: Array, after: Array) -> Array:
    """Of -(the gradient averaged over three consecutive weights) and -grad S at their midpoint."""
    problem = network()
    unravel = ravel_pytree(problem.params)[1]
    midpoint = (before + 2 * at + after) / 4
    top = jnp.linalg.eigh(toylab.curvature.dense_hessian(problem, unravel(midpoint)))[1][:, -1]
    slope = toylab.curvature.sharpness_gradient(value, midpoint, top)
    mean = (jax.grad(value)(before) + 2 * jax.grad(value)(at) + jax.grad(value)(after)) / 4
    return mean @ slope / (jnp.linalg.norm(mean) * jnp.linalg.norm(slope))


def _alignments(seeds: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """By rule and moment of the episode, (seeds,)."""
    found = {}
    for name, drawn in seeds.items():
        runs, episodes = _runs(name, drawn), _episodes(name, drawn)
        for label, step in (("as it begins", "begun"), ("at its largest", "largest")):
            cosines = []
            for seed, episode in enumerate(episodes):
                path, t = _of_seed(runs, "position", seed), getattr(episode, step)
                cosines.append(float(_cosine(path[t - 1], path[t], path[t + 1])))
            found[f"{name}, {label}"] = np.array(cosines)
    return found


def _finding(found: dict[str, np.ndarray]) -> str:
    each = "; ".join(f"{label} {cosines.min():+.2f} to {cosines.max():+.2f}" for label, cosines in found.items())
    return f"cosine of the averaged gradient and grad S: {each}"


ALIGNED = Claim(
    id="networks/episode_alignment",
    tier="default",
    statement="descent along the gradient averaged over the oscillation raises the sharpness as an episode begins and "
    "lowers it where the oscillation is largest",
    source=SOURCE,
    comparison=sign(
        0.0,
        "any cosine counts",
        ceiling=Ceiling(1.0, "a statement about signs: the cosines are reported"),
        scale=1.0,
    ),
    draw=_draw,
    predicted=lambda seeds: {
        f"{name}, {label}": np.full(len(drawn), way)
        for name, drawn in seeds.items()
        for label, way in (("as it begins", -1.0), ("at its largest", 1.0))
    },
    measure=_alignments,
    finding=_finding,
)

CLAIMS = [GROWTH, ALONG, ALIGNED]
