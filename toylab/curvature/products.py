"""Products with the Hessian and with its Gauss-Newton part, and both as dense matrices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import NetworkLoss, Problem

PyTree = Any


def hvp(function: Callable[[PyTree], Array], params: PyTree, vector: PyTree) -> PyTree:
    """The Hessian of a scalar `function` at `params` times `vector` (a pytree like `params`), forward over
    reverse."""
    return jax.jvp(jax.grad(function), (params,), (vector,))[1]


def gauss_newton(problem: Problem, params: PyTree) -> Callable[[PyTree], PyTree]:
    """v -> J^T H_out J v at `params`, the Gauss-Newton part of the Hessian of a network's loss.

    J = d outputs / d params (all examples), H_out = the Hessian of the criterion in the outputs, so that the mean over
    the examples is in H_out. What is left of the Hessian, sum_i (d criterion / d output_i) grad^2 output_i, vanishes
    where the residuals do. Positive semidefinite if the criterion is convex. A product costs one forward and one
    backward pass through the linearised network: less than a Hessian product. All examples at once, whatever the
    problem's `chunk`: 12 GB for the 5,000 of `cifar10_cnn` in float64; `problem.take(jnp.arange(500))` has fewer.
    Source: Schraudolph, Neural Computation 14 (2002) 1723, section 3.

    Raises ValueError if the problem's loss is not a `NetworkLoss` (apply and criterion) on data.
    """
    if not isinstance(problem.loss, NetworkLoss) or problem.data is None:
        raise ValueError(
            f"gauss_newton: got the loss {getattr(problem.loss, '__name__', problem.loss)!r}, needs a network's: "
            "write Problem(NetworkLoss(apply, criterion), params, (inputs, targets))"
        )
    model, (inputs, targets) = problem.loss, problem.data
    outputs, forward = jax.linearize(lambda weights: model.apply(weights, inputs), params)
    backward = jax.linear_transpose(forward, params)
    _, outer = jax.linearize(jax.grad(lambda values: model.criterion(values, targets)), outputs)
    return lambda vector: backward(outer(forward(vector)))[0]


@fully_precise
def dense_hessian(problem: Problem, params: PyTree) -> Array:
    """The full Hessian (p, p) of the loss, rows and columns in the order of
    `jax.flatten_util.ravel_pytree(params)`.

    Costs p Hessian products and p^2 numbers: the oracle for small p.
    """
    flat, unravel = ravel_pytree(params)

    def flat_gradient(point: Array) -> Array:
        return ravel_pytree(problem.gradient(unravel(point)))[0]

    hessian = jax.jacfwd(flat_gradient)(flat)
    return 0.5 * (hessian + hessian.T)


def dense_sharpness(problem: Problem, params: PyTree) -> Array:
    """The largest eigenvalue of the full Hessian of the loss, a number: the oracle for small problems.

    Costs a `dense_hessian` and all its eigenvalues.
    """
    return jnp.linalg.eigvalsh(dense_hessian(problem, params))[-1]


@fully_precise
def dense_matrix(matvec: Callable[[PyTree], PyTree], like: PyTree) -> Array:
    """The matrix (p, p) of a symmetric linear map on pytrees like `like`, such as `gauss_newton(problem, params)`, one
    column after the other: p products and p^2 numbers."""
    flat, unravel = ravel_pytree(like)
    columns = jax.lax.map(lambda unit: ravel_pytree(matvec(unravel(unit)))[0], jnp.eye(flat.size, dtype=flat.dtype))
    return 0.5 * (columns + columns.T)
