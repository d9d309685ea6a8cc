"""Predicted dynamics against gradient descent: orders of their errors in curved valleys, and where they are exact."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order
from toylab.experiments.predicted_runs import (
    QUANTITIES,
    VALLEYS,
    averaging_errors,
    normal_form,
    predicted_errors,
    scaled_path,
    variance_errors,
)
from toylab.models import rollout
from toylab.models.predicted import predicted_dynamics

DAMIAN = "Damian, Nichani & Lee, arXiv:2209.15594"


def _exponents(sample: dict[str, float]) -> dict[str, np.ndarray]:
    """The exponents of eps delta, eps^2, eps delta^2 and, for the form that forgets a coupled direction, delta^2, where
    delta = eps^d.
    """
    del sample
    out = {}
    for name, kind in VALLEYS.items():
        d = 1 - kind["beta"] / 2
        out[name] = np.array([1 + d, 2, 1 + 2 * d, 2 * d if kind["coupled"] else 1 + 2 * d])
    return out


def _start(random: np.random.Generator, tier: str) -> dict[str, float]:
    del tier
    return {"x": float(random.uniform(0.8, 1.3)), "y": float(random.uniform(-0.3, 0.3))}


ORDERS = Claim(
    id="self_stabilization/predicted_orders",
    tier="default",
    statement="up to eps x steps = 2 in a curved valley the predicted dynamics err by O(eps delta) in the weights, "
    "O(eps^2) in the sharpness, O(eps delta^2) in the loss L + grad L.v + v'Hv/2; the form L + x^2/eta has that order "
    "only while v has no part in a direction of curvature across u, else O(delta^2)",
    source=DAMIAN + ", theorem on the predicted dynamics",
    comparison=order(
        0.1, "eps from 0.02 to 0.0025: the next order, with constants of order ten, bends a slope by 0.05"
    ),
    draw=_start,
    predicted=_exponents,
    errors=partial(predicted_errors, quantities=QUANTITIES),
)


VARIANCE = Claim(
    id="self_stabilization/predicted_variance",
    tier="default",
    statement="the mean square of x that holds the sharpness is 2 alpha/beta up to O(eps^2) while the weights drift "
    "along the edge by O(eps^2) a step, but differs from it at leading order when they drift by O(eps): then the "
    "curvature of the constraint set contributes as much as alpha",
    source=DAMIAN + ", delta = sqrt(2 alpha/beta); the exception is our own",
    comparison=order(0.1, "eps from 0.02 to 0.0025: the next order bends the slope by about eps"),
    draw=_start,
    predicted=lambda sample: {"calm": np.array([2.0]), "turning": np.array([0.0])},
    errors=variance_errors,
    finding="delta^2 = 2 alpha/beta needs |eta grad L_perp|^2 << eta alpha: with a drift of O(sqrt alpha) along a "
    "curved edge the balance is set by the multiplier of the projection, not by alpha = -grad L.grad S at the point",
)


# ---------------------------------------------------------------------------------------------------------------
# Where the models are exact, and the averaged equations


def _cubic(random: np.random.Generator, tier: str) -> dict[str, np.ndarray]:
    count = {"quick": 4, "default": 16, "long": 256}[tier]
    return {
        "eta": 10 ** random.uniform(-1, 0, count),
        "alpha": 10 ** random.uniform(-4, -2, count),
        "beta": 10 ** random.uniform(-1, 1, count),
        "x": random.uniform(0.5, 1.5, count) * random.choice([-1, 1], count),
        "y": random.uniform(-0.3, 0.3, count),
    }


def _modelled(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    def one(member: dict[str, Array]) -> Array:
        problem = normal_form(member)
        kernel = predicted_dynamics(problem, member["eta"])
        path = rollout(kernel, kernel.init(problem.params, jnp.zeros(2)), 300)[1].params
        return path / jnp.max(jnp.abs(path), axis=0, keepdims=True)

    return {"x, s": np.asarray(jax.jit(jax.vmap(one))(sample))}


EXACT_CUBIC = Claim(
    id="self_stabilization/predicted_exact_on_cubic",
    tier="quick",
    statement="on the pure cubic normal form the predicted dynamics are gradient descent itself",
    source=DAMIAN + ", the cubic expansion",
    comparison=equality(
        1e-11,
        "coordinates in units of their largest value; the edge of the model is a line, which one Newton step meets: "
        "only the rounding of 300 steps is left, 1e-13",
        scale=1.0,
    ),
    draw=_cubic,
    predicted=_modelled,
    measure=scaled_path,
)


AVERAGED = Claim(
    id="self_stabilization/predicted_by_averaging",
    tier="quick",
    statement="over one orbit gradient descent follows the averaged equations with an error of relative order eps",
    source=DAMIAN + "; Berthier 2026 (multiple scales)",
    comparison=order(0.1, "eps from 0.02 to 0.0025: the next order bends a slope by some eps"),
    draw=lambda random, tier: {"x": float(random.uniform(0.3, 0.7)), "y": float(random.uniform(-0.3, 0.3))},
    predicted=lambda sample: 1.0,
    errors=averaging_errors,
)


CLAIMS = [ORDERS, VARIANCE, EXACT_CUBIC, AVERAGED]
