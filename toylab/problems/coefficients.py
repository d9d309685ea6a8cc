"""Coefficients of a closed-form loss as data, so that one compiled loss serves a whole family."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def example(number: ArrayLike) -> Array:
    """A coefficient as the data of one example, (1,); it may be traced."""
    return jnp.asarray(number, dtype=float)[None]


def start_of(start: ArrayLike | tuple[float, ...], dimension: int) -> Array:
    """The starting point as an array (dimension,).  Raises ValueError for another number of coordinates."""
    params = jnp.asarray(start, dtype=float)
    if params.shape != (dimension,):
        raise ValueError(f"got a start of shape {params.shape}, needs {dimension} numbers, one a coordinate")
    return params
