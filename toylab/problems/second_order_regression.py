"""The second-order regression model in two dimensions: a model that is quadratic in its parameters."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def second_order_model(
    epsilon: ArrayLike = 0.01, target: ArrayLike = 0.2, start: ArrayLike | Sequence[float] = (1.0, 1.0)
) -> Problem:
    """L(t1, t2) = f^2/2 with f = (t1^2 - epsilon t2^2)/2 - target (Agarwala et al., 2210.04860, section 3).

    One example and a model whose second derivative has the eigenvalues 1 and -epsilon.  Minima: f = 0, where the
    Hessian has the eigenvalues 0 and t1^2 + epsilon^2 t2^2, the neural tangent kernel.  Toy of progressive sharpening
    followed by settling slightly below 2/eta.
    `epsilon` > 0 and `target`: numbers, may be traced; `start`: two numbers.  Data: (epsilon (1,), target (1,)).
    Raises ValueError for a start that is not two numbers.
    """
    weights = jnp.asarray(start, dtype=float)
    if weights.shape != (2,):
        raise ValueError(f"second_order_model: got a start of shape {weights.shape}, needs two numbers: [1.0, 1.0]")
    data = tuple(jnp.reshape(jnp.asarray(value, dtype=float), (1,)) for value in (epsilon, target))
    return Problem(_half_squared_model, weights, data, name="second_order_model")


def tangent_kernel(params: Array, epsilon: ArrayLike) -> Array:
    """t1^2 + epsilon^2 t2^2 = |grad f|^2: the neural tangent kernel, the sharpness where f = 0."""
    return params[0] ** 2 + jnp.asarray(epsilon) ** 2 * params[1] ** 2


def _half_squared_model(params: Array, data: tuple[Array, Array]) -> Array:
    epsilon, target = data
    model = 0.5 * (params[0] ** 2 - epsilon * params[1] ** 2) - target
    return 0.5 * jnp.mean(model**2)


PROBLEMS = {"second_order_model": second_order_model}
