"""What training looks like at the edge: the loss goes up and down on its way down, the sharpness follows 2/eta when eta
is dropped, and under cross-entropy it falls in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, sign
from toylab.experiments.descent_at_the_edge import (
    AFTER,
    DROP_AT,
    DROP_STEPS,
    LATE,
    RATES,
    late_changes,
    loss_moves,
    settled_levels,
)
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065)"


LOSS = Claim(
    id="networks/loss_at_the_edge",
    tier="default",
    statement="below the edge every step of gradient descent lowers the loss; at the edge some raise it, and yet the "
    "mean over 250 steps falls from each window to the next",
    source=SOURCE,
    comparison=sign(
        0.0,
        "any rise or fall counts",
        ceiling=Ceiling(0.5, "by how much the loss moves is not predicted: the smallest move is what resolves"),
        scale=1.0,
    ),
    predicted=lambda sample: {
        "one step, below the edge": -1.0,
        "one step, at the edge": 1.0,
        "window to window, below the edge": -1.0,
        "window to window, at the edge": -1.0,
    },
    measure=loss_moves,
    finding=lambda measured: (
        "largest change of log L: "
        + "; ".join(f"{label} {moves.min():+.2g} to {moves.max():+.2g}" for label, moves in measured.items())
    ),
)


def _edge(sample: Any) -> dict[str, np.ndarray]:
    threshold = np.array([theory.cached_edge(NAMED["gd"]).at(learning_rate=rate).k for rate in RATES])
    return {"before": threshold, "long after": threshold}


def _finding_of_drop(measured: dict[str, np.ndarray]) -> str:
    return (
        f"eta S before the drop {measured['before'].mean():.3f}, halved by it, and "
        f"{measured['long after'].mean():.3f} in "
        f"the last {DROP_STEPS - AFTER.start} of {DROP_STEPS - DROP_AT} steps after it"
    )


DROPPED = Claim(
    id="networks/dropped_learning_rate",
    tier="default",
    statement="when the learning rate of gradient descent is halved at the edge, the sharpness rises again to the new "
    "threshold",
    source=SOURCE,
    comparison=equality(
        0.08, "means over 400 and 1000 steps of a sharpness that wanders by ten per cent", ceiling=NETWORK_PLATEAU
    ),
    predicted=_edge,
    measure=settled_levels,
    finding=_finding_of_drop,
)


FALLS = Claim(
    id="networks/cross_entropy_falls",
    tier="long",
    statement="under cross-entropy the sharpness of gradient descent falls as the digits are fitted, from each "
    "hundred steps to the next",
    source=SOURCE,
    comparison=sign(
        0.0,
        "any fall counts",
        ceiling=Ceiling(0.5, "by how much the sharpness falls is not predicted: the slowest fall is what resolves"),
        scale=1.0,
    ),
    predicted=lambda sample: {f"learning rate {rate:g}": -1.0 for rate in LATE.learning_rates},
    measure=late_changes,
    finding=lambda measured: (
        "log of sharpness, last over first hundred steps: "
        + "; ".join(f"{label} {c.sum(axis=1).min():.2f} to {c.sum(axis=1).max():.2f}" for label, c in measured.items())
    ),
)


CLAIMS = [LOSS, DROPPED, FALLS]
