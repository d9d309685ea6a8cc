"""Experiments on networks with one unstable eigenvalue: the predicted dynamics beside gradient descent."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature import dense_hessian
from toylab.experiments.averaged_gradients import network
from toylab.models import Validity, constrained_trajectory, discrete_steps, predicted_dynamics, rollout
from toylab.models.gradient_flow import gradient_flow_steps
from toylab.optimizers import NAMED
from toylab.problems import Problem

RATE = 0.35
"""Learning rate of gradient descent on the Chebyshev network: it crosses 2/eta within some 250 steps."""

SEARCH = 500
LARGE = 1e-2
"""Size of an oscillation along the top eigenvector that has grown by itself to where it will soon act on S."""


class Start(NamedTuple):
    """Flat weights near the constraint set (members, p), the first iterates (members, p), grad L at the weights
    (members, p) and eps = eta sqrt(alpha) there (members,).
    """

    centre: Array
    first: Array
    gradient: Array
    eps: Array


def _flat(params: Any) -> Array:
    return ravel_pytree(params)[0]


def on_flat_weights(gradient: Array | None = None, share: Array | float = 1.0) -> Problem:
    """The network on flat weights, with all but the `share` of the slope `gradient` taken off its loss: that scales
    alpha by the share and leaves every derivative from the Hessian on as it is.
    """
    problem = network()
    unravel = ravel_pytree(problem.params)[1]
    slope = jnp.zeros_like(_flat(problem.params)) if gradient is None else (1 - share) * gradient
    return Problem(lambda w: problem.value(unravel(w)) - slope @ w, _flat(problem.params))


def _top(problem: Problem, weights: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(dense_hessian(problem, weights))
    return values[-1], vectors[:, -1]


@jax.jit
def crossing_starts(keys: Array, kicks: Array) -> dict[str, tuple[Start, Array]]:
    """From each run: at its first crossing, on the constraint set, with an oscillation of `kick` delta put in; and as
    it is when its own oscillation has grown to `LARGE`. Each with the `Validity` of the projection.
    """

    def one(key: Array, kick: Array) -> dict[str, tuple[Start, Array]]:
        problem = on_flat_weights()
        kernel = discrete_steps(problem, NAMED["gd"](RATE))
        path = rollout(kernel, kernel.init(_flat(network(key).params)), SEARCH)[1].params
        middle = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
        sharpness, tops = lax.map(lambda w: _top(problem, w), middle)
        above = RATE * sharpness > 2
        crossing = jnp.argmax(above[1:] & ~above[:-1]) + 1
        swing = jnp.abs(jnp.sum(tops * (path[1:-1] - middle), axis=1))
        grown = jnp.argmax((jnp.arange(SEARCH - 2) > crossing) & (swing > LARGE))
        project = constrained_trajectory(problem, RATE, 2 / RATE).init

        def start(near: Array, first: Array | None) -> tuple[Start, Array]:
            held = project(near)
            across = held.here.across()
            alpha = jnp.maximum(-held.here.gradient @ held.here.sharpness_gradient, 0)
            swung = kick * jnp.sqrt(2 * alpha / (across @ across)) * held.here.vectors[0]
            iterate = held.params + swung if first is None else first
            return Start(held.params, iterate, held.here.gradient, RATE * jnp.sqrt(alpha)), held.status

        return {"put in": start(middle[crossing], None), "grown": start(middle[grown], path[grown + 1])}

    return jax.vmap(one)(keys, kicks)


SHARES = 0.25 ** np.arange(1, 5)
"""Of the slope that is left: eps = eta sqrt(alpha) halves from each to the next."""

SPAN, LONGEST = 1.0, 500
"""Compared up to eps x steps = SPAN, which LONGEST steps suffice for. In a longer time the slope of a network relaxes
along its stiff directions, so that the orbit's shape depends on eps, and errors along directions of negative curvature
-n grow by exp(eta n steps)."""


@jax.jit
def _compared(start: Start, share: Array) -> dict[str, Array]:
    """Largest errors of the predicted dynamics, each (members,)."""

    def one(of: Start) -> dict[str, Array]:
        problem = on_flat_weights(of.gradient, share)
        top = _top(problem, of.centre)[1]
        first = of.centre + jnp.sqrt(share) * (of.first - of.centre)
        predicted, descent = predicted_dynamics(problem, RATE), discrete_steps(problem, NAMED["gd"](RATE))
        predictions = rollout(predicted, predicted.init(first, of.centre), LONGEST)[1]
        path = rollout(descent, descent.init(first), LONGEST)[1]
        errors = {
            "along u": (predictions.params - path.params) @ top,
            "sharpness": predictions.sharpness - lax.map(lambda w: _top(problem, w)[0], path.params),
        }
        during = jnp.arange(LONGEST) * jnp.sqrt(share) * of.eps <= SPAN
        return {name: jnp.max(jnp.where(during, jnp.abs(error), 0)) for name, error in errors.items()}

    return jax.vmap(one)(start)


def errors_by_share(starts: dict[str, Start]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The square roots of `SHARES`, and the errors at each (members, shares), by quantity."""
    errors = [_compared(starts["put in"], jnp.asarray(share)) for share in SHARES]
    return {q: (np.sqrt(SHARES), np.stack([np.asarray(one[q]) for one in errors], axis=-1)) for q in errors[0]}


STEPS = {"put in": 120, "grown": 40}
QUANTITIES = ("weights", "sharpness", "loss")


def _distances(start: Start, steps: int) -> dict[str, Array]:
    """Root mean square over the steps of each model's errors, (members, quantities), relative for sharpness and loss;
    and the number of steps for which there was one unstable eigenvalue, (members,).
    """

    def one(of: Start) -> dict[str, Array]:
        problem = on_flat_weights()
        descent, predicted = discrete_steps(problem, NAMED["gd"](RATE)), predicted_dynamics(problem, RATE)
        flow = gradient_flow_steps(problem, RATE, fraction=0.5)
        path = rollout(descent, descent.init(of.first), steps)[1]
        sharpness = lax.map(lambda w: _top(problem, w)[0], path.params)

        def step(state: Any, _: None) -> tuple[Any, Any]:
            after, prediction = predicted.step(state)
            return after, (prediction, state.centre.status == Validity.ok)

        predictions, valid = lax.scan(step, predicted.init(of.first, of.centre), length=steps)[1]
        flowed = rollout(flow, flow.init(of.centre), steps)[1]
        models = {
            "predicted": (predictions.params, predictions.sharpness, predictions.loss),
            "constrained": (predictions.centre.params, predictions.centre.sharpness, predictions.centre.loss),
            "flow": (flowed.params, flowed.sharpness, flowed.loss),
        }

        def mean(error: Array) -> Array:
            return jnp.sqrt(jnp.sum(jnp.where(valid, error**2, 0)) / jnp.sum(valid))

        return {"steps": jnp.sum(valid)} | {
            name: jnp.stack(
                [mean(jnp.linalg.norm(w - path.params, axis=1)), mean(s / sharpness - 1), mean(loss / path.loss - 1)]
            )
            for name, (w, s, loss) in models.items()
        }

    return jax.vmap(one)(start)


_distance = jax.jit(_distances, static_argnums=1)
BESIDE = {"flow": ("weights", "sharpness", "loss"), "constrained": ("weights", "loss")}
"""The sharpness of the constrained trajectory is 2/eta, as good as any where the orbit happens to be small."""


def log_error_ratios(starts: dict[str, Start]) -> dict[str, np.ndarray]:
    """log10 of the predicted dynamics' error over another model's, (members,)."""
    distances = {name: np.asarray(v) for name, v in _distance(starts["put in"], STEPS["put in"]).items()}
    ratios = {other: np.log10(distances["predicted"] / distances[other]) for other in BESIDE}
    return {f"{q}, {other}": ratios[other][:, QUANTITIES.index(q)] for other, qs in BESIDE.items() for q in qs}


def errors_when_grown(starts: dict[str, Start]) -> dict[str, np.ndarray]:
    """Errors of every model from where the oscillation has grown by itself, as `_distances` gives them."""
    return {name: np.asarray(v) for name, v in _distance(starts["grown"], STEPS["grown"]).items()}
