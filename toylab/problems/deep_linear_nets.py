"""A deep linear network on whitened inputs: a non-convex loss whose minima are known."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def deep_linear(
    depth: int = 4, width: int = 8, target: ArrayLike | None = None, gain: float = 1.0, key: Array | None = None
) -> Problem:
    """L(W_1, ..., W_L) = mean over n examples of |W_L ... W_1 x_i - A x_i|^2 / 2, all matrices d x d, n = d.

    The inputs are the rows of sqrt(n) Q, Q orthogonal, and the labels those of X A^T (setting of Cohen et al. 2021,
    arXiv:2103.00065, appendix on deep linear networks, there L = 20, d = 50): whitened, so that
    L = |W_L ... W_1 - A|_F^2 / 2.  A toy of progressive sharpening without any nonlinearity of the units.
    At a global minimum the nonzero eigenvalues of the Hessian are those of
    sum_l (W_{l-1} ... W_1)^T (W_{l-1} ... W_1) (x) (W_L ... W_{l+1}) (W_L ... W_{l+1})^T; at a balanced one
    (W_{l+1}^T W_{l+1} = W_l W_l^T) the top one is L sigma_1(A)^(2 - 2/L).

    `depth` L >= 1, `width` d >= 1.  `target`: A (d, d), by default with N(0, 1/d) entries; the start has N(0,
    gain^2/d) entries, so at gain 1 signals neither grow nor fade on average.  Both are drawn from `key`, in float32
    whatever the precision.  `params` is one array (L, d, d), W_1 first; `data` is (inputs (d, d), labels (d, d)).

    Raises ValueError for a depth or width below one, or a target that is not square.
    """
    size = width if target is None else len(jnp.atleast_1d(jnp.asarray(target)))
    if depth < 1 or size < 1:
        raise ValueError(f"deep_linear: got depth={depth}, width={size}, needs at least 1 of each")
    key_start, key_inputs, key_target = jax.random.split(jax.random.key(0) if key is None else key, 3)
    map_to = _normal(key_target, (size, size)) / size**0.5 if target is None else jnp.asarray(target, dtype=float)
    if map_to.shape != (size, size):
        raise ValueError(f"deep_linear: got a target of shape {map_to.shape}, needs a square matrix")
    inputs = size**0.5 * jnp.linalg.qr(_normal(key_inputs, (size, size)))[0]
    start = gain * _normal(key_start, (depth, size, size)) / size**0.5
    return Problem(_mean_half_square, start, (inputs, inputs @ map_to.T), name="deep_linear")


def _mean_half_square(weights: Array, data: tuple[Array, Array]) -> Array:
    inputs, labels = data
    outputs, _ = lax.scan(lambda signal, weight: (signal @ weight.T, None), inputs, weights)
    return 0.5 * jnp.mean(jnp.sum((outputs - labels) ** 2, axis=-1))


def _normal(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.normal(key, shape, dtype=jnp.float32).astype(float)


PROBLEMS = {"deep_linear": deep_linear}
