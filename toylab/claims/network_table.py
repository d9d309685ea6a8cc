"""The table of plateaus on networks: every grid of the long tier as one row of plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from toylab.claims.network_edges import DEFAULT, LONG, threshold
from toylab.claims.network_plateaus import PlateauGrid, row, settled

GRIDS = (*DEFAULT, *LONG)
"""Gradient descent, heavy ball and Nesterov on digits with both losses and on Chebyshev regression."""


def rows(
    grids: Iterable[PlateauGrid] = GRIDS, said: Callable[[dict[str, Any]], None] = lambda one: None
) -> list[dict[str, Any]]:
    """Run the grids and return one record each, ready for JSON but for NaN; `said` is called with each as it is ready.

    Keys: problem, settings, loss, rule, fixed, learning_rates, seeds, steps; threshold (k*, derived from the rule's
    code); mean, low, high (edge ratio: over members, lowest and highest member), in_time, over_seeds,
    over_learning_rates (standard deviations), level (mean of eta lambda_max(P^-1 H)); settled, never_reached, diverged,
    too_short (members).
    """
    found = []
    for grid in grids:
        found.append(row(grid, settled(grid), threshold(grid)))
        said(found[-1])
    return found
