"""Single precision trains to the same plateau as double precision."""

from __future__ import annotations

from dataclasses import replace

from toylab.claims.ceilings import NETWORK_PLATEAU
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.edge_grids import DEFAULT
from toylab.experiments.network_plateaus import settled, summary


def _ratio(sample: object) -> float:
    double = DEFAULT[0]
    single = replace(double, single=True)
    return summary(settled(single)).mean / summary(settled(double)).mean


SAME = Claim(
    id="networks/single_precision",
    tier="long",
    statement="gradient descent on digits in float32 has the same mean edge ratio in its plateau as in float64",
    source="measured in both precisions from the same starts",
    comparison=equality(
        0.03,
        "the runs part at the edge, which is chaotic, and agree as means over twelve members that each wander by one "
        "to three per cent",
        ceiling=NETWORK_PLATEAU,
    ),
    predicted=lambda sample: 1.0,
    measure=_ratio,
)

CLAIMS = [SAME]
