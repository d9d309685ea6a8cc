"""The table of plateaus on networks: every grid as one row of plain numbers, and the rows as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from toylab.claims.networks import convolutional_edges
from toylab.claims.networks import edges as network_edges
from toylab.claims.tables import table
from toylab.experiments import adaptive_grids, edge_grids
from toylab.experiments.network_plateaus import PlateauGrid, row, settled

GRIDS = (
    *edge_grids.DEFAULT,
    *edge_grids.LONG,
    *convolutional_edges.GRIDS,
    *adaptive_grids.GRIDS,
    *adaptive_grids.CHEBYSHEV,
)
"""Digits with both losses, Chebyshev regression and the convolutional network, for every rule with an edge to tell."""


COLUMNS = (
    "problem, loss",
    "rule",
    "k*",
    "learning rates",
    "steps",
    "edge ratio (lowest to highest run)",
    "spread in time, seeds, rates",
    "settled / never / left / diverged / too short",
)


def rows(
    grids: Iterable[PlateauGrid] = GRIDS, progress: Callable[[dict[str, Any]], None] = lambda one: None
) -> list[dict[str, Any]]:
    """Run the grids and return one record each, ready for JSON; `progress` is called with each as it is ready.

    Keys: problem, settings, loss, rule, fixed, learning_rates, seeds, steps, every, one_by_one, single (the grid's);
    threshold (k*, derived from the rule's code); mean, low, high (edge ratio: over members, lowest and highest member),
    in_time, over_seeds, over_learning_rates (standard deviations), level (mean of eta lambda_max(P^-1 H)), None where
    nothing settled; settled, never_reached, left, diverged, too_short (members).
    """
    records = []
    for grid in grids:
        numbers = row(grid, settled(grid), network_edges.threshold(grid))
        records.append({name: None if _is_nan(value) else value for name, value in numbers.items()})
        progress(records[-1])
    return records


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The records as a table in Markdown."""
    return table(map(_cells, records), COLUMNS)


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    rule = " ".join([record["rule"], *(f"{name} {value:g}" for name, value in record["fixed"].items())])
    rates = f"{min(record['learning_rates']):g} to {max(record['learning_rates']):g}"
    ratio = "" if record["mean"] is None else f"{record['mean']:.3f} ({record['low']:.2f} to {record['high']:.2f})"
    deviations = [record[name] for name in ("in_time", "over_seeds", "over_learning_rates")]
    known = any(deviations)
    spreads = ", ".join("-" if value is None else f"{value:.3f}" for value in deviations) if known else ""
    counts = " / ".join(str(record[name]) for name in ("settled", "never_reached", "left", "diverged", "too_short"))
    problem = f"{record['problem']}, {record['loss']}" + (", float32" if record["single"] else "")
    return problem, rule, f"{record['threshold']:.4g}", rates, str(record["steps"]), ratio, spreads, counts


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
