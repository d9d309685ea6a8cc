"""Single precision trains to the same plateau as double precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.claims.network_plateaus import numbers, plateaus, summary, summary_of
from toylab.optimizers import NAMED

RATES = (0.4, 0.5, 0.6, 0.7)


def _digits(key: Any) -> toylab.Problem:
    return toylab.problems.digits_mlp(hidden=(24, 24), examples=200, seed=key)


def _digits_single(key: Any) -> toylab.Problem:
    problem = _digits(key)

    def narrowed(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)

    return replace(problem, params=narrowed(problem.params), data=narrowed(problem.data))


def _means(sample: Any) -> dict[str, float]:
    return {"single over double": _ratio(*(_summary(source) for source in (_digits_single, _digits)))}


def _summary(source: Any) -> np.ndarray:
    runs = toylab.sweep(
        source,
        NAMED["gd"],
        {"learning_rate": RATES},
        steps=800,
        seeds=3,
        every=16,
        observe=toylab.observers(edge_ratio=True),
    )
    return numbers(summary(plateaus(runs)))


def _ratio(single: np.ndarray, double: np.ndarray) -> float:
    return summary_of(single).mean / summary_of(double).mean


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
    predicted=lambda sample: {"single over double": 1.0},
    measure=_means,
)

CLAIMS = [SAME]
