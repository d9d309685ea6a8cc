"""How curvature turns along a direction: third derivatives contracted twice, and the gradient of the sharpness."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


def third_derivative(function: Callable[[PyTree], Array], params: PyTree, first: PyTree, second: PyTree) -> PyTree:
    """d^3 L[u, v], a pytree like `params`: entries sum_jk (d_i d_j d_k L) u_j v_k, without a factor 1/2.

    It is bilinear and symmetric in u = `first` and v = `second`, scales with their lengths, and is the derivative of
    H(w) v along u. Cost: about four gradients (the gradient, differentiated forwards twice).
    """
    gradient = jax.grad(function)

    def product(point: PyTree) -> PyTree:
        return jax.jvp(gradient, (point,), (second,))[1]

    return jax.jvp(product, (params,), (first,))[1]


def sharpness_gradient(function: Callable[[PyTree], Array], params: PyTree, vector: PyTree) -> PyTree:
    """grad S = d^3 L[u, u] = grad_w u^T H(w) u at fixed u: the gradient of the eigenvalue whose unit eigenvector is
    `vector`.

    Assumes that this eigenvalue is simple (Hellmann and Feynman); its error is of first order in the error of u,
    relative to the gap. u is normalised here, so its length does not matter.
    """
    length = sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(vector)) ** 0.5
    unit = jax.tree.map(lambda leaf: leaf / length, vector)
    return third_derivative(function, params, unit, unit)
