"""Experiments with central models, and gradient descent beside them, on exact toys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from toylab import problems
from toylab.models.named import models
from toylab.numerics.period_two import midpoint
from toylab.problems.problem import Problem
from toylab.rules.edge import edge_data

ETA = 0.3
RESTING = ("central_map", "central_flow")
REST = 400
"""Steps after which they are at rest to rounding: they relax by a half or more in each, both ways."""


class Toys(NamedTuple):
    """Members (n,): the push and the cubic coefficient."""

    eps: np.ndarray
    zeta: np.ndarray


def by_quantity(model: str, x: np.ndarray, y: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    """The three quantities under their names, with the model's."""
    return {f"{model}, mean x": x, f"{model}, mean y": y, f"{model}, variance": variance}


def resting_points(sample: Toys) -> dict[str, np.ndarray]:
    """Where central map and central flow come to rest."""

    def problem(eps: Array, zeta: Array) -> Problem:
        return problems.berthier_one_eigenvalue(eps, zeta, start=(0.0, 2 / ETA))

    rest = {}
    for model in RESTING:
        path = _modelled(model, problem, tuple(sample), REST, 1)
        rest |= by_quantity(model, path.params[:, -1, 0], path.params[:, -1, 1], path.variances[:, -1, 0])
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


PUSHES = np.array([0.02, 0.01, 0.005, 0.0025])
DRIFTING = (*RESTING, "edge_flow")
DRIFTED = 60.0
"""eps x steps: the weights have gone along the circle to where the push points."""


def drift_errors(sample: tuple[float, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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


LONG_RUN, REST_OF_TWO = 60_000, 3_000
TWO = (0.0, 0.0, 2 / ETA - 0.05, 2 / ETA - 0.05, 0.0)


def by_push(pushes: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Values (pushes, 2, ...) of the larger and the smaller eigenvalue under their names."""
    return {
        f"eps = {eps:.4f}, {name}": value[k]
        for eps, value in zip(pushes, values, strict=True)
        for k, name in enumerate(("larger", "smaller"))
    }


def variances_of_the_map(pushes: np.ndarray) -> np.ndarray:
    """The two variances of the central map at rest, (pushes, 2)."""

    def problem(eps: Array) -> Problem:
        return problems.berthier_two_eigenvalues(eps, start=TWO)

    return _modelled("central_map", problem, (pushes,), REST_OF_TWO, 2).variances[:, -1]


def variances_of_descent(pushes: np.ndarray) -> dict[str, np.ndarray]:
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
    return by_push(pushes, np.linalg.eigvalsh(covariance)[:, ::-1])
