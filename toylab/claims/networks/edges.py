"""Gradient descent, heavy ball and Nesterov on networks settle where the threshold derived from their code says."""

from __future__ import annotations

from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement
from toylab.experiments.edge_grids import GRIDS, levels, summaries
from toylab.experiments.network_plateaus import RULES, PlateauGrid, plateau_finding

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065), figures on gradient descent, Polyak and Nesterov momentum"


def threshold(grid: PlateauGrid) -> float:
    """k*: eta lambda_max(P^-1 H) at the edge, derived from the rule's code."""
    return theory.cached_edge(RULES[grid.rule]).at(learning_rate=grid.learning_rates[0], **grid.fixed).k


def _thresholds(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    name, members = sample
    grids = [grid if members else grid.smaller() for grid in GRIDS[name]]
    return {grid.label: np.full(len(grid.learning_rates), threshold(grid)) for grid in grids}


def _all_members(name: str) -> Any:
    return lambda random, tier: (name, 1)


SETTLING = equality(
    0.08,
    "a mean over some hundred steps of a ratio that wanders by five to ten per cent, slowly",
    ceiling=NETWORK_PLATEAU,
)


SEVERAL_MOMENTA = Claim(
    id="networks/momentum_thresholds",
    tier="quick",
    statement="on 200 digits heavy ball settles at the threshold of its own momentum, eta S = 2 (1 + b), and so does "
    "gradient descent, b = 0",
    source=SOURCE,
    comparison=SETTLING,
    draw=lambda random, tier: ("heavy ball", int(tier != "quick")),
    predicted=_thresholds,
    measure=levels,
)


OWN_THRESHOLDS = Claim(
    id="networks/own_thresholds",
    tier="default",
    statement="on 200 digits a tanh network with squared loss settles, under gradient descent, heavy ball and "
    "Nesterov, where eta S meets the threshold derived from the rule's code, at every learning rate",
    source=SOURCE,
    comparison=SETTLING,
    draw=_all_members("default"),
    predicted=_thresholds,
    measure=levels,
)


PLATEAUS = Claim(
    id="networks/plateaus",
    tier="default",
    statement="plateaus of gradient descent, heavy ball and Nesterov over three seeds and four learning rates, digits",
    source=SOURCE,
    comparison=measurement(),
    draw=_all_members("default"),
    measure=summaries,
    finding=plateau_finding,
)


MANY_PLATEAUS = Claim(
    id="networks/many_plateaus",
    tier="long",
    statement="plateaus of gradient descent, heavy ball and Nesterov over three seeds and four learning rates, longer "
    "runs: digits with both losses, Chebyshev regression",
    source=SOURCE,
    comparison=measurement(),
    draw=_all_members("long"),
    measure=summaries,
    finding=plateau_finding,
)


CLAIMS = [SEVERAL_MOMENTA, OWN_THRESHOLDS, PLATEAUS, MANY_PLATEAUS]
