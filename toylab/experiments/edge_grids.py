"""Experiments on gradient descent, heavy ball and Nesterov on networks: grids of rates and seeds, where they settle."""

from __future__ import annotations

from functools import cache

import numpy as np

from toylab.experiments.network_plateaus import PlateauGrid, Plateaus, numbers, settled, summary

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

GRIDS = {"heavy ball": DEFAULT[:3], "default": DEFAULT, "long": LONG}
"""The grids of a claim, by name."""


@cache
def _settled(name: str, number: int, members: int) -> tuple[PlateauGrid, Plateaus]:
    """A grid and what became of it; run once for all claims that speak of it."""
    grid = GRIDS[name][number]
    grid = grid if members else grid.smaller()
    return grid, _run(DEFAULT.index(grid)) if grid in DEFAULT else settled(grid)


@cache
def _run(number: int) -> Plateaus:
    return settled(DEFAULT[number])


def _each_grid(sample: tuple[str, int]) -> list[tuple[PlateauGrid, Plateaus]]:
    name, members = sample
    return [_settled(name, number, members) for number in range(len(GRIDS[name]))]


def levels(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    """For every grid and learning rate eta lambda_max, averaged over time and the seeds that settled."""
    return {grid.label: _over_seeds(plateaus) for grid, plateaus in _each_grid(sample)}


def _over_seeds(plateaus: Plateaus) -> np.ndarray:
    each = [row[~np.isnan(row)] for row in plateaus.level]
    return np.array([row.mean() if row.size else np.nan for row in each])


def summaries(sample: tuple[str, int]) -> dict[str, np.ndarray]:
    """Each grid in the numbers of its summary."""
    return {grid.label: numbers(summary(plateaus)) for grid, plateaus in _each_grid(sample)}
