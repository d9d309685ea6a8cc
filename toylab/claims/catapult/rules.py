"""Catapults of rules with memory: the exact map of two Gram matrices, its lower edge, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import theory
from theory.toy_losses.gram import GramMap, gram_map
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement, order
from toylab.experiments import catapult_runs as lab
from toylab.experiments.catapult_rules import (
    MIRRORED,
    STEPS,
    WIDTH,
    Sample,
    lower_edges,
    mirror_errors,
    trained_paths,
    upper_edges,
)
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear

SOURCE = "theory.toy_losses.gram, from the traced loss and each rule's own code"

RULES = {
    "heavy_ball": ("momentum",),
    "nesterov": ("momentum",),
    "quasi_hyperbolic": ("momentum", "mix"),
    "ema_cascade": ("b1", "b2"),
    "delayed_gradient": (),
}
"""Rules without slow state, and what is drawn beside their learning rate."""

FLIPPING = {"gd": {}, "heavy_ball": {"momentum": 0.9}, "nesterov": {"momentum": 0.9}, "ema_momentum": {"momentum": 0.9}}
"""Rules that lose stability by a flip whatever their hyperparameters, and how long a memory the runs can afford."""


@cache
def derived(rule: str) -> GramMap:
    """The exact map of a built-in rule, derived once."""
    return gram_map(two_layer_linear(width=1).loss, NAMED[rule])


def _draw(random: np.random.Generator, tier: str) -> Sample:
    """Memories from 0.05 to 0.95, learning rates, labels, and weights with eta lambda from 0.1 to 3."""
    count = {"quick": 30, "default": 100, "long": 1_000}[tier]
    out = {}
    for rule, memories in RULES.items():
        if tier == "quick" and rule not in ("heavy_ball", "delayed_gradient"):
            continue
        numbers = {name: random.uniform(0.05, 0.95, count) for name in memories}
        numbers["learning_rate"] = 10 ** random.uniform(-2, 0, count)
        curvature = 10 ** random.uniform(-1, 0.5, count) / numbers["learning_rate"]
        u, v = lab.weights_at(random, curvature, random.uniform(-0.5, 0.5, count), WIDTH)
        targets = random.uniform(-0.1, 0.1, count) * curvature * np.sqrt(WIDTH)
        drawn = {"numbers": numbers, "u": u, "v": v, "targets": targets, "scale": curvature}
        out[rule] = _kept(drawn, np.all(_iterated({rule: drawn})[rule] < 30, axis=(0, 2)))
    return out


def _kept(drawn: Sample, rows: np.ndarray) -> Sample:
    """The members that stay of order one for as long as they are run: beyond, rounding grows as fast as they do."""
    cut = {name: values[rows] for name, values in drawn.items() if name != "numbers"}
    return cut | {"numbers": {name: values[rows] for name, values in drawn["numbers"].items()}}


@cache
def _iteration(rule: str) -> Callable:
    """The derived map, `STEPS` times, of many members."""
    step, size = derived(rule).stepper(), derived(rule).sums.rows

    def one(numbers: dict[str, Any], u: Any, v: Any, target: Any) -> Any:
        sums, differences = (jnp.zeros((size, size)).at[0, 0].set(jnp.sum(w**2) / WIDTH) for w in (u + v, u - v))

        def move(gram: Any, _: None) -> Any:
            record = ((gram[0][0, 0] - gram[1][0, 0]) / 4, (gram[0][0, 0] + gram[1][0, 0]) / 2)
            return step(*gram, width=WIDTH, target=target, **numbers), record

        return jax.lax.scan(move, (sums, differences), length=STEPS)[1]

    return jax.jit(jax.vmap(one))


def _iterated(sample: Sample) -> dict[str, np.ndarray]:
    """|f|/sqrt(n) and lambda over lambda_0, by the derived map: (2, members, steps)."""
    out = {}
    for rule, drawn in sample.items():
        numbers = {name: jnp.asarray(values) for name, values in drawn["numbers"].items()}
        weights = (jnp.asarray(drawn[name]) for name in ("u", "v", "targets"))
        path = np.abs(np.stack([np.asarray(one) for one in _iteration(rule)(numbers, *weights)]))
        out[rule] = np.nan_to_num(path / drawn["scale"][None, :, None], nan=np.inf)
    return out


MAP = Claim(
    id="catapult/exact_map_of_rules",
    tier="quick",
    statement="momentum, delays and averages in a row move a two-layer linear net of any width by the derived closed "
    "map of two small Gram matrices",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "rounding, 1e-15 of f, may be magnified threefold a step over 16 steps: 4e7 times 1e-15",
        scale=1.0,
    ),
    draw=_draw,
    predicted=_iterated,
    measure=trained_paths,
)


# ---------------------------------------------------------------------------------------------------------------
# The lower edge


def _memories(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 5, "default": 20, "long": 200}[tier]
    return {
        rule: {"learning_rate": 10 ** random.uniform(-2, 0, count)}
        | {name: random.uniform(0, top, count) for name, top in tops.items()}
        for rule, tops in FLIPPING.items()
    }


def _thresholds(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for rule, numbers in sample.items():
        threshold = theory.cached_edge(NAMED[rule]).numeric("threshold")
        out[rule] = np.asarray(threshold(**{name: jnp.asarray(values) for name, values in numbers.items()}))
    return out


LOWER = Claim(
    id="catapult/lower_edge",
    tier="quick",
    statement="a small output of the two-layer linear net begins to grow where lambda is the rule's own edge: with "
    "heavy ball at eta lambda = 2 (1 + b), with averaging at 2 (1 + b)/(1 - b)",
    source=SOURCE + "; theory.edge",
    comparison=equality(
        1e-8,
        "growth is measured over the second half of 600 steps, when at b = 0.9 the other root has faded to 2e-14",
    ),
    draw=_memories,
    predicted=_thresholds,
    measure=lower_edges,
)


MIRROR = Claim(
    id="catapult/reflection_of_rules",
    tier="default",
    statement="with momentum, too, a catapult from just above the edge lands at the mirror image of its start about "
    "the rule's own edge, up to O(excess^2)",
    source="the self-stabilization of any filter without a push (alpha = 0): a centre at leading order; theory.edge",
    comparison=order(0.1, "three halvings of an excess of 2%: the next term is a tenth of the leading one there"),
    predicted=lambda sample: {rule: np.array(2.0) for rule in MIRRORED},
    errors=mirror_errors,
)


def _above(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 500, "default": 1_000, "long": 50_000}[tier]
    return {"ratio": random.uniform(1, 2.1, count), "output": 10 ** random.uniform(-6, -1, count)}


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(
        f"{label} {low:.3f}, {middle:.3f}, {high:.3f}" for label, (low, middle, high) in measured.items()
    )
    return (
        "heavy ball from small outputs, lambda_0 over its edge 2(1+b)/eta: smallest that diverged, best separator, "
        f"largest that landed: {listed}. Momentum narrows the catapult window from (1, 2) and frays its upper end: at "
        "one lambda_0 some outputs land and others diverge"
    )


UPPER = Claim(
    id="catapult/upper_edge_with_momentum",
    tier="default",
    statement="where catapults of heavy ball end in divergence",
    source="measured",
    comparison=measurement(),
    draw=_above,
    measure=upper_edges,
    finding=_finding,
)


CLAIMS = [MAP, LOWER, MIRROR, UPPER]
