"""Gradient descent is blocked from sharp regions where adaptive rules go on: their P follows, until it is frozen."""

from __future__ import annotations

from typing import Any

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, equality, measurement, sign
from toylab.experiments.frozen_runs import (
    ADAM,
    GD,
    RMSPROP,
    SEEDS,
    SHARED_LOSS,
    frozen_levels,
    gain_of_forgetting,
    late_sharpness,
    left_behind,
    sharpness_by_rate,
    sharpness_of_adam,
    survivors,
)
from toylab.optimizers import NAMED

SOURCE = "Cohen et al. 2022 (arXiv:2207.14484), there on image and text networks"


def _threshold(rule: str, **settings: float) -> float:
    """k* = eta lambda(P^-1 H) at the edge, derived."""
    edge = theory.cached_edge(NAMED[rule])
    return settings["learning_rate"] * edge.at(**settings).threshold


# ---------------------------------------------------------------------------------------------------------------
# GD stops where Adam passes.


def _ceiling(sample: Any) -> float:
    eta = GD["learning_rate"][0]
    return _threshold("gd", learning_rate=eta) / eta


STOPPED = Claim(
    id="networks/blocked_gd",
    tier="default",
    statement="gradient descent on a Chebyshev regression is blocked at the sharpness that its code's edge allows, "
    "from every seed, while its loss is still far from zero",
    source=SOURCE,
    comparison=equality(
        0.1, "the sharpness falls by some per cent below the edge and returns, slowly", ceiling=NETWORK_PLATEAU
    ),
    predicted=_ceiling,
    measure=late_sharpness,
)


PASSING = Claim(
    id="networks/blocked_adam_advances",
    tier="default",
    statement="at the lowest loss that blocked gradient descent attains, Adam from the same start is sharper than "
    "gradient descent's edge allows, for b2 = .9, .99 and .999",
    source=SOURCE,
    comparison=at_least(
        0.0, "a bound that nothing pulls at", ceiling=Ceiling(20.0, "Adam has no level in S: only that it passes")
    ),
    predicted=lambda sample: {f"b2 {b2:g}": np.array(_ceiling(sample)) for b2 in ADAM["b2"]},
    measure=sharpness_of_adam,
)


# ---------------------------------------------------------------------------------------------------------------
# With P frozen, they are blocked again.


def _frozen_threshold(sample: Any) -> dict[str, np.ndarray]:
    eta = RMSPROP["learning_rate"][0]
    return {
        f"decay {decay:g}": np.full(SEEDS, _threshold("rmsprop", learning_rate=eta, decay=decay))
        for decay in RMSPROP["decay"]
    }


FROZEN = Claim(
    id="networks/blocked_when_frozen",
    tier="default",
    statement="RMSProp whose second moments are frozen at step 1000 settles where eta lambda_max(P^-1 H) of the frozen "
    "P meets its derived threshold, as gradient descent does (step and learning rate are such that runs survive the "
    "freezing; not all do, networks/frozen_survivors)",
    source=SOURCE,
    comparison=equality(0.05, "bursts of self-stabilization, some per cent deep", ceiling=NETWORK_PLATEAU),
    predicted=_frozen_threshold,
    measure=frozen_levels,
)


LEFT_BEHIND = Claim(
    id="networks/blocked_frozen_stops_sharpening",
    tier="default",
    statement="from the moment when P is frozen, Adam and RMSProp fall behind the sharpness of the same run with P "
    "adapting, for every seed and every b2",
    source=SOURCE,
    comparison=sign(
        0.0, "only the order is stated", ceiling=Ceiling(1.0, "told apart in log S, in units of a factor e"), scale=1.0
    ),
    predicted=lambda sample: dict.fromkeys(("adam", "rmsprop"), np.array(1.0)),
    measure=left_behind,
)


FORGETFUL = Claim(
    id="networks/advancing_with_memory",
    tier="default",
    statement="at equal loss Adam with b2 = .9 is in a sharper place than with b2 = .999, from every seed: the sooner "
    "P forgets, the less it blocks",
    source=SOURCE,
    comparison=sign(
        0.0, "only the order is stated", ceiling=Ceiling(2.0, "told apart in log S, in units of a factor e"), scale=1.0
    ),
    predicted=lambda sample: np.array(1.0),
    measure=gain_of_forgetting,
)


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {', '.join(f'{s:.0f}' for s in values)}" for label, values in measured.items())
    return (
        f"Sharpness of Adam (b2 .99) at the loss {SHARED_LOSS:g}, three seeds: {listed}.  At equal loss smaller steps "
        "are in flatter places here, against what is reported of larger networks at the end of training."
    )


BY_RATE = Claim(
    id="networks/advancing_with_rate",
    tier="long",
    statement="sharpness of Adam at equal loss, by its learning rate",
    source="measured; " + SOURCE,
    comparison=measurement(),
    measure=sharpness_by_rate,
    finding=_finding,
)


def _finding_of_survivors(measured: dict[str, np.ndarray]) -> str:
    listed = ", ".join(f"{int(done)} of {int(all_)} with {rule}" for rule, (done, all_) in measured.items())
    return f"Runs that survive 4,000 steps with their second moments frozen at step 500, 1000 or 2000: {listed}."


SURVIVORS = Claim(
    id="networks/frozen_survivors",
    tier="long",
    statement="how many runs go on after their P is frozen, with momentum (Adam) and without (RMSProp)",
    source="measured; momentum undoes the damping of self-stabilization (self_stabilization/*)",
    comparison=measurement(),
    measure=survivors,
    finding=_finding_of_survivors,
)


CLAIMS = [STOPPED, PASSING, FROZEN, LEFT_BEHIND, FORGETFUL, BY_RATE, SURVIVORS]
