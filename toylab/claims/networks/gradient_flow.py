"""Gradient descent beside gradient flow on a network: together below the edge, apart when S crosses 2/eta."""

from __future__ import annotations

from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, order
from toylab.experiments.flow_and_descent import LEAVING, TIMES, distance_errors, levels_at_departure
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065), section 3 and appendix on gradient flow"


def _edges(sample: Any) -> dict[str, float]:
    edge = theory.cached_edge(NAMED["gd"])
    return {f"learning rate 1/{n}": edge.at(learning_rate=1 / n).k for n in LEAVING}


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {float(level):.2f}" for label, level in measured.items())
    return (
        f"eta S when GD has left the flow, {listed}. It leaves after the crossing and not at it, a slow passage "
        "through a flip: the oscillation has to grow back what it had decayed by below the edge, or what rounding left"
    )


FOLLOWS = Claim(
    id="networks/follows_gradient_flow",
    tier="default",
    statement="below the edge gradient descent is gradient flow up to Euler's error: at equal flow time the distance "
    "is of first order in eta",
    source=SOURCE,
    comparison=order(0.1, "rates 1/4 to 1/16 are not infinitely small: the next order bends the slope by some percent"),
    predicted=lambda sample: {f"time {time}": 1.0 for time in TIMES},
    errors=distance_errors,
)


LEAVES = Claim(
    id="networks/leaves_gradient_flow",
    tier="default",
    statement="gradient descent stays with gradient flow for as long as eta S is below the derived threshold, and then "
    "leaves it",
    source=SOURCE,
    comparison=at_least(
        0.02,
        "the distances are compared at whole units of flow time, in which S grows by at most two per cent",
        ceiling=Ceiling(0.35, "it leaves late: the oscillation grows back from where it had decayed to"),
    ),
    predicted=_edges,
    measure=levels_at_departure,
    finding=_finding,
)


CLAIMS = [FOLLOWS, LEAVES]
