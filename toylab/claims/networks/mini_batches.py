"""Mini-batches on a network: how far below the edge of the whole loss they settle, and what they feel instead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

import theory
import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, measurement, sign
from toylab.experiments.network_plateaus import starts
from toylab.optimizers import NAMED

EXAMPLES = 128
SETTINGS = {"hidden": (16,), "examples": EXAMPLES}
SOURCE = "Cohen et al. 2021 (arXiv:2103.00065), appendix on SGD; 2022 (arXiv:2207.14484), section on mini-batches"
FELT = "Andreyev & Beneventano, arXiv:2412.20553; with momentum arXiv:2604.14108"


class Sizes(NamedTuple):
    """A rule run with batches of several sizes."""

    rule: str
    learning_rate: float
    fixed: tuple[tuple[str, float], ...]
    steps: int
    sizes: tuple[int, ...]


SHORT = {
    "SGD": Sizes("gd", 0.6, (), 1000, (4, 32, EXAMPLES)),
    "Adam": Sizes("adam", 0.004, (("b2", 0.99),), 800, (16, EXAMPLES)),
}
ALL = tuple(EXAMPLES // parts for parts in (32, 16, 8, 4, 2, 1))
LONG = {
    "SGD": Sizes("gd", 0.6, (), 3000, ALL),
    "Adam": Sizes("adam", 0.004, (("b2", 0.99),), 3000, ALL),
    "RMSProp": Sizes("rmsprop", 0.001, (("decay", 0.99),), 3000, ALL),
}
SETTLED = {
    "SGD": Sizes("gd", 0.9, (), 20_000, (8, 32)),
    "momentum 0.5": Sizes("heavy_ball", 0.6, (("momentum", 0.5),), 12_000, (8, EXAMPLES)),
}
SEEDS = 3


def _network(key: Any) -> toylab.Problem:
    return toylab.problems.digits_mlp(**SETTINGS, seed=key)


@cache
def _run(of: Sizes, size: int, felt: bool) -> dict[str, np.ndarray]:
    """The means over the last third of a run, each (seeds,): `level`, the edge ratio of the Hessian of all examples;
    `felt` = eta E[g_B^T H_B g_B/|g_B|^2] if asked for.
    """
    runs = toylab.sweep(
        _network,
        NAMED[of.rule],
        {"learning_rate": [of.learning_rate]} | {name: [number] for name, number in of.fixed},
        steps=of.steps,
        seeds=starts(SEEDS),
        every=50,
        batch_size=size,
        observe=toylab.observers(edge_ratio=1, batch_sharpness=size) if felt else toylab.observers(edge_ratio=1),
    )
    late = runs.steps >= 2 * of.steps // 3
    names = {"level": "edge_ratio"} | ({"felt": "batch_sharpness"} if felt else {})
    means = {name: runs.records[record].reshape(SEEDS, -1)[:, late].mean(axis=1) for name, record in names.items()}
    return means | ({"felt": of.learning_rate * means["felt"]} if felt else {})


# ---------------------------------------------------------------------------------------------------------------
# All examples as one batch


def _weights(batch: int | None) -> np.ndarray:
    problem = toylab.problems.digits_mlp(hidden=(8,), examples=32, seed=starts(1)[0])
    run = toylab.train(problem, NAMED["adam"](0.002), 40, batch_size=batch)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.params)])


WHOLE = Claim(
    id="networks/batch_of_all",
    tier="default",
    statement="a run whose mini-batches hold all examples is the full-batch run",
    source="a mean does not depend on the order of its terms",
    comparison=equality(
        1e-9, "40 steps: sums in another order, whose rounding of 1e-16 Adam magnifies at small gradients", scale=1.0
    ),
    predicted=lambda sample: _weights(None),
    measure=lambda sample: _weights(32),
)


# ---------------------------------------------------------------------------------------------------------------
# The level of the whole loss


def _grid(tier: str) -> dict[str, Sizes]:
    return LONG if tier == "long" else SHORT


def _rises(tier: str) -> dict[str, np.ndarray]:
    """Changes of log(level) from each batch size to the next larger, means over seeds, (sizes - 1,)."""
    found = {}
    for name, of in _grid(tier).items():
        levels = np.array([np.log(_run(of, size, False)["level"]).mean() for size in of.sizes])
        found[name] = np.diff(levels)
    return found


def _levels(tier: str) -> dict[str, np.ndarray]:
    """Label -> edge ratios (sizes, seeds)."""
    return {name: np.array([_run(of, size, False)["level"] for size in of.sizes]) for name, of in _grid(tier).items()}


def _finding_of_levels(found: Mapping[str, np.ndarray]) -> str:
    each = []
    for name, levels in found.items():
        sizes = next(of.sizes for grid in (LONG, SHORT) if (of := grid.get(name)) and len(of.sizes) == len(levels))
        listed = ", ".join(
            f"{s}: {v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for s, v in zip(sizes, levels, strict=True)
        )
        each.append(f"{name} {listed}")
    return f"edge ratio of the whole loss by batch size out of {EXAMPLES} examples: " + "; ".join(each)


RISES = Claim(
    id="networks/batch_level_rises",
    tier="long",
    statement="the larger the mini-batches, the higher the edge ratio at which the Hessian of all examples settles, up "
    "to that of the full batch",
    source=SOURCE,
    comparison=sign(
        0.0,
        "any rise of the mean over seeds counts",
        ceiling=Ceiling(5.0, "in logarithms: the levels differ by factors that nothing predicts here"),
        scale=1.0,
    ),
    draw=lambda random, tier: tier,
    predicted=lambda tier: {name: np.ones(len(of.sizes) - 1) for name, of in _grid(tier).items()},
    measure=_rises,
)

LEVELS = Claim(
    id="networks/batch_levels",
    tier="long",
    statement="edge ratios of the Hessian of all examples by batch size",
    source=SOURCE,
    comparison=measurement(),
    draw=lambda random, tier: tier,
    measure=_levels,
    finding=_finding_of_levels,
)


# ---------------------------------------------------------------------------------------------------------------
# What the batches feel


def _edge(sample: Any) -> dict[str, np.ndarray]:
    """eta times the curvature at which gradient descent is unstable."""
    of = SETTLED["SGD"]
    edge = theory.cached_edge(NAMED[of.rule]).at(learning_rate=of.learning_rate).k
    return {f"batches of {size}": np.full(SEEDS, edge) for size in of.sizes}


def _felt(sample: Any) -> dict[str, np.ndarray]:
    """eta times the batch sharpness, by batch size."""
    of = SETTLED["SGD"]
    return {f"batches of {size}": _run(of, size, True)["felt"] for size in of.sizes}


def _below(sample: Any) -> dict[str, np.ndarray]:
    """The edge ratio of the whole loss, by batch size."""
    of = SETTLED["SGD"]
    return {f"batches of {size}": _run(of, size, True)["level"] for size in of.sizes}


FELT_EDGE = Claim(
    id="networks/batch_sharpness",
    tier="long",
    statement="what settles at 2/eta under SGD is the batch sharpness E[g_B'H_B g_B/|g_B|^2], for batches of 1/16 and "
    "of 1/4 of the examples",
    source=FELT,
    comparison=equality(
        0.08,
        "what is averaged over the last third still rises towards its level: on other seeds it was 2 to 8 per cent "
        "below it after 8,000 to 16,000 steps, 1 to 4 after 16,000 to 24,000",
        ceiling=NETWORK_PLATEAU,
    ),
    predicted=_edge,
    measure=_felt,
)

BELOW = Claim(
    id="networks/batch_level_below",
    tier="long",
    statement="meanwhile the largest eigenvalue of the whole loss stays below 2/eta",
    source=FELT,
    comparison=at_most(
        0.02,
        "an edge ratio that fluctuates by a few per cent",
        ceiling=Ceiling(0.5, "by how much it stays below depends on the batch size and is not predicted"),
    ),
    predicted=lambda sample: {f"batches of {size}": np.ones(SEEDS) for size in SETTLED["SGD"].sizes},
    measure=_below,
)


def _with_momentum(sample: Any) -> dict[str, np.ndarray]:
    of = SETTLED["momentum 0.5"]
    return {f"batches of {size}": _run(of, size, True)["felt"] for size in of.sizes}


def _finding_of_momentum(found: Mapping[str, np.ndarray]) -> str:
    each = "; ".join(f"{label} {v.mean():.2f} ({v.min():.2f} to {v.max():.2f})" for label, v in found.items())
    return (
        f"eta times batch sharpness of heavy ball, b = 1/2: {each}; 2 (1 - b) = 1 is reported for small batches and "
        "2 (1 + b) = 3 for large ones"
    )


MOMENTUM = Claim(
    id="networks/batch_sharpness_momentum",
    tier="long",
    statement="batch sharpness of heavy ball with small batches and with the full one",
    source=FELT,
    comparison=measurement(),
    measure=_with_momentum,
    finding=_finding_of_momentum,
)

CLAIMS = [WHOLE, RISES, LEVELS, FELT_EDGE, BELOW, MOMENTUM]
