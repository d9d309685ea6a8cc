"""First example on real data: three rules on a small network of digits, and where they settle."""

from __future__ import annotations

import numpy as np

from toylab.claims.claim import Claim
from toylab.claims.comparisons import measurement
from toylab.experiments.first_example import plateaus


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(
        f"{rule} {mean:.3f} ± {spread:.3f} ({int(pairs)} pairs, edge reached at step {int(reached)})"
        if np.isfinite(mean)
        else f"{rule} never settled"
        for rule, (mean, spread, pairs, reached) in measured.items()
    )
    return f"plateau of the edge ratio, mean ± spread in time: {listed}"


PLATEAU = Claim(
    id="edge/first_light",
    tier="long",
    statement="on 500 digits, a tanh network 64-32-32-10 with squared loss trains at the edge: plateau of the edge "
    "ratio for GD, RMSProp and Adam",
    source="measured; Cohen et al. 2021 and 2022 on larger networks",
    comparison=measurement(),
    measure=plateaus,
    finding=_finding,
)


CLAIMS = [PLATEAU]
