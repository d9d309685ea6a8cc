"""Quadratics whose examples have Hessians of their own: the stage of mini-batch noise."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def noisy_line(curvatures: ArrayLike, slopes: ArrayLike | None = None, start: ArrayLike = 1.0) -> Problem:
    """L(w) = mean_i (a_i w^2/2 - c_i w) on the line: example i has curvature a_i and pulls with c_i at w = 0.

    `curvatures` (n,), of any sign; `slopes` (n,), by default 0: every example is minimal at w = 0 (interpolation), and
    the noise of a mini-batch is multiplicative, (a_B - a) w.  With slopes, or where c_i/a_i differ, some noise is left
    at the minimum.  Hessian: mean(a_i).  params: w, a scalar, from `start`.

    The examples are the leading axis of the data, so a mini-batch is the problem with its data indexed:
    `dataclasses.replace(problem, data=jax.tree.map(lambda leaf: leaf[batch], problem.data))`.
    A toy of: one eigendirection under sampling noise (Wu, Ma & E, NeurIPS 2018).  All arguments may be traced.

    Raises ValueError unless the curvatures are a list of at least one number and the slopes fit.
    """
    spread = jnp.asarray(curvatures, dtype=float)
    if spread.ndim != 1 or spread.size == 0:
        raise ValueError(
            f"noisy_line: got curvatures of shape {spread.shape}, needs one number an example: "
            "try curvatures=[0.5, 1.5]"
        )
    pulls = jnp.zeros_like(spread) if slopes is None else jnp.asarray(slopes, dtype=float)
    if pulls.shape != spread.shape:
        raise ValueError(f"noisy_line: got slopes of shape {pulls.shape} for {spread.size} examples: give as many")
    return Problem(_mean_line, jnp.asarray(start, dtype=float), (spread, pulls), name="noisy_line")


def _mean_line(params: Array, data: tuple[Array, Array]) -> Array:
    curvatures, slopes = data
    return jnp.mean(curvatures * params**2 / 2 - slopes * params)


def rank_one_quadratic(
    features: ArrayLike, targets: ArrayLike | None = None, start: ArrayLike | None = None
) -> Problem:
    """L(w) = mean_i (x_i . w - t_i)^2/2, linear regression: example i has the Hessian x_i x_i^T of rank one.

    `features` (n, d); `targets` (n,), by default 0, so that w = 0 fits every example and the noise vanishes there.
    Hessian: X^T X/n.  The examples' Hessians do not commute: with mini-batches no eigendirection stays by itself.
    params: w (d,), from `start`, by default all 1.  The data is (features, targets), examples on the leading axis.
    A toy of: mini-batch noise in several directions (Wu, Ma & E, NeurIPS 2018).  All arguments may be traced.

    Raises ValueError where shapes do not fit.
    """
    inputs = jnp.asarray(features, dtype=float)
    if inputs.ndim != 2 or inputs.size == 0:
        raise ValueError(f"rank_one_quadratic: got features of shape {inputs.shape}, needs (examples, dimensions)")
    count, dimension = inputs.shape
    wanted = jnp.zeros(count, inputs.dtype) if targets is None else jnp.asarray(targets, dtype=float)
    params = jnp.ones(dimension, inputs.dtype) if start is None else jnp.asarray(start, dtype=float)
    if wanted.shape != (count,) or params.shape != (dimension,):
        raise ValueError(
            f"rank_one_quadratic: got targets {wanted.shape} and a start {params.shape} for features {inputs.shape}: "
            f"give {count} targets and {dimension} weights"
        )
    return Problem(_mean_square_error, params, (inputs, wanted), name="rank_one_quadratic")


def _mean_square_error(params: Array, data: tuple[Array, Array]) -> Array:
    features, targets = data
    return 0.5 * jnp.mean((features @ params - targets) ** 2)


PROBLEMS = {"noisy_line": noisy_line, "rank_one_quadratic": rank_one_quadratic}
