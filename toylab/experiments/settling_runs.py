"""Experiments on where rules settle on a curve of minima when nothing pushes.

Every run starts beside a minimum that is sharper than the edge by a chosen excess y_0 and goes on until it has come
to rest; measured is the sharpness of the minimum that it rests at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab import problems
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import Problem


@dataclass(frozen=True)
class Runs:
    """Runs of one rule on one loss: ``eta`` and ``edge`` (runs,), ``start`` (runs, 2), and how many steps they get.

    ``place`` (runs,): x^2 + y^2 at the minimum whose sharpness is ``edge`` = k*/eta; ``excess`` (runs,): y_0.
    ``law`` (runs,): the expected y_f, for claims about the *order* of the deviation from it, whose
    prediction is the exponent alone.
    """

    loss: str
    rule: str
    settings: dict[str, float]
    place: np.ndarray
    eta: np.ndarray
    edge: np.ndarray
    excess: np.ndarray
    start: np.ndarray
    law: np.ndarray
    steps: int


@partial(jax.jit, static_argnames=("rule", "settings"))
def _rest(problem: Problem, eta: Array, start: Array, steps: Array, rule: str, settings: tuple) -> Array:
    """Weights after ``steps`` steps of optax's own transform, from each start; all members at once."""

    def one(rate: Array, weights: Array) -> Array:
        kernel = discrete_steps(problem, NAMED[rule](learning_rate=rate, **dict(settings)))
        return lax.fori_loop(0, steps, lambda _, state: kernel.step(state)[0], kernel.init(weights)).params

    return jax.vmap(one)(eta, start)


@jax.jit
def _sharpness(problem: Problem, weights: Array) -> Array:
    """Top Hessian eigenvalue (runs,) by autodiff."""
    return jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(problem.value)(w))[-1])(weights)


def settled_excess(runs: Runs) -> np.ndarray:
    """Measured y_f (runs,): sharpness where each run rests, minus the edge."""
    problem = problems.NAMED[runs.loss]()
    settings = tuple(sorted(runs.settings.items()))
    weights = _rest(problem, jnp.asarray(runs.eta), jnp.asarray(runs.start), runs.steps, runs.rule, settings)
    return np.asarray(_sharpness(problem, weights)) - runs.edge


def deviations(sample: dict[str, Runs]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Half swing d = (y_0 - y_f)/2, and the deviation of y_0 + y_f from the law at equal d.

    At equal d instead of equal y_0 (to first order, a factor 1 + (y_0 + y_f)/d) every second power drops out.
    """
    out = {}
    for name, runs in sample.items():
        rest = settled_excess(runs)
        half = (runs.excess - rest) / 2
        out[name] = (half, np.abs(rest - runs.law) * (1 + (runs.excess + rest) / half))
    return out


def quadratic_coefficient(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """c in y_f = -y_0 + c y_0^2 + ...: with d = (y_0 - y_f)/2, (y_0 + y_f)/d^2 is even in d, since every orbit can be
    run backwards; its value at 0 by interpolation in d^2.
    """
    out = {}
    for name, runs in sample.items():
        rest = settled_excess(runs)
        half_sq = ((runs.excess - rest) / 2) ** 2
        powers = np.linalg.solve(np.vander(half_sq / half_sq.max(), increasing=True), (runs.excess + rest) / half_sq)
        out[name] = powers[0]
    return out


def relative_deviations(sample: dict[str, Runs]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """1/(x^2 + y^2), and the relative deviation from the law."""
    return {name: (1 / runs.place, np.abs(settled_excess(runs) / runs.law - 1)) for name, runs in sample.items()}


FAR = np.array([16.0, 19.0, 23.0, 28.0, 34.0])
"""x^2 + y^2 at the edges of far starts."""


def far_gaps(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """y_f (x^2 + y^2) in the limit of steep minima, by interpolation in 1/(x^2 + y^2)^2, for each starting excess."""
    out = {}
    for label, runs in sample.items():
        gaps = (settled_excess(runs) * runs.place).reshape(len(FAR), -1)
        inverse = (runs.place.reshape(gaps.shape)[:, 0] / runs.place.min()) ** -2
        out[label] = np.linalg.solve(np.vander(inverse, increasing=True), gaps)[0]
    return out


def spread_of_starts(sample: dict[str, Runs]) -> dict[str, np.ndarray]:
    """Largest difference of y_f between starts, relative to y_f, for each place; all places are one member."""
    out = {}
    for label, runs in sample.items():
        rest = settled_excess(runs).reshape(len(FAR), -1)
        out[label] = np.ptp(rest, axis=1) / np.abs(rest).min(axis=1)
    return out


# ---------------------------------------------------------------------------------------------------------------
# The second-order regression model


@dataclass(frozen=True)
class Regression:
    """``epsilon`` (values,), ``target`` (members,), ``start`` (members, values, 2), learning rate and steps."""

    epsilon: np.ndarray
    target: np.ndarray
    start: np.ndarray
    eta: float
    steps: int


@partial(jax.jit, static_argnames="eta")
def _regression_rest(epsilon: Array, target: Array, start: Array, steps: Array, eta: float) -> Array:
    """Top Hessian eigenvalue where each run (members, values) rests."""

    def one(curvature: Array, goal: Array, weights: Array) -> Array:
        problem = problems.second_order_model(curvature, goal, weights)
        kernel = discrete_steps(problem, NAMED["gd"](learning_rate=eta))
        last = lax.fori_loop(0, steps, lambda _, state: kernel.step(state)[0], kernel.init(weights)).params
        return jnp.linalg.eigvalsh(jax.hessian(problem.value)(last))[-1]

    return jax.vmap(lambda e, g, w: jax.vmap(one, (0, None, 0))(e, g, w), (None, 0, 0))(epsilon, target, start)


def below_edge(sample: Regression) -> np.ndarray:
    """Sharpness at rest minus 2/eta, (members, values)."""
    rest = _regression_rest(sample.epsilon, sample.target, sample.start, sample.steps, sample.eta)
    return np.asarray(rest) - 2 / sample.eta


def limit_of_gap(sample: Regression) -> np.ndarray:
    """(sharpness at rest - 2/eta)/epsilon for epsilon -> 0, by interpolation in epsilon."""
    scaled = below_edge(sample) / sample.epsilon
    powers = np.vander(sample.epsilon / sample.epsilon.max(), increasing=True)
    return np.linalg.solve(powers, scaled.T)[0]


def gap_errors(sample: Regression) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """epsilon, and the distance of the sharpness at rest from 2/eta."""
    return {"sharpness at rest": (sample.epsilon, np.abs(below_edge(sample)))}
