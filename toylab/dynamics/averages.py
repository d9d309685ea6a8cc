"""What every model of the time average predicts, so that models can be laid side by side."""

from typing import Any, NamedTuple

from jax import Array

PyTree = Any


class Averages(NamedTuple):
    """A model's prediction at the point that a step leaves; NaN where a model does not say.

    `params`: the mean of the weights. `loss` () there, and `mean_loss` (), the time average of the optimizer's loss
    around it, loss + tr(H Sigma)/2 with Sigma the covariance of the oscillation; `mean_square` (): the time average of
    |grad L|^2. `edge_ratios` (K,): the largest eigenvalues of P^-1 H over the rule's threshold, descending, P as the
    model's average has it. `critical` (): how many directions take part in the
    oscillation, as the model has it. `variances` (K,): eigenvalues of P^1/2 Sigma
    P^1/2, descending. `residual` (): how far the constraints are from being met, `converged` (): whether all solvers
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
    residual: Array
    converged: Array
    substeps: Array
    gradients: Array
    products: Array
    thirds: Array
