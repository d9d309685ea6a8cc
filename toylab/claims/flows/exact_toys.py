"""Central models and the rod flow on exact toys, where what they should say is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from scipy.optimize import newton

import theory
from toylab import problems
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order, window
from toylab.models.named import models
from toylab.numerics.period_two import midpoint
from toylab.problems.problem import Problem
from toylab.rules.edge import edge_data

SOURCE = "toys: Berthier 2026; the central map: here"
ETA = 0.3

# ----------------------------------------------------------------------------------------------------------------
# One eigenvalue: the mean of the 2-cycle

RESTING = ("central_map", "central_flow")
REST = 400
"""Steps after which they are at rest to rounding: they relax by a half or more in each, both ways."""


class Toys(NamedTuple):
    """Members (n,): the push and the cubic coefficient."""

    eps: np.ndarray
    zeta: np.ndarray


def _toys(random: np.random.Generator, tier: str) -> Toys:
    return Toys(random.uniform(0.002, 0.05, 6), random.uniform(-0.8, 0.8, 6))


def _labelled(model: str, x: np.ndarray, y: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{model}, mean x": x, f"{model}, mean y": y, f"{model}, variance": variance}


def _cycle(sample: Toys) -> dict[str, np.ndarray]:
    """The derived 2-cycle: a root of its cubic, and what follows from it."""
    law = theory.toy_centre()
    cubic, height, square, ripple, near = (
        law.numeric(name) for name in ("cubic", "cycle_y", "amplitude_sq", "ripple", "mean_x")
    )
    rows = []
    for eps, zeta in zip(*sample, strict=True):
        given = {"learning_rate": ETA, "zeta": float(zeta), "eps": float(eps)}

        def equation(x: float, given: Any = given) -> float:
            return float(cubic(x=x, **given))

        x = float(newton(equation, float(near(**given)), tol=1e-16))
        a2, per_a = float(square(x=x, **given)), float(ripple(x=x, **given))
        rows.append([x, float(height(x=x, **given)), a2 * (1 + per_a**2)])
    return {label: row for model in RESTING for label, row in _labelled(model, *np.array(rows).T).items()}


def _rest(sample: Toys) -> dict[str, np.ndarray]:
    """Where central map and central flow come to rest."""

    def problem(eps: Array, zeta: Array) -> Problem:
        return problems.berthier_one_eigenvalue(eps, zeta, start=(0.0, 2 / ETA))

    rest = {}
    for model in RESTING:
        path = _modelled(model, problem, tuple(sample), REST, 1)
        rest |= _labelled(model, path.params[:, -1, 0], path.params[:, -1, 1], path.variances[:, -1, 0])
    return rest


class Path(NamedTuple):
    """A model's mean weights (members, steps, n) and variances (members, steps, K)."""

    params: Any
    variances: Any


def _modelled(
    model: str, problem: Callable[..., Problem], members: tuple[np.ndarray, ...], steps: int, count: int
) -> Path:
    """A model of gradient descent on the problems of all members."""
    rule = optax.sgd(ETA)
    known = edge_data(rule, problem(*(jnp.asarray(values[0]) for values in members)).params)

    def one(*numbers: Array) -> Path:
        toy = problem(*numbers)
        kernel = models()[model].steps(toy, rule, known, count=count)

        def step(state: Any, _: None) -> tuple[Any, Path]:
            after, predictions = kernel.step(state)
            return after, Path(predictions.params, predictions.variances)

        return lax.scan(step, kernel.init(toy.params, rule.init(toy.params)), length=steps)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*(jnp.asarray(values) for values in members)))


CENTRE = Claim(
    id="flows/centre_of_the_cycle",
    tier="quick",
    statement="with one eigenvalue at the edge of a cubic loss central map and central flow rest exactly at the mean "
    "of gradient descent's 2-cycle, with the variance of that cycle, however strong the push",
    source=SOURCE + "; the exact equations of the cycle: theory.toy_centre",
    comparison=equality(1e-8, "solvers stop at 1e-13 of residuals that are proportional to eps, .002 at least"),
    draw=_toys,
    predicted=_cycle,
    measure=_rest,
)

# ----------------------------------------------------------------------------------------------------------------
# Codimension one: drift along the edge

PUSHES = np.array([0.02, 0.01, 0.005, 0.0025])
DRIFTING = (*RESTING, "edge_flow")
DRIFTED = 60.0
"""eps x steps: the weights have gone along the circle to where the push points."""


def _starts(random: np.random.Generator, tier: str) -> tuple[float, float]:
    angle = random.uniform(0.8, 1.1)
    return tuple(float(part) for part in (2 / ETA - 3) * np.array([np.cos(angle), np.sin(angle)]))  # ty: ignore


def _one(sample: Any) -> dict[str, float]:
    return dict.fromkeys(DRIFTING, 1.0)


def _drift_errors(sample: tuple[float, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Distances of each model from gradient descent's midpoint after the drift."""
    steps = int(DRIFTED / PUSHES[-1]) + 2

    def problem(eps: Array) -> Problem:
        return problems.berthier_codimension_one(eps, start=(0.0, *sample))

    @jax.jit
    @jax.vmap
    def descended(eps: Array) -> Array:
        toy = problem(eps)

        def step(w: Array, _: None) -> tuple[Array, Array]:
            return w - ETA * toy.gradient(w), w

        return lax.scan(step, toy.params, length=steps)[1]

    own, ends = np.asarray(descended(jnp.asarray(PUSHES))), (DRIFTED / PUSHES).astype(int)
    midpoints = [midpoint(*path[end - 1 : end + 2]) for path, end in zip(own, ends, strict=True)]
    errors = {}
    for model in DRIFTING:
        paths = _modelled(model, problem, (PUSHES,), steps, 1).params
        reached = np.array([path[end] for path, end in zip(paths, ends, strict=True)])
        errors[model] = (PUSHES, np.linalg.norm(reached - np.array(midpoints), axis=1))
    return errors


DRIFT = Claim(
    id="flows/drift_along_the_edge",
    tier="default",
    statement="while the weights drift along an edge of codimension one, central map, central flow and edge flow err "
    "by the first order in the push at eps x steps = 60",
    source=SOURCE + "; averaging is exact to first order over times 1/eps",
    comparison=order(0.1, "the next order, eps of .02 at most, changes a slope by a few hundredths"),
    draw=_starts,
    predicted=_one,
    errors=_drift_errors,
)

# ----------------------------------------------------------------------------------------------------------------
# Two eigenvalues: fluctuations that persist

PUSH, LONG_RUN, REST_OF_TWO = 0.01, 60_000, 3_000
TWO = (0.0, 0.0, 2 / ETA - 0.05, 2 / ETA - 0.05, 0.0)
FEW = Ceiling(0.03, "a time average of fluctuations that persist, over some hundreds of their periods")


def _pushes(random: np.random.Generator, tier: str) -> np.ndarray:
    return PUSH * random.uniform(0.8, 1.25, 2)


def _named(pushes: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"eps = {eps:.4f}, {name}": value[k]
        for eps, value in zip(pushes, values, strict=True)
        for k, name in enumerate(("larger", "smaller"))
    }


def _predicted_variances(pushes: np.ndarray) -> dict[str, np.ndarray]:
    def problem(eps: Array) -> Problem:
        return problems.berthier_two_eigenvalues(eps, start=TWO)

    values = _modelled("central_map", problem, (pushes,), REST_OF_TWO, 2).variances[:, -1]
    return _named(pushes, np.stack([values * (1 - WITHIN), values * (1 + WITHIN)], axis=-1))


WITHIN = 0.01


def _measured_variances(pushes: np.ndarray) -> dict[str, np.ndarray]:
    """Eigenvalues of the time average of o o^T, o = (w_{t-1} - 2 w_t + w_{t+1})/4."""

    @jax.jit
    @jax.vmap
    def swings(eps: Array) -> Array:
        toy = problems.berthier_two_eigenvalues(eps, start=TWO)

        def step(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            last, w = pair
            ahead = w - ETA * toy.gradient(w)
            return (w, ahead), (last - 2 * w + ahead)[:2] / 4

        first = toy.params - ETA * toy.gradient(toy.params)
        return lax.scan(step, (toy.params, first), length=LONG_RUN)[1]

    late = np.asarray(swings(jnp.asarray(pushes)))[:, LONG_RUN // 5 :]
    covariance = np.einsum("nta,ntb->nab", late, late) / late.shape[1]
    return _named(pushes, np.linalg.eigvalsh(covariance)[:, ::-1])


PERSISTING = Claim(
    id="flows/two_eigenvalues",
    tier="default",
    statement="with two eigenvalues at the edge, whose fluctuations never die out, both variances of gradient descent "
    "averaged over time are those of the central map at rest",
    source=SOURCE,
    comparison=window(
        0.0, "the window, one per cent to both sides, is the first order in the push of .01", ceiling=FEW
    ),
    draw=_pushes,
    predicted=_predicted_variances,
    measure=_measured_variances,
)

CLAIMS = [CENTRE, DRIFT, PERSISTING]
