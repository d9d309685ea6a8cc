"""Progressive sharpening: how the gradient lies to the gradient of the sharpness."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.curvature import sharpness_gradient
from toylab.observing.observer import Moment, Observer, stateless


def _alignment(option: int) -> Observer:
    """`alignment`: cosine of -grad L and grad S; `sharpening_rate` = -grad L . grad S, the speed of S along the
    gradient flow; `grad_sharpness_sq` = |grad S_perp|^2, orthogonal to the top eigenvector u.

    grad S is that of u^T H u at fixed u (Hellmann-Feynman): S must be a simple eigenvalue.
    """
    del option

    def records(moment: Moment) -> dict[str, Array]:
        assert moment.pairs is not None, "asked for below"
        top = jax.tree.map(lambda leaf: leaf[0], moment.pairs.vector)
        turning = sharpness_gradient(moment.problem.value, moment.params, top)
        slope, u, gradient = (ravel_pytree(tree)[0] for tree in (turning, top, moment.grads))
        rate = -(gradient @ slope)
        across = slope - (slope @ u) * u
        return {
            "alignment": rate / (jnp.linalg.norm(gradient) * jnp.linalg.norm(slope)),
            "sharpening_rate": rate,
            "grad_sharpness_sq": across @ across,
            "alignment_converged": moment.pairs.converged[0],
        }

    return stateless(records, pairs=1)


OBSERVERS = {"alignment": _alignment}
