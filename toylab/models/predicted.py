"""Predicted dynamics: where gradient descent is around the constrained trajectory, from local derivatives there."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from toylab.models.constrained import Constrained, ConstrainedPoint, constrained_trajectory
from toylab.models.kernel import Kernel
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem

PyTree = Any


class Predicted(NamedTuple):
    """The constrained trajectory at its own time, and the predicted displacement v from it, (p,) flat."""

    centre: Constrained
    displacement: Array


class Prediction(NamedTuple):
    """The prediction for the iterate that a step leaves.

    `params` = w_dagger + v; `x` = u . v and `y` = grad S_perp . v; `sharpness` = S + y + (grad S . u) x; `loss` = L +
    grad L . v + v^T H v/2; `loss_along` = L + S x^2/2, which is L + x^2/eta at the edge and leaves out the energy of
    the directions orthogonal to u; all derivatives at w_dagger, whose own `ConstrainedPoint` is `centre`.
    """

    params: PyTree
    x: Array
    y: Array
    loss: Array
    loss_along: Array
    sharpness: Array
    centre: ConstrainedPoint


def predicted_dynamics(problem: Problem, learning_rate: ArrayLike, **projection: Any) -> Kernel:
    """Kernel of the predicted dynamics of gradient descent at the edge 2/eta; time unit: one step.

    Around the constrained trajectory w_dagger (see `constrained_trajectory`, which takes the keywords `projection`)
    the displacement v = w - w_dagger, with x = u . v, y = grad S_perp . v and P = I - u u^T, is predicted by

        v+ = P(u+) [(I - eta H) P(u) v + eta grad S_perp (delta^2 - x^2)/2] + (1 - eta (S + y)) x u+,

    all derivatives at w_dagger, evaluated anew at every step.  At S = 2/eta the last factor is -(1 + eta y), the
    published form.  Where we deviate: delta^2, published as 2 alpha/beta, is taken from the projection itself
    (`ConstrainedPoint.variance`), so that it vanishes where the constraint is not active, the prediction also holds
    below the edge, and a fast drift along a bent edge is accounted for.  For eps = eta sqrt(alpha) and up to times
    O(1/eps) the errors are O(eps delta) in w, O(eps^2) in the sharpness and O(eps delta^2) in `loss`;
    `loss_along` only has this order if the part of v orthogonal to u lies in the kernel of H.

    `init(params, centre=None)`: the iterate w, and a point near it that is projected onto M to be the first w_dagger
    (by default w itself).  The state freezes with `state.centre.status`, a `Validity`.
    Only for gradient descent: with memory, v has as many lags as the rule.  Cost: that of the constrained trajectory
    and two Hessian products.  Source: Damian, Nichani & Lee, arXiv:2209.15594, the definition of v*.
    """
    constrained = constrained_trajectory(problem, learning_rate, 2 / learning_rate, **projection)

    def init(params: PyTree, centre: PyTree = None) -> Predicted:
        held = constrained.init(params if centre is None else centre)
        return Predicted(held, ravel_pytree(params)[0] - ravel_pytree(held.params)[0])

    @fully_precise
    def step(state: Predicted) -> tuple[Predicted, Prediction]:
        centre, v = state
        flat, unravel = ravel_pytree(centre.params)
        local, across, u = centre.here, centre.here.across(), centre.here.vectors[0]
        moved, held = constrained.step(centre)

        def product(vector: Array) -> Array:
            return ravel_pytree(problem.hvp(centre.params, unravel(vector)))[0]

        x, y = u @ v, across @ v
        beside = v - x * u
        image = product(beside)
        pushed = beside - learning_rate * image + learning_rate * across * (held.variance - x**2) / 2
        next_u = moved.here.vectors[0]
        growth = 1 - learning_rate * (local.values[0] + y)
        following = pushed - (next_u @ pushed) * next_u + growth * x * next_u
        along = local.values[0] * x**2 / 2
        prediction = Prediction(
            params=unravel(flat + v),
            x=x,
            y=y,
            loss=local.loss + local.gradient @ v + along + beside @ image / 2,
            loss_along=local.loss + along,
            sharpness=local.values[0] + y + (local.sharpness_gradient @ u) * x,
            centre=held,
        )
        return Predicted(moved, jnp.where(moved.status == 0, following, v)), prediction

    return Kernel(init, step)
