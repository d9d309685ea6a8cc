"""What every model of the time average predicts, so that models can be laid side by side."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

PyTree = Any


class Averages(NamedTuple):
    """A model's prediction at the point that a step leaves; NaN where a model does not say.

    `params`: the mean of the weights. `loss` () there, and `mean_loss` (), the time average of the optimizer's loss
    around it, loss + tr(H Sigma)/2 with Sigma the covariance of the oscillation; `mean_square` (): the time average of
    |grad L|^2. `edge_ratios` (K,): the largest eigenvalues of P^-1 H over the rule's threshold, descending, P as the
    model's average has it. `critical` (): how many directions take part in the oscillation, as the model has it.
    `variances` (K,): eigenvalues of P^1/2 Sigma P^1/2, descending; `axes` (K, p): what an oscillation o of the flat
    weights is along their eigenvectors is axes @ o, whose mean squares are the variances (zero where they are).
    `residual` (): how far the constraints are from being met, `converged` (): whether all solvers
    within the step did. Cost of the step: `substeps` (), `gradients` (), Hessian `products` (), third derivatives
    `thirds` ().
    """

    params: PyTree
    loss: Array
    mean_loss: Array
    mean_square: Array
    edge_ratios: Array
    critical: Array
    variances: Array
    axes: Array
    residual: Array
    converged: Array
    substeps: Array
    gradients: Array
    products: Array
    thirds: Array


def principal(preconditioner: Array, spread: Array) -> tuple[Array, Array]:
    """`variances` (K,) and `axes` (K, p) of `Averages` for Sigma = spread^T spread, `spread` (K, p), and a diagonal P
    (p,): both zero where a variance is below rounding of the largest.  Axes are orthonormal in P^-1 and have no sign.
    """
    sizes, vectors = jnp.linalg.eigh((spread * preconditioner[None]) @ spread.T)
    sizes, vectors = sizes[::-1], vectors[:, ::-1]
    there = sizes > len(sizes) * jnp.finfo(sizes.dtype).eps * sizes[0]  # below, an axis is rounding
    scale = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, sizes, 1)), 0)
    return jnp.where(there, sizes, 0), scale[:, None] * (vectors.T @ spread) * preconditioner[None]
