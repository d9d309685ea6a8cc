"""Gradient descent, heavy ball and Nesterov on networks settle where the threshold derived from their code says."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement
from toylab.experiments.network_plateaus import RULES, PlateauGrid, Plateaus, numbers, plateau_finding, settled, summary

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065), figures on gradient descent, Polyak and Nesterov momentum"

CHEBYSHEV = {"degree": 3, "hidden": (32,)}
DIGITS = {"hidden": (24, 24), "loss": "mse", "examples": 200}


def _chebyshev(rule: str, momentum: float | None, *rates: float, steps: int = 2000) -> PlateauGrid:
    fixed = {} if momentum is None else {"momentum": momentum}
    return PlateauGrid(
        problem="chebyshev_mlp", settings=CHEBYSHEV, rule=rule, fixed=fixed, learning_rates=rates, steps=steps
    )


def _digits(
    rule: str, momentum: float | None, *rates: float, loss: str = "mse", steps: int = 800, every: int = 32
) -> PlateauGrid:
    fixed = {} if momentum is None else {"momentum": momentum}
    return PlateauGrid(
        problem="digits_mlp",
        settings=DIGITS | {"loss": loss},
        rule=rule,
        fixed=fixed,
        learning_rates=rates,
        steps=steps,
        every=every,
    )


DEFAULT = [
    _digits("heavy_ball", 0.0, 0.4, 0.5, 0.6, 0.7),
    _digits("heavy_ball", 0.5, 0.55, 0.6, 0.7, 0.8),
    _digits("heavy_ball", 0.9, 0.7, 0.75, 0.8, 0.85),
    _digits("nesterov", 0.9, 0.22, 0.25, 0.28, 0.34),
]
LONG = [
    _digits("nesterov", 0.5, 0.34, 0.4, 0.46, 0.52),
    _digits("gd", None, 0.3, 0.4, 0.5, 0.6, steps=3000),
    _digits("heavy_ball", 0.9, 0.6, 0.7, 0.8, 0.9, steps=3000),
    _digits("nesterov", 0.9, 0.2, 0.24, 0.28, 0.34, steps=3000),
    _chebyshev("gd", None, 0.2, 0.3, 0.4, 0.5, steps=4000),
    _chebyshev("heavy_ball", 0.5, 0.3, 0.4, 0.5, 0.6, steps=4000),
    _chebyshev("heavy_ball", 0.9, 0.2, 0.25, 0.3, 0.4, steps=4000),
    _chebyshev("nesterov", 0.5, 0.15, 0.2, 0.25, 0.3, steps=4000),
    _chebyshev("nesterov", 0.9, 0.08, 0.1, 0.12, 0.15, steps=4000),
    _digits("gd", None, 2.0, 3.0, 4.0, 6.0, loss="cross_entropy", steps=300, every=4),
    _digits("heavy_ball", 0.9, 3.0, 4.0, 5.0, 6.0, loss="cross_entropy", steps=300, every=4),
    _digits("nesterov", 0.9, 0.7, 1.0, 1.4, 2.0, loss="cross_entropy", steps=300, every=4),
]
_GRIDS = {"heavy ball": DEFAULT[:3], "default": DEFAULT, "long": LONG}


@cache
def _settled(name: str, number: int, members: int) -> tuple[PlateauGrid, Plateaus]:
    """A grid and what became of it; run once for all claims that speak of it."""
    grid = _GRIDS[name][number]
    grid = grid if members else grid.smaller()
    return grid, _run(DEFAULT.index(grid)) if grid in DEFAULT else settled(grid)


@cache
def _run(number: int) -> Plateaus:
    return settled(DEFAULT[number])


def _found(sample: tuple[str, int]) -> list[tuple[PlateauGrid, Plateaus]]:
    name, members = sample
    return [_settled(name, number, members) for number in range(len(_GRIDS[name]))]


def _levels(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    """For every grid and learning rate eta lambda_max, averaged over time and the seeds that settled."""
    return {grid.label: _over_seeds(found) for grid, found in _found(sample)}


def _over_seeds(found: Plateaus) -> np.ndarray:
    each = [row[~np.isnan(row)] for row in found.level]
    return np.array([row.mean() if row.size else np.nan for row in each])


def threshold(grid: PlateauGrid) -> float:
    """k*: eta lambda_max(P^-1 H) at the edge, derived from the rule's code."""
    return theory.cached_edge(RULES[grid.rule]).at(learning_rate=grid.learning_rates[0], **grid.fixed).k


def _thresholds(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    name, members = sample
    grids = [grid if members else grid.smaller() for grid in _GRIDS[name]]
    return {grid.label: np.full(len(grid.learning_rates), threshold(grid)) for grid in grids}


def _summaries(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    return {grid.label: numbers(summary(found)) for grid, found in _found(sample)}


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
    measure=_levels,
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
    measure=_levels,
)

PLATEAUS = Claim(
    id="networks/plateaus",
    tier="default",
    statement="plateaus of gradient descent, heavy ball and Nesterov over three seeds and four learning rates, digits",
    source=SOURCE,
    comparison=measurement(),
    draw=_all_members("default"),
    measure=_summaries,
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
    measure=_summaries,
    finding=plateau_finding,
)

CLAIMS = [SEVERAL_MOMENTA, OWN_THRESHOLDS, PLATEAUS, MANY_PLATEAUS]
