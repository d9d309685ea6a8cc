"""The optimizer's own oscillation, seen along the axes that a model gives for it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.models.kernel import Kernel
from toylab.models.optimizer import BetweenSteps, passages
from toylab.numerics.period_two import oscillation
from toylab.problems.problem import Problem

PyTree = Any


class Projected(NamedTuple):
    """The optimizer between two steps, how many steps were looked at, and the axes (N, K, p)."""

    optimizer: BetweenSteps
    number: Array
    axes: Array


def projected_steps(problem: Problem, transform: optax.GradientTransformation, every: int) -> Kernel:
    """Kernel of the optimizer; a step t = 1, 2, ... says (t, squares (K,)): how far the iterate w_t is off the midpoint
    of its neighbours, o = (w_{t-1} - 2 w_t + w_{t+1})/4, along each of K axes, squared.

    `init(params, state, axes)`: `axes` (N, K, p) as in `Predictions`, those at t = 1, 1 + every, ...; the nearest are
    used.  Cost: one gradient a step.
    """
    optimizer = passages(problem, transform)

    def init(params: PyTree, state: PyTree, axes: Array) -> Projected:
        return Projected(optimizer.init(params, state), jnp.zeros((), jnp.int32), axes)

    def step(state: Projected) -> tuple[Projected, tuple[Array, Array]]:
        after, passed = optimizer.step(state.optimizer)
        three = (ravel_pytree(part)[0] for part in (passed.before, passed.params, passed.following))
        nearest = jnp.minimum((state.number + every // 2) // every, len(state.axes) - 1)
        # only this product in full precision: the optimizer's own run is left as it is
        squares = jnp.matmul(state.axes[nearest], oscillation(*three), precision="highest") ** 2
        return Projected(after, state.number + 1, state.axes), (state.number + 1, squares)

    return Kernel(init, step)
