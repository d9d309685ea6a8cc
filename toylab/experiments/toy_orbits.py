"""Experiments on the cubic normal form: the rule's own held step is run on it, and its orbits are measured.

Nothing here knows a filter, a frequency or a drift.  What the experiment may know is where to start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab.experiments import held_runs as lab
from toylab.problems import cubic_normal_form
from toylab.problems.problem import Problem

Model = Mapping[str, Any]
"""Coefficients of the problem, `cubic_normal_form` by default, each with a leading axis of members."""

Build = Callable[..., Problem]


def _map(rule: str, hyperparameters: Mapping[str, Any], problem: Problem) -> tuple[Any, int]:
    dimension = problem.params.size
    slow = [jnp.ones(shape) for shape in lab.slow_shapes(rule, dimension)]
    return lab.held_map(rule, hyperparameters, slow, problem.gradient, dimension)


# ----------------------------------------------------------------------------------------------------------------
# 2-cycles


class Cycle(NamedTuple):
    """2-cycles of members: `points` (members, 2, 2) as (step, (x, s)); `residual` of the last Newton step;
    `multipliers` (members, n) complex, of two steps.
    """

    points: np.ndarray
    residual: np.ndarray
    multipliers: np.ndarray


def two_cycles(
    rule: str,
    hyperparameters: Mapping[str, np.ndarray],
    model: Model,
    start: np.ndarray,
    build: Build = cubic_normal_form,
) -> Cycle:
    """Newton's search for a 2-cycle near ``start`` (members, weights); multipliers from the Jacobians of two steps."""
    step = _linearised_step(rule, hyperparameters, model, build)
    z = _oscillating_start(step, _at_rest(rule, start), start.shape[1])
    one = np.eye(z.shape[1])
    move = z
    for _ in range(12):
        middle, first = step(z)
        after, second = step(middle)
        # a structural mode that never moves makes the matrix singular: the pseudo-inverse leaves it alone
        inverse = np.linalg.pinv(second @ first - one, rcond=1e-13)
        move = (inverse @ (after - z)[..., None])[..., 0]
        z = z - move
    (middle, first), unit = step(z), np.abs(z).max(axis=1)
    _, second = step(middle)
    points = np.stack([z[:, :2], middle[:, :2]], axis=1)
    return Cycle(points, np.abs(move).max(axis=1) / unit, np.linalg.eigvals(second @ first))


Step = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _linearised_step(rule: str, hyperparameters: Mapping, model: Model, build: Build) -> Step:
    """z = (w, fast state) (members, n) -> one step of every member and its Jacobian."""
    lab.slow_shapes(rule, 2)  # roles are found by running the rule, which cannot be done inside the compiled program
    linearised, members = partial(_linearised, rule, build), (dict(hyperparameters), dict(model))
    return lambda z: lab.in_blocks(linearised, *members, z, block=16)


@partial(jax.jit, static_argnums=(0, 1))
def _linearised(rule: str, build: Build, hyperparameters: Mapping, model: Model, z: Array) -> tuple[Array, Array]:
    def one(hyperparameters: Mapping, model: Model, z: Array) -> tuple[Array, Array]:
        run, _ = _map(rule, hyperparameters, build(**model))
        return run(z), jax.jacfwd(run)(z)

    return jax.vmap(one)(hyperparameters, model, z)


def _at_rest(rule: str, weight: np.ndarray) -> np.ndarray:
    """(w, fast state) with zeros for the fast state."""
    return np.pad(weight, ((0, 0), (0, lab.fast_size(rule, weight.shape[1]))))


def _oscillating_start(step: Step, z: np.ndarray, weights: int) -> np.ndarray:
    """``z`` with the fast state that oscillates along with x -> -x: the held step is affine in it."""
    after, jacobian = step(z)
    fast = jacobian[:, weights:, weights:] + np.eye(z.shape[1] - weights)
    oscillating = -(np.linalg.pinv(fast) @ after[:, weights:, None])[..., 0]
    return np.concatenate([z[:, :weights], oscillating], axis=1)


def largest(multipliers: np.ndarray) -> np.ndarray:
    """(members, 2): growth per step and angle per step, 0 to pi/2, of the two-step multiplier of largest modulus."""
    best = np.argmax(np.abs(multipliers), axis=1)
    chosen = np.log(multipliers[np.arange(len(best)), best].astype(complex)) / 2
    return np.stack([chosen.real, np.abs(chosen.imag)], axis=1)


def slowest_oscillation(multipliers: np.ndarray) -> np.ndarray:
    """(members, 2): growth per step and angle per step of the slowest oscillating mode, the complex multiplier (of two
    steps) with the largest real part; nan where none is complex.
    """
    complex_ones = np.where(multipliers.imag > 1e-9, multipliers, np.nan)  # twice the rounding of a real double root
    with np.errstate(invalid="ignore"):
        best = np.nanargmax(np.where(np.isnan(complex_ones), -np.inf, complex_ones.real), axis=1)
    chosen = np.log(complex_ones[np.arange(len(best)), best]) / 2
    return np.stack([chosen.real, chosen.imag], axis=1)


# ----------------------------------------------------------------------------------------------------------------
# Orbits


class Orbit(NamedTuple):
    """Runs of members, (members, n): `amplitude` of the period-2 part of x, `level` of s without its period-2 part."""

    amplitude: np.ndarray
    level: np.ndarray


_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
"""Five-point mean: takes a period-2 part, also one that changes slowly, away to its fourth difference."""


def paths(
    rule: str, hyperparameters: Mapping[str, np.ndarray], model: Model, start: np.ndarray, steps: int
) -> np.ndarray:
    """(members, steps, 2): the held rule from ``start`` (members, 2), its fast state oscillating along with x."""
    step = _linearised_step(rule, hyperparameters, model, cubic_normal_form)
    z = _oscillating_start(step, _at_rest(rule, start), start.shape[1])
    named, model = jax.tree.map(jnp.asarray, (dict(hyperparameters), dict(model)))
    return np.asarray(_paths(rule, named, model, jnp.asarray(z), steps))


def orbits(rule: str, hyperparameters: Mapping[str, np.ndarray], model: Model, start: np.ndarray, steps: int) -> Orbit:
    """`paths`, split into their period-2 part and the rest."""
    windows = np.lib.stride_tricks.sliding_window_view(paths(rule, hyperparameters, model, start, steps), 5, axis=1)
    alternating = _BINOMIAL * np.array([1, -1, 1, -1, 1])
    return Orbit(np.abs(windows[:, :, 0] @ alternating), windows[:, :, 1] @ _BINOMIAL)


@partial(jax.jit, static_argnums=(0, 4))
def _paths(rule: str, hyperparameters: Mapping, model: Model, start: Array, steps: int) -> Array:
    def one(hyperparameters: Mapping, model: Model, start: Array) -> Array:
        run, _ = _map(rule, hyperparameters, cubic_normal_form(**model))
        return jax.lax.scan(lambda z, _: (run(z), z[:2]), start, length=steps)[1]

    return jax.vmap(one)(hyperparameters, model, start)


def peaks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and heights of the interior maxima of a smooth sequence, by the parabola through three points."""
    i = np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])) + 1
    left, middle, right = values[i - 1], values[i], values[i + 1]
    bend = left - 2 * middle + right
    shift = (left - right) / (2 * bend)
    return i + shift, middle - (left - right) ** 2 / (8 * bend)


class Turn(NamedTuple):
    """One revolution from a peak of the amplitude to the next, times in steps.

    `period`; `stages` (4,): progressive sharpening (lowest s to lowest amplitude), blow-up (to the highest s),
    self-stabilization (to the highest amplitude), return to stability (to the lowest s); `squares` (3,): amplitude^2 at
    the first peak, the trough and the second peak; `levels` (2,): lowest and highest s; `mean`, `variance` of s from
    one highest s to another, where the amplitude is the same though the orbit may have grown in between.
    """

    period: float
    stages: np.ndarray
    squares: np.ndarray
    levels: np.ndarray
    mean: float
    variance: float


def turn(amplitude: np.ndarray, level: np.ndarray, turns: int = 1) -> Turn:
    """Measure an orbit: times and extremes of its first revolution, means over its first ``turns``.

    Times are those of interpolated extremes; nothing is known of where the edge is.  Steps after the last finite one
    count as not made.  Raises ValueError where the run holds too few revolutions.
    """
    sound = np.isfinite(amplitude) & (amplitude > 0) & (amplitude < 1e100)
    end = len(sound) if sound.all() else int(np.argmin(sound))
    amplitude, level = amplitude[:end], level[:end]
    loud, height = peaks(np.log(amplitude))
    quiet, depth = peaks(-np.log(amplitude))
    high, top = peaks(level)
    if len(loud) < 2 or len(high) <= turns:
        raise ValueError(f"got a run of {len(loud)} peaks of the amplitude and {len(high)} of the sharpness: too short")
    low, bottom = peaks(-level)

    def after(times: np.ndarray, time: float) -> int:
        return int(np.searchsorted(times, time, side="right"))

    first, second = loud[0], loud[1]
    b, q, h = after(low, first), after(quiet, first), after(high, first)
    stages = np.array([quiet[q] - low[b], high[h] - quiet[q], second - high[h], low[b] - first])
    squares = np.exp(2 * np.array([height[0], -depth[q], height[1]]))
    inside = _between(level, high[0], high[turns])
    square = _between((level - inside) ** 2, high[0], high[turns])
    return Turn(second - first, stages, squares, np.array([-bottom[b], top[h]]), inside, square)


def _between(values: np.ndarray, start: float, end: float) -> float:
    """Mean of the piecewise linear function through ``values`` over [start, end]."""
    grid = np.concatenate([[start], np.arange(np.ceil(start), np.floor(end) + 1), [end]])
    return float(np.trapezoid(np.interp(grid, np.arange(len(values)), values), grid) / (end - start))


def extrapolated(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(..., 2): limit of ``values`` (..., n) as steps -> 0 by polynomials in the step through all and through all but
    the largest of them, as an interval (lo, hi).
    """
    through = [_at_zero(steps[k:], values[..., k:]) for k in (0, 1)]
    return np.stack([np.minimum(*through), np.maximum(*through)], axis=-1)


def _at_zero(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lagrange's polynomial at 0."""
    weights = [np.prod([-b / (a - b) for j, b in enumerate(steps) if j != i]) for i, a in enumerate(steps)]
    return values @ np.array(weights)
