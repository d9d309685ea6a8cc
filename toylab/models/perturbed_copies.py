"""The optimizer beside itself: runs that start next to its own, to see for how long it can be predicted at all."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.models.kernel import Kernel
from toylab.models.optimizer import BetweenSteps, passages
from toylab.numerics.period_two import midpoint
from toylab.problems.problem import Problem

PyTree = Any

NUDGE = 1e-6
"""Distance of the starts over the norm of the weights: far above rounding, in single precision too, and far below the
error of any model."""


class CopiesRecord(NamedTuple):
    """N runs at t = 1, 2, ...: each one's `midpoint` (N, p) = (w_{t-1} + 2 w_t + w_{t+1})/4, and at w_t the `loss` (N,)
    and `square` (N,) = |grad L|^2."""

    midpoint: Array
    loss: Array
    square: Array


def perturbed_copies_steps(problem: Problem, transform: optax.GradientTransformation, number: int) -> Kernel:
    """Kernel of `number` runs of the optimizer whose starts differ from the given one by 1e-6 of its norm, in fixed
    random directions (by 1e-6 where the weights are zero).  How far they are apart later says for how long the
    optimizer can be predicted.

    `init(params, state=None)`; the first `step` is t = 1 and gives the `CopiesRecord`.  Runs one after the other
    (`lax.map`): convolutions are slow over several sets of weights at once.
    """
    optimizer = passages(problem, transform)

    def init(params: PyTree, state: PyTree = None) -> BetweenSteps:
        start = transform.init(params) if state is None else state
        weights, tree = ravel_pytree(params)
        ways = jax.random.normal(jax.random.key(0), (number, weights.size), weights.dtype)
        size = jnp.linalg.norm(weights)
        nudge = NUDGE * jnp.where(size > 0, size, 1)
        ways = ways / jnp.linalg.norm(ways, axis=1, keepdims=True)
        return jax.lax.map(lambda way: optimizer.init(tree(weights + nudge * way), start), ways)

    def step(copies: BetweenSteps) -> tuple[BetweenSteps, CopiesRecord]:
        def one(copy: BetweenSteps) -> tuple[BetweenSteps, CopiesRecord]:
            after, passed = optimizer.step(copy)
            three = (ravel_pytree(part)[0] for part in (passed.before, passed.params, passed.following))
            gradient = ravel_pytree(passed.grads)[0]
            return after, CopiesRecord(midpoint(*three), passed.loss, gradient @ gradient)

        return jax.lax.map(one, copies)

    return Kernel(init, step)
