"""How the weights move: steps, oscillation along the top eigenvectors, and where they are."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.observing.observer import Moment, Observer, stateless

PyTree = Any


def _grad_norm(option: int) -> Observer:
    """Euclidean norm of the gradient on all examples."""
    del option
    return stateless(lambda moment: {"grad_norm": optax.tree.norm(moment.grads)})


def _step_size(option: int) -> Observer:
    """|w_{t+1} - w_t|, and over the norm of the gradient that the step uses."""
    del option

    def records(moment: Moment) -> dict[str, Array]:
        length = optax.tree.norm(optax.tree.sub(moment.following, moment.params))
        return {"step_norm": length, "effective_step": length / optax.tree.norm(moment.step_grads)}

    return stateless(records)


def _state(option: int) -> Observer:
    """Root mean square of each leaf of the optimizer's state that holds real numbers, (leaves,), in the order of
    `jax.tree.leaves`."""
    del option

    def records(moment: Moment) -> dict[str, Array]:
        leaves = [leaf for leaf in jax.tree.leaves(moment.state) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
        return {"state_rms": jnp.stack([jnp.sqrt(jnp.mean(leaf**2)) for leaf in leaves]) if leaves else jnp.zeros(0)}

    return stateless(records)


def _projections(count: int) -> Observer:
    """On the `count` top eigenvectors of H at w_t: the oscillation w_t - midpoint, and the gradient, each (count,).
    `oscillation` is the length of w_t - midpoint itself, which includes what these eigenvectors do not span.
    The sign of an eigenvector is kept from one observation to the next.
    """

    def records(moment: Moment) -> dict[str, Array]:
        assert moment.pairs is not None, "asked for below"
        vectors = jax.vmap(lambda vector: ravel_pytree(vector)[0])(moment.pairs.vector)[:count]
        deviation = ravel_pytree(optax.tree.sub(moment.params, moment.midpoint))[0]
        return {
            "projections": vectors @ deviation,
            "gradient_projections": vectors @ ravel_pytree(moment.grads)[0],
            "oscillation": jnp.linalg.norm(deviation),
            "projections_converged": moment.pairs.converged[:count],
        }

    return stateless(records, pairs=count)


def _position(size: int) -> Observer:
    """A sketch of the weights, (size,): see `sketch`."""
    return stateless(lambda moment: {"position": sketch(moment.params, size)})


def sketch(params: PyTree, size: int) -> Array:
    """`size` numbers whose differences tell the distance of two points: |sketch(a) - sketch(b)|^2 is |a - b|^2 in the
    mean over random sketches, with a relative standard deviation of at most sqrt(2/size).

    Each weight is added to one of `size` sums with a random sign; sums and signs are the same for all weights of one
    shape. Exact, the weights themselves, if there are at most `size`. A linear map, O(p).
    Source: Charikar, Chen & Farach-Colton 2002 (count sketch).
    """
    flat = ravel_pytree(params)[0]
    if flat.size <= size:
        return flat
    one, other = jax.random.split(jax.random.key(0))
    signs = jax.random.rademacher(one, flat.shape, dtype=flat.dtype)
    places = jax.random.randint(other, flat.shape, 0, size, dtype=jnp.int32)
    return jax.ops.segment_sum(signs * flat, places, num_segments=size)


OBSERVERS = {
    "grad_norm": _grad_norm,
    "step_size": _step_size,
    "state": _state,
    "projections": _projections,
    "position": _position,
}
