"""Batch sharpness: the curvature of mini-batch losses along their own gradients."""

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from toylab.observing.observer import Moment, Observer, stateless

BATCHES = 16  # looked at in one observation


def drawn_batch(key: Array, examples: int, size: int) -> Array:
    """`size` different indices out of `examples`, (size,), each set equally likely."""
    return jax.random.permutation(key, examples)[:size]


def _batch_sharpness(size: int) -> Observer:
    """E_B[g_B^T H_B g_B/|g_B|^2] over random batches of `size` examples (all of them if there are no more), as the mean
    over 16, and its standard error."""

    def records(moment: Moment) -> dict[str, Array]:
        problem = moment.problem
        if problem.data is None:
            raise ValueError("batch_sharpness needs a problem with data to take batches of")
        size_ = min(size, problem.examples)

        def quotient(key: Array) -> Array:
            batch = problem.take(drawn_batch(key, problem.examples, size_))
            gradient, image = jax.jvp(batch.gradient, (moment.params,), (batch.gradient(moment.params),))
            return jnp.asarray(optax.tree.vdot(gradient, image) / optax.tree.vdot(gradient, gradient))

        quotients = lax.map(quotient, jax.random.split(moment.key, BATCHES))
        return {
            "batch_sharpness": jnp.mean(quotients),
            "batch_sharpness_error": jnp.std(quotients, ddof=1) / BATCHES**0.5,
        }

    return stateless(records)


OBSERVERS = {"batch_sharpness": _batch_sharpness}
