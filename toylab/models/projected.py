"""The optimizer's own oscillation, seen along the axes that a model gives for it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.models.kernel import Kernel
from toylab.problems.problem import Problem

PyTree = Any


class Projected(NamedTuple):
    """The last iterate, the iterate, the optimizer's state, how many steps were looked at, and the axes (N, K, p)."""

    before: PyTree
    params: PyTree
    state: PyTree
    number: Array
    axes: Array


def projected_steps(problem: Problem, transform: optax.GradientTransformation, every: int) -> Kernel:
    """Kernel of the optimizer; a step t = 1, 2, ... says (t, squares (K,)): how far the iterate w_t is off the midpoint
    of its neighbours, o = (w_{t-1} - 2 w_t + w_{t+1})/4, along each of K axes, squared.

    `init(params, state, axes)`: `axes` (N, K, p) as in `Predictions`, those at t = 1, 1 + every, ...; the nearest are
    used.  Cost: one gradient a step.
    """

    def init(params: PyTree, state: PyTree, axes: Array) -> Projected:
        updates, after = transform.update(problem.gradient(params), state, params)
        return Projected(params, optax.apply_updates(params, updates), after, jnp.zeros((), jnp.int32), axes)

    def step(now: Projected) -> tuple[Projected, tuple[Array, Array]]:
        updates, after = transform.update(problem.gradient(now.params), now.state, now.params)
        following = optax.apply_updates(now.params, updates)
        last, w, ahead = (ravel_pytree(part)[0] for part in (now.before, now.params, following))
        nearest = jnp.minimum((now.number + every // 2) // every, len(now.axes) - 1)
        oscillation = (last - 2 * w + ahead) / 4
        # only this product in full precision: the optimizer's own run is left as it is
        squares = jnp.matmul(now.axes[nearest], oscillation, precision="highest") ** 2
        number = now.number + 1
        return Projected(now.params, following, after, number, now.axes), (number, squares)

    return Kernel(init, step)
