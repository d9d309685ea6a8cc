"""Experiments on models of self-stabilization: gradient descent on valleys beside predicted, averaged and constrained
dynamics.

The models run in `toylab.models`; nothing here knows an order or a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab import problems
from toylab.curvature import dense_hessian, dense_sharpness
from toylab.models import rollout
from toylab.models.amplitude import amplitude_dynamics
from toylab.models.constrained import constrained_trajectory
from toylab.models.optimizer import discrete_steps
from toylab.models.predicted import Predicted, predicted_dynamics
from toylab.optimizers import NAMED
from toylab.problems.problem import Problem

ETA = 0.3
"""The learning rate of Berthier's toys, whose edge is 6.67."""


def visited(problem: Problem, learning_rate: float | Array, steps: int) -> Array:
    """Iterates (steps, p) of gradient descent from the problem's start."""
    kernel = discrete_steps(problem, NAMED["gd"](learning_rate))
    return rollout(kernel, kernel.init(problem.params), steps)[1].params


def sharpness_along(problem: Problem, path: Array) -> Array:
    """The largest eigenvalue of the dense Hessian along a path (steps, p)."""
    return jax.vmap(lambda w: dense_sharpness(problem, w))(path)


# ---------------------------------------------------------------------------------------------------------------
# Predicted against real dynamics, as eps = eta sqrt(alpha) -> 0 at eta = 1

EPS = np.array([0.02, 0.01, 0.005, 0.0025])
"""eps = eta sqrt(alpha), the small parameter."""

SPAN = 2.0
"""eps x steps of the runs; a small orbit takes 2 pi/sqrt 2."""

QUANTITIES = ("weights", "sharpness", "loss", "loss_along")


# Exponents of the coefficients in eps.  "turning": the top eigenvector turns by O(1).  "steep": delta = sqrt(2 alpha/
# beta) is O(eps^1.5), which tells eps delta from eps^2.  "lively": a direction of curvature 1/2 changes the sharpness
# and starts displaced by 2 delta.  "calm": as "turning", but drifting by O(eps^2) a step.
VALLEYS: dict[str, dict[str, float]] = {
    "turning": {"drift": 1.0, "beta": 0.0, "coupled": 0.0},
    "steep": {"drift": 2.0, "beta": -1.0, "coupled": 0.0},
    "lively": {"drift": 1.0, "beta": 0.0, "coupled": 1.0},
    "calm": {"drift": 2.0, "beta": 0.0, "coupled": 0.0},
}


def valley(eps: Array, kind: dict[str, Any]) -> Problem:
    """The curved valley at ``eps`` with the exponents ``kind``, at learning rate 1."""
    beta, coupled = eps ** kind["beta"], kind["coupled"]
    return problems.curved_valley(
        2.0,
        sharpening_rate=eps**2,
        grad_sharpness_sq=beta,
        drift=eps ** kind["drift"],
        third=jnp.sqrt(beta),
        transverse_curvature=0.5 * coupled,
        coupling=0.5 * coupled,
    )


def _compared(eps: Array, kind: dict[str, Array], x: Array, y: Array) -> dict[str, Array]:
    """Largest errors up to eps x steps = SPAN of a run started at (x delta, y sqrt(alpha))."""
    steps = round(SPAN / EPS.min())
    problem = valley(eps, kind)
    kernel = predicted_dynamics(problem, 1.0)
    centre = kernel.init(problem.params).centre
    scale = jnp.sqrt(2 / eps ** kind["beta"]) * eps
    off = jnp.stack([0 * eps, y * scale, 0 * eps, 2 * kind["coupled"] * scale])
    first = centre.params + x * scale * centre.here.vectors[0] + off
    path = visited(problem.with_params(first), 1.0, steps)
    prediction = rollout(kernel, Predicted(centre, first - centre.params), steps)[1]
    loss, held = jax.vmap(problem.value)(path), prediction.centre
    errors = {
        "weights": jnp.linalg.norm(prediction.params - path, axis=1),
        "sharpness": prediction.sharpness - sharpness_along(problem, path),
        "loss": prediction.loss - loss,
        "loss_along": prediction.loss_along - loss,
        "variance": held.variance * held.grad_sharpness_sq / (2 * held.sharpening_rate) - 1,
    }
    during = jnp.arange(steps) * eps <= SPAN
    return {name: jnp.max(jnp.where(during, jnp.abs(error), 0)) for name, error in errors.items()}


_compare = jax.jit(jax.vmap(jax.vmap(_compared, (0, None, None, None)), (None, 0, None, None)))


def predicted_errors(sample: dict[str, float], quantities: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """eps and the errors of these quantities, by valley."""
    kinds = {name: np.array([kind[name] for kind in VALLEYS.values()]) for name in ("drift", "beta", "coupled")}
    errors = _compare(jnp.asarray(EPS), kinds, sample["x"], sample["y"])
    return {v: (EPS, np.stack([np.asarray(errors[name][i]) for name in quantities])) for i, v in enumerate(VALLEYS)}


def variance_errors(sample: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """eps and the relative error of 2 alpha/beta, in the two valleys that drift at different speeds."""
    return {v: c for v, c in predicted_errors(sample, ("variance",)).items() if v in ("calm", "turning")}


def normal_form(member: dict[str, Array]) -> Problem:
    """The cubic normal form started in units of delta and of sqrt(alpha)."""
    alpha, beta = member["alpha"], member["beta"]
    scale = jnp.sqrt(alpha / beta)
    start = jnp.stack([jnp.sqrt(2.0) * scale * member["x"], scale * member["y"]])
    return problems.cubic_normal_form(2 / member["eta"], alpha, beta, start=start)


def scaled_path(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Coordinates of 300 steps of gradient descent, each in units of its largest value."""

    def one(member: dict[str, Array]) -> Array:
        problem = normal_form(member)
        path = visited(problem, member["eta"], 300)
        return path / jnp.max(jnp.abs(path), axis=0, keepdims=True)

    return {"x, s": np.asarray(jax.jit(jax.vmap(one))(sample))}


def averaging_errors(sample: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Errors of the averaged equations over one orbit; eta = 1."""
    steps = round(2 * np.pi / np.sqrt(2) / EPS.min())

    def one(eps: Array) -> dict[str, Array]:
        start = {"x": sample["x"], "y": sample["y"]}
        member = {name: jnp.asarray(value) for name, value in start.items()}
        problem = normal_form(member | {"eta": jnp.ones(()), "alpha": eps**2, "beta": jnp.ones(())})
        path = visited(problem, 1.0, steps)
        kernel = amplitude_dynamics(1.0, eps**2)
        orbit = rollout(kernel, kernel.init(problem.params[0], problem.params[1]), steps)[1]
        during = jnp.arange(steps) * eps <= 2 * np.pi / np.sqrt(2)
        errors = {
            "log amplitude": jnp.log(orbit.amplitude / jnp.abs(path[:, 0])),
            "excess of the sharpness in units of eps": (orbit.excess - path[:, 1]) / eps,
        }
        return {name: jnp.max(jnp.where(during, jnp.abs(error), 0)) for name, error in errors.items()}

    errors = jax.jit(jax.vmap(one))(jnp.asarray(EPS))
    return {name: (EPS, np.asarray(error)) for name, error in errors.items()}


# ---------------------------------------------------------------------------------------------------------------
# The constrained trajectory


def held_problems() -> dict[str, tuple[Problem, float]]:
    """Problem and learning rate of each constrained trajectory."""
    return {
        "curved valley": (valley(jnp.asarray(0.01), VALLEYS["lively"]), 1.0),
        "codimension one": (problems.berthier_codimension_one(0.01, start=(0.0, 2.2, 2.94)), 0.3),
    }


@lru_cache(maxsize=1)
def _held(steps: int = 400) -> dict[str, tuple[Array, Array]]:
    """Sharpness, and grad L . u in units of |grad L| along the constrained trajectory, found by dense algebra."""
    out = {}
    for name, (problem, eta) in held_problems().items():

        @jax.jit
        def run(problem: Problem = problem, eta: float = eta) -> tuple[Array, Array]:
            kernel = constrained_trajectory(problem, eta, 2 / eta)
            path = rollout(kernel, kernel.init(problem.params), steps)[1].params

            def look(w: Array) -> tuple[Array, Array]:
                values, vectors = jnp.linalg.eigh(dense_hessian(problem, w))
                gradient = problem.gradient(w)
                slope = jnp.abs(gradient @ vectors[:, -1]) / jnp.linalg.norm(gradient)
                return eta * values[-1] / 2, slope

            return jax.vmap(look)(path)

        out[name] = run()
    return out


def sharpness_held(sample: Any) -> dict[str, np.ndarray]:
    """eta S/2 along the constrained trajectory."""
    del sample
    return {name: np.asarray(held[0]) for name, held in _held().items()}


def slope_held(sample: Any) -> dict[str, np.ndarray]:
    """|grad L . u|/|grad L| along the constrained trajectory."""
    del sample
    return {name: np.asarray(held[1]) for name, held in _held().items()}


def _descent(eps: Array) -> Array:
    """Largest relative difference of the loss's decrease a step from eta (|grad L|^2 - alpha^2/beta)."""
    kernel = constrained_trajectory(problems.berthier_codimension_one(eps, start=(0.0, 2.2, 2.94)), ETA, 2 / ETA)
    held = rollout(kernel, kernel.init(jnp.array([0.0, 2.2, 2.94])), 400)[1]
    problem = problems.berthier_codimension_one(eps)
    square = jax.vmap(lambda w: jnp.sum(problem.gradient(w) ** 2))(held.params)
    rate = ETA * (square - held.sharpening_rate**2 / held.grad_sharpness_sq)
    during = jnp.arange(399) * eps <= 400 * EPS.min()
    return jnp.max(jnp.where(during, jnp.abs(-jnp.diff(held.loss) / rate[:-1] - 1), 0))


def descent_errors(sample: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """eps and the error of the decrease."""
    del sample
    return {"decrease of the loss": (EPS, np.asarray(jax.jit(jax.vmap(_descent))(jnp.asarray(EPS))))}
