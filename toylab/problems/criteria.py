"""How far outputs are from targets."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def half_square(outputs: Array, targets: Array) -> Array:
    """The mean over examples of |output - target|^2 / 2, the squared norm summed over the last axis.

    `outputs`, `targets`: (n, outputs), or (n, positions, outputs) for sequences, whose positions are then averaged too.
    """
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1))


def softmax_cross_entropy(outputs: Array, targets: Array) -> Array:
    """The mean over examples of -sum_c target_c log softmax(output)_c, in nats; sequences as in `half_square`.

    `targets`: probabilities along the last axis, one-hot for classes.
    """
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1))


CRITERIA: dict[str, Callable[[Array, Array], Array]] = {"mse": half_square, "cross_entropy": softmax_cross_entropy}
"""The losses by the names that problems take."""
