"""The predictions of a model of the time average, in one form, so that models can be laid side by side."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

PyTree = Any


class Cost(NamedTuple):
    """Cost of one step of a model, each entry () and an integer: `substeps` of its integrator, evaluated `gradients`,
    Hessian `products`, and third derivatives `thirds`.
    """

    substeps: int | Array = 1
    gradients: int | Array = 1
    products: int | Array = 0
    thirds: int | Array = 0


class Predictions(NamedTuple):
    """A model's prediction at the point from which a step leaves; NaN where a model does not say.

    `params`: the mean of the weights. `loss` () there, and `mean_loss` (), the time average of the optimizer's loss
    around it, loss + tr(H Sigma)/2 with Sigma the covariance of the oscillation; `mean_square` (): the time average of
    |grad L|^2. `edge_ratios` (K,): the largest eigenvalues of P^-1 H over the rule's threshold, descending, P as the
    model's average has it. `critical` (): how many directions take part in the oscillation, as the model has it.
    `variances` (K,): eigenvalues of P^1/2 Sigma P^1/2, descending; `axes` (K, p): what an oscillation o of the flat
    weights is along their eigenvectors is axes @ o, whose mean squares are the variances (zero where they are).
    `residual` (): how far the constraints are from being met, `converged` (): whether all solvers
    within the step did. `cost`: that of the step.
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
    cost: Cost

    @classmethod
    def of(
        cls,
        params: PyTree,
        loss: Array,
        edge_ratios: Array,
        *,
        mean_loss: Array | None = None,
        mean_square: Array | None = None,
        critical: ArrayLike | None = None,
        variances: Array | None = None,
        axes: Array | None = None,
        residual: Array | None = None,
        converged: ArrayLike = True,
        cost: Cost | None = None,
    ) -> "Predictions":
        """The record of a model that predicts what is given: the rest is NaN, in the shapes of `Predictions` and the
        precision of `loss`.  By default every solver converged, and the step cost one gradient.
        """

        def known(number: Array | None, *shape: int) -> Array:
            return jnp.full(shape, jnp.nan, loss.dtype) if number is None else number

        directions = edge_ratios.size if variances is None else variances.size
        weights = sum(leaf.size for leaf in jax.tree.leaves(params))
        return cls(
            params=params,
            loss=loss,
            mean_loss=known(mean_loss),
            mean_square=known(mean_square),
            edge_ratios=edge_ratios,
            critical=known(None) if critical is None else jnp.asarray(critical, jnp.int32),
            variances=known(variances, directions),
            axes=known(axes, directions, weights),
            residual=known(residual),
            converged=jnp.asarray(converged),
            cost=Cost(*(jnp.asarray(number, jnp.int32) for number in (Cost() if cost is None else cost))),
        )


def principal(preconditioner: Array, spread: Array) -> tuple[Array, Array]:
    """`variances` (K,) and `axes` (K, p) of `Predictions` for Sigma = spread^T spread, `spread` (K, p), and a diagonal
    P (p,): both zero where a variance is below rounding of the largest.  Axes are orthonormal in P^-1 and have no sign.
    """
    sizes, vectors = jnp.linalg.eigh((spread * preconditioner[None]) @ spread.T)
    sizes, vectors = sizes[::-1], vectors[:, ::-1]
    there = sizes > len(sizes) * jnp.finfo(sizes.dtype).eps * sizes[0]  # below, an axis is rounding
    scale = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, sizes, 1)), 0)
    return jnp.where(there, sizes, 0), scale[:, None] * (vectors.T @ spread) * preconditioner[None]
