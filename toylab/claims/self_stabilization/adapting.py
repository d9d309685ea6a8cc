"""Adaptive rules on the cubic model, their second moments not frozen: what stabilises them is not the cubic term."""

from __future__ import annotations

import numpy as np

from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, measurement
from toylab.experiments.adapting_toys import MEMORYLESS, memoryless_ratios, ratios_with_momentum

STEADY = Claim(
    id="self_stabilization/let_go_memoryless",
    tier="long",
    statement="let go, RMSProp and Adam without momentum stay at their edge on the cubic model while the raw sharpness "
    "goes on rising: P follows, not the cubic term",
    source="on a 2-cycle of a memoryless rule nu = g^2, which puts eta lambda/P at 2 where x swings by eta",
    comparison=bracket(
        2e-4,
        "the sharpness rises by 1e-4 to 1e-3 of itself a step, which P follows within a fraction of that",
        ceiling=Ceiling(1e-3, "a steady state that is followed, not reached"),
    ),
    predicted=lambda sample: dict.fromkeys(MEMORYLESS, np.array(1.0)),
    measure=memoryless_ratios,
)


def _finding(measured: dict[str, np.ndarray]) -> str:
    rows = [f"{label} {mean:.3f} ± {spread:.3f}" for label, (mean, spread, _, _) in measured.items()]
    rises = [row[3] for row in measured.values()]
    return (
        f"Edge ratio of adaptive rules with momentum let go on the cubic model: {', '.join(rows)}, while the "
        f"raw sharpness rises {min(rises):.1f} times: P follows.  Adam settles where it does on a quadratic "
        "(edge/let_go_with_memory); NAdam, erratic there, comes to rest here."
    )


MOVING = Claim(
    id="self_stabilization/let_go_momentum",
    tier="long",
    statement="mean edge ratio of adaptive rules with momentum, let go on the cubic model",
    source="runs of the rules",
    comparison=measurement(),
    measure=ratios_with_momentum,
    finding=_finding,
)


CLAIMS = [STEADY, MOVING]
