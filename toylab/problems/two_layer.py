"""A linear network with one hidden layer and scalar input and output: the catapult's own toy."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def two_layer_linear(
    width: int = 64,
    u: ArrayLike | None = None,
    v: ArrayLike | None = None,
    key: Array | None = None,
    inputs: ArrayLike = 1.0,
    targets: ArrayLike = 0.0,
) -> Problem:
    """L(u, v) = mean over examples of (x u.v/sqrt(n) - y)^2 / 2, with u and v in R^n (Lewkowycz et al. 2020,
    arXiv:2003.02218, eq. 3; there one example with x = 1, y = 0: then f = u.v/sqrt(n) and L = f^2/2).

    A toy of wide networks in the scaling of the neural tangent kernel: the kernel lambda = (|u|^2 + |v|^2)/n is
    of order one at initialisation and moves by f^2/n a step.  Whatever the weights, n >= 2 and with x = 1 and one
    example, the Hessian has the eigenvalues s and -s, each n - 1 times, with s = (f - y)/sqrt(n), and
    (lambda +- sqrt(lambda^2 + 8 s f/sqrt(n) + 4 s^2))/2; so at y = 0 the sharpness is
    (lambda + sqrt(lambda^2 + 12 f^2/n))/2, and it is lambda at a minimum.

    `u`, `v`: n numbers each (they set the width); otherwise drawn N(0, 1) from `key`, in float32 whatever the
    precision.  `inputs`, `targets`: scalars or as many numbers as examples.  `params` is (u, v); `data` is (inputs
    (m,), targets (m,)).  All may be traced.

    Raises ValueError for a width below one or weights, inputs and targets that do not fit each other.
    """
    given = [jnp.atleast_1d(jnp.asarray(w, dtype=float)) for w in (u, v) if w is not None]
    size = given[0].size if given else int(width)
    if size < 1 or any(w.shape != (size,) for w in given):
        shapes = ", ".join(str(w.shape) for w in given) or f"width {width}"
        raise ValueError(f"two_layer_linear: got {shapes}, needs two lists of n >= 1 numbers: try width=64")
    key_u, key_v = jax.random.split(jax.random.key(0) if key is None else key)
    first = _normal(key_u, size) if u is None else jnp.atleast_1d(jnp.asarray(u, dtype=float))
    second = _normal(key_v, size) if v is None else jnp.atleast_1d(jnp.asarray(v, dtype=float))
    x, y = (jnp.atleast_1d(jnp.asarray(values, dtype=float)) for values in (inputs, targets))
    examples = max(x.size, y.size)
    if any(values.ndim != 1 or values.size not in (1, examples) for values in (x, y)) or examples == 0:
        raise ValueError(
            f"two_layer_linear: got inputs of shape {x.shape} and targets of shape {y.shape}, needs one number for "
            "each example, or one for all"
        )
    data = (jnp.broadcast_to(x, (examples,)), jnp.broadcast_to(y, (examples,)))
    return Problem(_mean_half_square, (first, second), data, name="two_layer_linear")


def _mean_half_square(params: tuple[Array, Array], data: tuple[Array, Array]) -> Array:
    u, v = params
    inputs, targets = data
    slope = jnp.sum(u * v) / len(u) ** 0.5
    return 0.5 * jnp.mean((inputs * slope - targets) ** 2)


def _normal(key: Array, size: int) -> Array:
    return jax.random.normal(key, (size,), dtype=jnp.float32).astype(float)


PROBLEMS = {"two_layer_linear": two_layer_linear}
