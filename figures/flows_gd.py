"""Flows of gradient descent: loss, edge ratios and distance to the optimizer, the oscillation averaged out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from figures import flow_runs, style

NAME = "flows_gd"
TITLE = "Gradient descent on digits: the central map predicts loss and edge ratios, the stable flow goes elsewhere"

SHOWN, LIMITS = 3, (0.35, 1.6)
"""Edge ratios that are drawn, and the limits of their axis: the stable flow's goes on above it."""


def compute(quick: bool) -> dict[str, np.ndarray]:
    """See `flow_runs.arrays`."""
    return flow_runs.arrays(flow_runs.GD, quick)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Three panels over the same steps."""
    figure = Figure(figsize=(style.PAGE, 4.8))
    loss, edge, apart = figure.subplots(3, sharex=True, height_ratios=(1, 1.25, 1))
    mine = style.of(data, "gd")
    flow_runs.losses(loss, mine)
    flow_runs.edges(edge, mine, SHOWN, LIMITS)
    flow_runs.distances(apart, mine)
    style.letter(loss, 0, f"loss; {flow_runs.title('gd', mine)}")
    style.letter(edge, 1, r"the three largest eigenvalues of $H$ over their threshold")
    style.letter(apart, 2, "distance to the optimizer")
    figure.align_ylabels([loss, edge, apart])
    figure.legend(*flow_runs.legend(mine, SHOWN), loc="outside upper center", ncols=5)
    return figure
