"""Low-rank matrix factorisation: the smallest loss with a manifold of minima of every sharpness."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def matrix_factorisation(
    target: ArrayLike | None = None, rank: int = 2, scale: float = 1.0, key: Array | None = None
) -> Problem:
    """L(U, V) = |U V^T - M|_F^2 / 2 with U (m, r), V (k, r).

    A toy of a network with one hidden layer: (U R, V R^-T) has the same loss for every invertible R, so each solution
    belongs to a manifold of minima, and large learning rates choose flat ones, where U and V are of one size (Wang,
    Chen, Zhao and Tao 2022, arXiv:2110.03677).  At a global minimum that fits M exactly the nonzero eigenvalues of
    the Hessian are the sums of one eigenvalue of U U^T and one of V V^T, so the sharpness is
    sigma_max(U)^2 + sigma_max(V)^2, at least 2 sigma_max(M).

    `target`: M (m, k), by default diag(1, 1/2).  `rank` r >= 1; below the rank of M it cannot be fitted.  The start is
    `scale` times a draw from N(0, 1/r) by `key`, in float32 whatever the precision.  `params` is (U, V); `data` is a
    single example, M (1, m, k): stacking examples gives the mean of their losses.

    Raises ValueError for a rank below one or a target that is not a matrix.
    """
    matrix = jnp.diag(jnp.array([1.0, 0.5])) if target is None else jnp.asarray(target, dtype=float)
    if matrix.ndim != 2 or matrix.size == 0 or rank < 1:
        raise ValueError(
            f"matrix_factorisation: got rank={rank} and a target of shape {matrix.shape}, needs a rank of at least 1 "
            "and a matrix: try target=[[1.0, 0.0], [0.0, 0.5]]"
        )
    key_u, key_v = jax.random.split(jax.random.key(0) if key is None else key)
    params = tuple(
        scale / rank**0.5 * jax.random.normal(k, (side, rank), dtype=jnp.float32).astype(float)
        for k, side in zip((key_u, key_v), matrix.shape, strict=True)
    )
    return Problem(_mean_half_square, params, matrix[None], name="matrix_factorisation")


def _mean_half_square(params: tuple[Array, Array], data: Array) -> Array:
    u, v = params
    return 0.5 * jnp.mean(jnp.sum(((u @ v.T)[None] - data) ** 2, axis=(1, 2)))


PROBLEMS = {"matrix_factorisation": matrix_factorisation}
