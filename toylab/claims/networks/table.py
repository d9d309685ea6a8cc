"""The table of plateaus on networks: every grid as one row of plain numbers, and the rows as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from toylab.claims.networks import adaptive_edges, convolutional_edges
from toylab.claims.networks import edges as network_edges
from toylab.experiments.network_plateaus import PlateauGrid, row, settled

GRIDS = (
    *network_edges.DEFAULT,
    *network_edges.LONG,
    *convolutional_edges.GRIDS,
    *adaptive_edges.GRIDS,
    *adaptive_edges.CHEBYSHEV,
)
"""Digits with both losses, Chebyshev regression and the convolutional network, for every rule with an edge to tell."""


def rows(
    grids: Iterable[PlateauGrid] = GRIDS, said: Callable[[dict[str, Any]], None] = lambda one: None
) -> list[dict[str, Any]]:
    """Run the grids and return one record each, ready for JSON; `said` is called with each as it is ready.

    Keys: problem, settings, loss, rule, fixed, learning_rates, seeds, steps, every, one_by_one, single (the grid's);
    threshold (k*, derived from the rule's code); mean, low, high (edge ratio: over members, lowest and highest member),
    in_time, over_seeds, over_learning_rates (standard deviations), level (mean of eta lambda_max(P^-1 H)), None where
    nothing settled; settled, never_reached, left, diverged, too_short (members).
    """
    found = []
    for grid in grids:
        numbers = row(grid, settled(grid), network_edges.threshold(grid))
        found.append({name: None if _is_nan(value) else value for name, value in numbers.items()})
        said(found[-1])
    return found


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    head = (
        "| problem, loss | rule | k* | learning rates | steps | edge ratio (lowest to highest run) "
        "| spread in time, seeds, rates | settled / never / left / diverged / too short |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *(_line(one) for one in found)])


def _line(one: Mapping[str, Any]) -> str:
    rule = " ".join([one["rule"], *(f"{name} {value:g}" for name, value in one["fixed"].items())])
    rates = f"{min(one['learning_rates']):g} to {max(one['learning_rates']):g}"
    ratio = "" if one["mean"] is None else f"{one['mean']:.3f} ({one['low']:.2f} to {one['high']:.2f})"
    found = [one[name] for name in ("in_time", "over_seeds", "over_learning_rates")]
    spreads = ", ".join("-" if value is None else f"{value:.3f}" for value in found) if any(found) else ""
    counts = " / ".join(str(one[name]) for name in ("settled", "never_reached", "left", "diverged", "too_short"))
    problem = f"{one['problem']}, {one['loss']}" + (", float32" if one["single"] else "")
    return (
        f"| {problem} | {rule} | {one['threshold']:.4g} | {rates} | {one['steps']} | {ratio} | {spreads} | {counts} |"
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
