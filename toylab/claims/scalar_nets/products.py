"""Scalar networks: what gradient flow conserves and what gradient descent makes smaller in every step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from theory.toy_losses.scalar_nets import scalar_net
from toylab.claims.ceilings import EXACT, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, at_most, equality
from toylab.experiments.scalar_net_runs import (
    DEVIATIONS,
    Nets,
    balanced_limits,
    bounds,
    final_imbalances,
    largest_rises,
    lower_bounds,
    reach_of_balanced,
)
from toylab.problems.scalar_nets import flow_sharpness

SOURCE = "derived by theory.toy_losses.scalar_nets; Kreisler et al. 2305.13064"

DEPTHS = (2, 3, 4, 5, 6)


def _label(depth: int) -> str:
    return f"depth {depth}"


def _depths(tier: str) -> tuple[int, ...]:
    return DEPTHS[::2][:2] if tier == "quick" else DEPTHS  # each depth compiles anew


# ---------------------------------------------------------------------------------------------------------------
# Gradient flow


def _anywhere(random: np.random.Generator, tier: str) -> dict[str, Nets]:
    """Weights spread over a factor of about e^2, products from 0.2 to 2."""
    count = {"quick": 20, "default": 100, "long": 2_000}[tier]
    return {_label(n): Nets(_with_product(random, count, n, 0.5, (0.2, 2.0)), np.zeros(count)) for n in _depths(tier)}


def _with_product(
    random: np.random.Generator, count: int, depth: int, spread: float | np.ndarray, products: tuple[float, float]
) -> np.ndarray:
    """Log-normal weights (count, depth) rescaled so that their products are uniform in the range."""
    weights = np.exp(spread * random.standard_normal((count, depth)))
    wanted = random.uniform(*products, count)
    return weights * ((wanted / weights.prod(axis=1)) ** (1 / depth))[:, None]


def _imbalances(weights: np.ndarray) -> np.ndarray:
    """w_i^2 - w_1^2 (nets, depth - 1), in units of the largest square."""
    squares = weights**2
    return (squares[:, 1:] - squares[:, :1]) / squares.max(axis=1, keepdims=True)


CONSERVED = Claim(
    id="scalar_nets/flow_conserves_imbalances",
    tier="quick",
    statement="gradient flow conserves w_i^2 - w_j^2, all the way to its minimum",
    source=SOURCE + "; Arora et al. 2018",
    comparison=equality(
        1e-8, "Runge-Kutta of order 4 with steps of 0.04/sharpness: 0.04^4/120 a unit of time", scale=1.0
    ),
    draw=_anywhere,
    predicted=lambda sample: {name: _imbalances(nets.weights) for name, nets in sample.items()},
    measure=final_imbalances,
)


# ---------------------------------------------------------------------------------------------------------------
# Monotone runs


def _near_minima(random: np.random.Generator, tier: str) -> dict[str, Nets]:
    """Nets started within a residual of 0.2 of minima whose sharpness lies between 0.3/eta and 2 sqrt(2)/eta."""
    count = {"quick": 50, "default": 300, "long": 5_000}[tier]
    out = {}
    for n in _depths(tier):
        weights = _with_product(random, count, n, random.uniform(0.05, 0.8, (count, 1)), (0.8, 1.2))
        sharpness = np.asarray(jax.vmap(flow_sharpness)(jnp.asarray(weights)))
        out[_label(n)] = Nets(weights, random.uniform(0.3, 2 * np.sqrt(2), count) / sharpness)
    return out


MONOTONE = Claim(
    id="scalar_nets/flow_sharpness_decreases",
    tier="quick",
    statement="gradient descent started near minima of sharpness up to 2 sqrt(2)/eta never raises the flow sharpness, "
    "in no step, at no depth from 2 to 6, as long as the product of the weights is positive",
    source="Kreisler et al. 2305.13064, whose theorem has stricter conditions on the start",
    comparison=at_most(
        1e-13,
        "relative to the sharpness; the root behind the flow sharpness is known to some roundings of 2e-16",
        ceiling=EXACT,
        scale=1.0,
    ),
    draw=_near_minima,
    predicted=lambda sample: dict.fromkeys(sample, 0.0),
    measure=largest_rises,
)


def _pairs(random: np.random.Generator, tier: str) -> dict[str, Nets]:
    count = {"quick": 50, "default": 500, "long": 5_000}[tier]
    low = _with_product(random, count, 2, 0.7, (0.3, 0.8))
    high = _with_product(random, count, 2, 0.04, (1.2, 1.6))  # the step at the bound keeps its product positive
    return {"product < 1": Nets(low, np.zeros(count)), "product > 1": Nets(high, np.zeros(count))}


def _critical(nets: Nets, depth: int) -> np.ndarray:
    """The derived bound on eta for (nearly) balanced nets, in units of 1/`reach`, for each net."""
    scale = nets.weights.prod(axis=1) ** (1 / depth)
    return np.asarray(scalar_net(depth).numeric("balanced_bound")(scale=scale)) * reach_of_balanced(scale, depth)


PAIRS = Claim(
    id="scalar_nets/two_weights_bound",
    tier="quick",
    statement="two weights: one step of gradient descent lowers the flow sharpness iff eta |w1 w2 - 1| <= sqrt(2)",
    source=SOURCE,
    comparison=equality(
        1e-6, "bisection to 1e-12; the change of sharpness near the bound is seen above its rounding of 1e-15 to 1e-8"
    ),
    draw=_pairs,
    predicted=lambda sample: {name: _critical(nets, 2) for name, nets in sample.items()},
    measure=bounds,
)


def _toward_balance(random: np.random.Generator, tier: str) -> dict[str, Nets]:
    """Along random directions, nets ever nearer to balance, of a product below 1.  Rows: direction, deviation."""
    count = {"quick": 3, "default": 20, "long": 200}[tier]
    out = {}
    for n in DEPTHS[1:]:
        direction = random.standard_normal((count, n))
        direction -= direction.mean(axis=1, keepdims=True)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        scale = random.uniform(0.3, 0.8, (count, 1, 1)) ** (1 / n)
        weights = scale * np.exp(DEVIATIONS[:, None] * direction[:, None, :])
        out[_label(n)] = Nets(weights.reshape(-1, n), np.zeros(count * len(DEVIATIONS)))
    return out


BALANCED = Claim(
    id="scalar_nets/balanced_bound",
    tier="default",
    statement="nets of any depth near balance, all weights near w: one step of gradient descent lowers the flow "
    "sharpness iff eta |w^n - 1| w^(n-2) <= sqrt(2)",
    source=SOURCE,
    comparison=equality(
        1e-6,
        "interpolation at 7 Chebyshev nodes up to 0.18 from balance leaves 1e-9; bisection sees the change of the flow "
        "sharpness above rounding, 1e-15/0.02^2, magnified tenfold by the interpolation",
    ),
    draw=_toward_balance,
    predicted=lambda sample: {
        name: _critical(nets, nets.weights.shape[1])[:: len(DEVIATIONS)] for name, nets in sample.items()
    },
    measure=balanced_limits,
)


def _mixed(random: np.random.Generator, tier: str) -> dict[str, Nets]:
    """Nets of all kinds, from nearly balanced to weights a factor e apart, products on both sides of 1."""
    count = {"quick": 100, "default": 1_000, "long": 20_000}[tier]
    return {
        _label(n): Nets(
            _with_product(random, count, n, np.exp(random.uniform(-5, 0, (count, 1))), (0.2, 1.5)), np.zeros(count)
        )
        for n in DEPTHS[1:]
    }


SUFFICIENT = Claim(
    id="scalar_nets/sufficient_bound",
    tier="default",
    statement="at any depth a step lowers the flow sharpness if eta |p - 1| p/(w_i w_j) <= sqrt(2) for all pairs i, j "
    "(proved up to 1, seen up to sqrt(2), which cannot be improved)",
    source=SOURCE + "; beyond 1 a conjecture of ours",
    comparison=at_least(
        1e-6,
        "rounding of the flow sharpness where nets are nearly balanced",
        ceiling=Ceiling(0.02, "the bound is approached by nearly balanced nets only, and these are drawn at random"),
    ),
    draw=_mixed,
    predicted=lambda sample: {
        name: np.array(_critical(nets, nets.weights.shape[1])[0]) for name, nets in sample.items()
    },
    measure=lower_bounds,
)


CLAIMS = [CONSERVED, MONOTONE, PAIRS, BALANCED, SUFFICIENT]
