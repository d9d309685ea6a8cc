"""SAM: where runs of optax's own transform lose stability, and the cycle that tests nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import theory
from theory.edges.sam import sam_cycle, sam_edge
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.sam_runs import sam_cycles, sam_edges
from toylab.optimizers import NAMED

SOURCE = "theory.edges.sam: optax.contrib.sam traced on a local quadratic; Foret et al., arXiv:2010.01412"

OUTER: dict[str, dict[str, float]] = {
    "gd": {},
    "heavy_ball": {"momentum": 0.7},
    "ema_momentum": {"momentum": 0.6},
}


def _predicted_edges(sample: Any) -> dict[str, np.ndarray]:
    out = {}
    for rule, members in sample.items():
        rows = []
        for inputs in members:
            named = {name: float(value) for name, value in inputs["named"].items()}
            gain = theory.cached_edge(NAMED[rule]).at(**named).k
            given = {"learning_rate": named["learning_rate"], "rho": float(inputs["rho"]), "edge_gain": gain}
            rows.append(
                [
                    float(sam_edge(normalised).numeric("threshold")(**given, gradient_norm=float(inputs["norm"])))
                    for normalised in (True, False)
                ]
            )
        out[rule] = np.array(rows)
    return out


def _drawn(random: np.random.Generator, tier: str) -> Any:
    count = {"quick": 3, "default": 10, "long": 100}[tier]
    return {
        rule: [
            {
                "named": {n: jnp.asarray(v) for n, v in ({"learning_rate": random.uniform(0.01, 1)} | fixed).items()},
                "rho": jnp.asarray(10 ** random.uniform(-3, 0)),
                "norm": jnp.asarray(10 ** random.uniform(-1, 1)),
            }
            for _ in range(count)
        ]
        for rule, fixed in list(OUTER.items())[: 2 if tier == "quick" else None]
    }


EDGE = Claim(
    id="noise/sam_edge",
    tier="quick",
    statement="SAM loses stability along u where eta lambda (1 + rho lambda/|g|) = k*, k* its outer rule's own edge "
    "gain, if other directions dominate |g|; unnormalised where eta lambda (1 + rho lambda) = k*",
    source=SOURCE,
    comparison=equality(1e-10, "bisected to the last digit; the crossing is transversal, x^2/|g|^2 is below 1e-12"),
    draw=_drawn,
    predicted=_predicted_edges,
    measure=sam_edges,
)


def _alone(random: np.random.Generator, tier: str) -> dict[str, np.ndarray]:
    eta, rho, share = random.uniform(0.05, 1, 12), 10 ** random.uniform(-3, 0, 12), np.linspace(0.05, 1.95, 12)
    return {"eta": eta, "rho": rho, "curvature": share / eta}


CYCLE = Claim(
    id="noise/sam_cycle",
    tier="quick",
    statement="with the gradient along u normalised SAM has no edge: below eta lambda = 2 it is always drawn into the "
    "2-cycle |x| = eta lambda rho/(2 - eta lambda), on which the edge's equation holds identically",
    source=SOURCE,
    comparison=equality(1e-12, "the cycle attracts by |1 - eta lambda| <= .95 a step: 20,000 steps leave rounding"),
    draw=_alone,
    predicted=lambda sample: np.stack(
        [
            np.asarray(
                sam_cycle().numeric("amplitude")(
                    learning_rate=sample["eta"], rho=sample["rho"], curvature=sample["curvature"]
                )
            ),
            np.ones(12),
        ],
        axis=1,
    ),
    measure=sam_cycles,
)


CLAIMS = [EDGE, CYCLE]
