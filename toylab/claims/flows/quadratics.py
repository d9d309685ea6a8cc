"""Central models on quadratics: below the edge the central map is the optimizer, and at the edge not every adaptive
rule comes to the rest that a central flow describes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from scipy.optimize import brentq

import theory
import toylab
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality
from toylab.filters import held_filter
from toylab.models.central_map import central_map_steps
from toylab.models.kernel import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206); the central map: here"


class Below(NamedTuple):
    """A rule with its learning rate, on a quadratic all of whose curvatures are below its edge."""

    rule: str
    learning_rate: float
    curvatures: tuple[float, ...]
    start: tuple[float, ...]


RULES = ("heavy_ball",)
"""One with memory: each costs a compilation, and the tests go through more."""


def _bowl(weights: Array, curvatures: Array) -> Array:
    return jnp.mean(curvatures @ weights**2) / 2


def _below(random: np.random.Generator, tier: str) -> tuple[Below, ...]:
    quadratics = []
    for rule in RULES:
        rate = float(random.uniform(0.05, 0.5))
        curvatures = random.uniform(0.05, 0.9, 3) * held_filter(NAMED[rule](learning_rate=rate)).threshold
        quadratics.append(Below(rule, rate, tuple(map(float, curvatures)), tuple(map(float, random.normal(size=3)))))
    return tuple(quadratics)


STEPS = 40


def _bowl_problem(one: Below) -> toylab.Problem:
    return toylab.Problem(_bowl, jnp.array(one.start), jnp.array([one.curvatures]))


def _mapped(sample: tuple[Below, ...]) -> dict[str, np.ndarray]:
    distances = {}
    for one in sample:
        problem = _bowl_problem(one)
        kernel = central_map_steps(problem, NAMED[one.rule](learning_rate=one.learning_rate), count=2)
        _, averages = rollout(kernel, kernel.init(problem.params), STEPS)
        distances[one.rule] = np.linalg.norm(np.asarray(averages.params), axis=1)
    return distances


def _optimized(sample: tuple[Below, ...]) -> dict[str, np.ndarray]:
    distances = {}
    for one in sample:
        problem = _bowl_problem(one)
        kernel = discrete_steps(problem, NAMED[one.rule](learning_rate=one.learning_rate))
        _, visited = rollout(kernel, kernel.init(problem.params), STEPS)
        distances[one.rule] = np.linalg.norm(np.asarray(visited.params), axis=1)
    return distances


IS_THE_OPTIMIZER = Claim(
    id="flows/below_the_edge",
    tier="default",
    statement="where no eigenvalue is near the edge the central map is the optimizer itself, momentum and all",
    source="the central map's definition",
    comparison=equality(1e-9, "rounding of forty steps of two programs that order sums differently"),
    draw=_below,
    predicted=_mapped,
    measure=_optimized,
)

KICK = 1e-3
"""The relative offset of the second moment: small, so that the start is near the 2-cycle, yet large against
rounding."""

STEPS_AT_REST = 20_000
MOMENTA = np.arange(0.1, 0.25, 0.0025)


def _second_moments(random: np.random.Generator, tier: str) -> tuple[float, ...]:
    return tuple(float(value) for value in random.uniform(0.9, 0.99, 3))


def _last_at_rest(sample: tuple[float, ...]) -> dict[str, float]:
    """The momentum up to which all conditions for a stable 2-cycle are positive."""
    law = theory.balance_law(optax.adam)
    conditions = [law.numeric(name) for name in law.expressions if name.startswith("condition")]

    def least(b1: float, b2: float) -> float:
        return min(float(condition(b1=b1, b2=b2)) for condition in conditions)

    return {f"b2 = {b2:.4f}": brentq(least, 0.01, 0.9, args=(b2,)) for b2 in sample}


@jax.jit
def _spreads(b1: Array, b2: Array) -> Array:
    """Standard deviations of log nu over the four quarters of a run of Adam on w^2/2 that starts near its 2-cycle."""
    rule = optax.adam(1.0, b1=b1, b2=b2, eps=0.0)
    swing = (1 - b1) / (1 + b1)  # of the first moment when the gradient alternates
    weight = swing / 2  # w+ = w - m+/|w| = -w
    initial: Any = rule.init(weight)
    adam, rest = initial
    late = jnp.asarray(1e6, adam.count.dtype)  # bias corrections are over
    state = (adam._replace(count=late.astype(jnp.int32), mu=-swing * weight, nu=(1 + KICK) * weight**2), rest)

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        updates, after = rule.update(carry[0], carry[1], carry[0])
        moment: Any = after
        return (carry[0] + updates, after), jnp.log(moment[0].nu)

    def quarter(carry: Any, _: None) -> tuple[Any, Array]:
        carry, logarithms = lax.scan(step, carry, length=STEPS_AT_REST // 4)
        return carry, jnp.std(logarithms)

    return lax.scan(quarter, (weight, state), length=4)[1]


def _bracketed(sample: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The largest momentum whose run comes nearer to rest, and the smallest whose run does not."""
    brackets = {}
    for b2 in sample:
        spreads = np.asarray(jax.vmap(_spreads, in_axes=(0, None))(jnp.asarray(MOMENTA), jnp.asarray(b2)))
        calmer = spreads[:, -1] < spreads[:, 0]
        change = int(np.argmin(calmer))
        clean = calmer[0] and not calmer[change:].any()
        brackets[f"b2 = {b2:.4f}"] = np.array([MOMENTA[change - 1], MOMENTA[change]]) if clean else np.full(2, np.nan)
    return brackets


COMES_TO_REST = Claim(
    id="flows/comes_to_rest",
    tier="quick",
    statement="near its 2-cycle at the edge Adam comes to rest only if its momentum is below the derived bound, .17 to "
    ".18; beyond it circles the edge, so that a central flow describes an average that is never at rest",
    source="theory.balance_law, derived from optax.adam's own step",
    comparison=bracket(
        0.0,
        "the grid of momenta brackets the change by itself",
        ceiling=Ceiling(0.03, "two steps of the grid, .0025 each, relative to .18"),
    ),
    draw=_second_moments,
    predicted=_last_at_rest,
    measure=_bracketed,
    finding="from a generic start Adam circles from b1 = .14 to .16 on: up to the bound rest and circling both are "
    "stable",
)

CLAIMS = [IS_THE_OPTIMIZER, COMES_TO_REST]
