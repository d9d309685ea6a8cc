"""What training looks like at the edge: the loss goes up and down on its way down, the sharpness follows 2/eta when eta
is dropped, and under cross-entropy it falls in the end.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import theory
import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, sign
from toylab.experiments.network_plateaus import PlateauGrid, starts, swept
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2021 (arXiv:2103.00065)"
DIGITS = {"hidden": (24, 24), "examples": 200}

# ---------------------------------------------------------------------------------------------------------------
# The loss: three starts, one learning rate below the edge all along and two at it

LOSSES = PlateauGrid(
    problem="digits_mlp",
    settings=DIGITS | {"loss": "mse"},
    rule="gd",
    learning_rates=(0.1, 0.4, 0.6),
    steps=1000,
    every=1,
)
BURNED = 500
"""Single steps are looked at from here on: the learning rates at the edge have been there for a while."""
WINDOW = 250


def _loss_moves(sample: Any) -> dict[str, np.ndarray]:
    """For every start the largest change of log L in one step, and from one window's mean to the next, (seeds,)."""
    runs = swept(LOSSES, observe=toylab.observers(loss=True))
    logs = np.log(runs.loss)
    single = np.diff(logs[..., BURNED:], axis=-1).max(axis=-1)
    means = np.log(runs.loss.reshape(*logs.shape[:2], -1, WINDOW).mean(axis=-1))
    long = np.diff(means, axis=-1).max(axis=-1)
    return {
        "one step, below the edge": single[0],
        "one step, at the edge": single[1:],
        "window to window, below the edge": long[0],
        "window to window, at the edge": long[1:],
    }


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
    measure=_loss_moves,
    finding=lambda found: (
        "largest change of log L: "
        + "; ".join(f"{label} {moves.min():+.2g} to {moves.max():+.2g}" for label, moves in found.items())
    ),
)

# ---------------------------------------------------------------------------------------------------------------
# Dropping the learning rate

DROP_AT, DROP_STEPS = 800, 3000
BEFORE, AFTER = slice(400, DROP_AT), slice(2000, DROP_STEPS)


def dropped(learning_rate: float, fraction: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent whose learning rate is multiplied by `fraction` after `DROP_AT` steps."""
    return NAMED["gd"](learning_rate=lambda step: learning_rate * jnp.where(step < DROP_AT, 1.0, fraction))


RATES = (0.4, 0.5)


@cache
def _dropped_levels() -> dict[str, np.ndarray]:
    runs = toylab.sweep(
        _chebyshev,
        dropped,
        {"learning_rate": RATES},
        steps=DROP_STEPS,
        seeds=starts(3),
        every=16,
        observe=toylab.observers(sharpness=1),
    )

    def level(window: slice, fraction: float) -> np.ndarray:
        inside = (runs.steps >= window.start) & (runs.steps < window.stop)
        rates = fraction * np.array(RATES)[:, None]
        return (rates * runs.sharpness[..., inside, 0].mean(axis=-1)).mean(axis=-1)

    after = slice(DROP_AT, DROP_AT + 32)
    return {"before": level(BEFORE, 1.0), "right after": level(after, 0.5), "long after": level(AFTER, 0.5)}


def _chebyshev(key: Any) -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(32,), seed=key)


def _settled_levels(sample: Any) -> dict[str, np.ndarray]:
    found = _dropped_levels()
    return {label: found[label] for label in ("before", "long after")}


def _edge(sample: Any) -> dict[str, np.ndarray]:
    threshold = np.array([theory.cached_edge(NAMED["gd"]).at(learning_rate=rate).k for rate in RATES])
    return {"before": threshold, "long after": threshold}


def _finding_of_drop(found: dict[str, np.ndarray]) -> str:
    return (
        f"eta S before the drop {found['before'].mean():.3f}, halved by it, and {found['long after'].mean():.3f} in "
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
    measure=_settled_levels,
    finding=_finding_of_drop,
)

# ---------------------------------------------------------------------------------------------------------------
# Cross-entropy: the sharpness falls in the end

LATE = PlateauGrid(
    problem="digits_mlp",
    settings=DIGITS | {"loss": "cross_entropy"},
    rule="gd",
    learning_rates=(1.0, 3.0),
    steps=600,
)


WINDOWS = 6


def _late_changes(sample: Any) -> dict[str, np.ndarray]:
    """Change of log S from each sixth of the run to the next one, means over the sixth: (seeds, 5)."""
    runs = swept(LATE, observe=toylab.observers(sharpness=1))
    sharpness = runs.sharpness[..., 0]
    part = runs.steps * WINDOWS // LATE.steps
    logs = np.stack([np.log(sharpness[..., part == i].mean(axis=-1)) for i in range(WINDOWS)], axis=-1)
    return {f"learning rate {rate:g}": np.diff(logs[i], axis=-1) for i, rate in enumerate(LATE.learning_rates)}


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
    measure=_late_changes,
    finding=lambda found: (
        "log of sharpness, last over first hundred steps: "
        + "; ".join(f"{label} {c.sum(axis=1).min():.2f} to {c.sum(axis=1).max():.2f}" for label, c in found.items())
    ),
)

CLAIMS = [LOSS, DROPPED, FALLS]
