"""Progressive sharpening: how the gradient lies to the gradient of the sharpness."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.observing.base import Moment, Observer, stateless


def _alignment(option: int) -> Observer:
    """`alignment`: cosine of -grad L and grad S; `sharpening_rate` = -grad L . grad S, the speed of S along the
    gradient flow; `grad_sharpness_sq` = |grad S_perp|^2, orthogonal to the top eigenvector u.

    grad S is that of u^T H u at fixed u (Hellmann-Feynman): S must be a simple eigenvalue.
    """
    del option

    def records(moment: Moment) -> dict[str, Array]:
        assert moment.pairs is not None, "asked for below"
        top = jax.tree.map(lambda leaf: leaf[0], moment.pairs.vector)

        def quadratic_form(params: object) -> Array:
            return jnp.asarray(optax.tree.vdot(top, moment.problem.hvp(params, top)))

        slope, u, gradient = (
            ravel_pytree(tree)[0] for tree in (jax.grad(quadratic_form)(moment.params), top, moment.grads)
        )
        rate = -(gradient @ slope)
        across = slope - (slope @ u) * u
        return {
            "alignment": rate / (jnp.linalg.norm(gradient) * jnp.linalg.norm(slope)),
            "sharpening_rate": rate,
            "grad_sharpness_sq": across @ across,
        }

    return stateless(records, pairs=1)


OBSERVERS = {"alignment": _alignment}
