"""A divergence episode: what happens while a network in training crosses the edge and its oscillation grows."""

from __future__ import annotations

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, equality, sign
from toylab.experiments.divergence_episodes import CROSSINGS, Episode, alignments, each, growths, shares
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065) and 2022 (arXiv:2207.14484); rate: theory.edge"


def _draw(random: np.random.Generator, tier: str) -> dict[str, tuple[int, ...]]:
    count = {"quick": 1, "default": 3, "long": 12}[tier]
    return {name: tuple(map(int, random.integers(0, 2**31, count))) for name in CROSSINGS}


# ---------------------------------------------------------------------------------------------------------------
# How fast


def _predicted_growth(name: str, episode: Episode) -> float:
    """The sum of log|z| at the sharpness of every step."""
    of = CROSSINGS[name]
    numbers = theory.cached_edge(NAMED[of.rule]).at(learning_rate=of.learning_rate, **dict(of.fixed))
    passed = episode.sharpness[episode.started : episode.grown]
    return float(sum(np.log(np.abs(numbers.roots(float(s))).max()) for s in passed))


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
    predicted=lambda seeds: each(seeds, _predicted_growth),
    measure=growths,
)


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
    measure=shares,
)


def _finding(measured: dict[str, np.ndarray]) -> str:
    each = "; ".join(f"{label} {cosines.min():+.2f} to {cosines.max():+.2f}" for label, cosines in measured.items())
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
    measure=alignments,
    finding=_finding,
)


CLAIMS = [GROWTH, ALONG, ALIGNED]
