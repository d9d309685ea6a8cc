"""Central maps of RMSProp and Adam: loss, edge ratios and distance to the optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from figures import flow_runs, style

NAME = "flows_adaptive"
TITLE = "RMSProp and Adam on digits: the central map predicts loss and edge ratios of P^-1 H"

SHOWN, LIMITS = 3, (0.0, 2.0)
"""Edge ratios that are drawn, and the limits of their axis: the stable flow's goes on above it."""


def compute(quick: bool) -> dict[str, np.ndarray]:
    """See `flow_runs.arrays`."""
    return flow_runs.arrays(flow_runs.RMSPROP, quick) | flow_runs.arrays(flow_runs.ADAM, quick)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A column for each rule."""
    figure = Figure(figsize=(style.PAGE, 4.8))
    grid = figure.subplots(3, 2, sharex="col", height_ratios=(1, 1.25, 1))
    rules = {rule: style.of(data, rule) for rule in ("rmsprop", "adam")}
    for column, (rule, mine) in enumerate(rules.items()):
        loss, edge, apart = grid[:, column]
        flow_runs.losses(loss, mine)
        flow_runs.edges(edge, mine, SHOWN, LIMITS)
        flow_runs.distances(apart, mine)
        style.letter(loss, column, flow_runs.title(rule, mine))
        style.letter(edge, 2 + column, r"eigenvalues of $P^{-1}H$ over their threshold")
        style.letter(apart, 4 + column, "distance to the optimizer")
        figure.align_ylabels(grid[:, column])
    figure.legend(*flow_runs.legend(rules["adam"], SHOWN), loc="outside upper center", ncols=4)
    return figure
