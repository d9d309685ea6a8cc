"""The optimizer beside itself: runs that start next to its own, to see for how long it can be predicted at all."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.models.kernel import Kernel
from toylab.problems.problem import Problem

PyTree = Any

NUDGE = 1e-6
"""Distance of the starts over the norm of the weights: far above rounding, in single precision too, and far below the
error of any model."""


class Twin(NamedTuple):
    """The last iterate, the iterate and the optimizer's state of each of N runs, stacked."""

    before: PyTree
    params: PyTree
    state: PyTree


class TwinSeen(NamedTuple):
    """Of each of N runs at t = 1, 2, ...: `midpoint` (N, p) = (w_{t-1} + 2 w_t + w_{t+1})/4, and at w_t the `loss` (N,)
    and `square` (N,) = |grad L|^2."""

    midpoint: Array
    loss: Array
    square: Array


def twin_steps(problem: Problem, transform: optax.GradientTransformation, number: int) -> Kernel:
    """Kernel of `number` runs of the optimizer whose starts differ from the given one by 1e-6 of its norm, in fixed
    random directions (by 1e-6 where the weights are zero).  What they are apart later says for how long it can be
    predicted.

    `init(params, state=None)`; the first `step` is t = 1.  Runs one after the other (`lax.map`): convolutions are slow
    over several sets of weights at once.
    """

    def stepped(params: PyTree, state: PyTree) -> tuple[PyTree, PyTree, Array, Array]:
        loss, grads = problem.value_and_gradient(params)
        updates, after = transform.update(grads, state, params)
        flat = ravel_pytree(grads)[0]
        return optax.apply_updates(params, updates), after, loss, flat @ flat

    def init(params: PyTree, state: PyTree = None) -> Twin:
        begun = transform.init(params) if state is None else state
        weights, tree = ravel_pytree(params)
        ways = jax.random.normal(jax.random.key(0), (number, weights.size), weights.dtype)
        size = jnp.linalg.norm(weights)
        nudge = NUDGE * jnp.where(size > 0, size, 1)
        ways = ways / jnp.linalg.norm(ways, axis=1, keepdims=True)

        def moved(way: Array) -> Twin:
            near = tree(weights + nudge * way)
            following, after, _, _ = stepped(near, begun)
            return Twin(near, following, after)

        return jax.lax.map(moved, ways)

    def step(now: Twin) -> tuple[Twin, TwinSeen]:
        def one(twin: Twin) -> tuple[Twin, TwinSeen]:
            following, after, loss, square = stepped(twin.params, twin.state)
            last, w, ahead = (ravel_pytree(part)[0] for part in (twin.before, twin.params, following))
            return Twin(twin.params, following, after), TwinSeen((last + 2 * w + ahead) / 4, loss, square)

        return jax.lax.map(one, now)

    return Kernel(init, step)
