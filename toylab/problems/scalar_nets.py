"""Networks of scalars: losses of a product of weights, whose minima form a curve or a surface."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def product_regression(start: ArrayLike | Sequence[float] = (3.0, 0.4)) -> Problem:
    """L(x, y) = (1 - x y)^2/2: a linear network of two layers, one neuron and one example.

    Minima: the curve x y = 1, where the Hessian has the eigenvalues 0 and x^2 + y^2.  Toy of a valley whose sharpness
    changes along it while its cross-section stays nearly quadratic: an excess of the sharpness is reflected at 2/eta.
    `start`: two numbers.  Raises ValueError for anything else.
    """
    return Problem(_half_squared_product, _weights(start, "product_regression", 2), name="product_regression")


def minimalist(start: ArrayLike | Sequence[float] = (3.0, 0.4)) -> Problem:
    """L(x, y) = (1 - x^2 y^2)^2/4: the minimalist example of the edge of stability (Zhu et al., 2210.03294, eq. 1).

    It is Zhu's four-layer scalar network with tied pairs of weights.  Minima: x y = 1 (and x y = -1), where the
    Hessian has the eigenvalues 0 and 2 (x^2 + y^2), so the edge of gradient descent is at x^2 + y^2 = 1/eta.  Toy of
    a valley with strong cubic and quartic terms: runs settle just below 2/eta, wherever they come from.
    `start`: two numbers.  Raises ValueError for anything else.
    """
    return Problem(_quartic_product, _weights(start, "minimalist", 2), name="minimalist")


def hyperbolic_product(start: ArrayLike | Sequence[float] = (3.0, 0.4)) -> Problem:
    """L(x, y) = cosh(x y - 1) - 1: a valley that steepens outwards.

    Minima: x y = 1, where the Hessian has the eigenvalues 0 and x^2 + y^2.  Toy of a *subcritical* valley
    (3 L_uuu^2 < L_uu L_uuuu for x^2 + y^2 large): the effective curvature rises with the size of the oscillation.
    `start`: two numbers.  Raises ValueError for anything else.
    """
    return Problem(_hyperbolic, _weights(start, "hyperbolic_product", 2), name="hyperbolic_product")


def scalar_chain(start: ArrayLike | Sequence[float] = (2.0, 1.0, 0.4), target: ArrayLike = 1.0) -> Problem:
    """L(w) = (w_1 w_2 ... w_n - target)^2/2: a deep linear network of width one (Kreisler et al., 2305.13064, eq. 2).

    Minima: prod w = target, where the Hessian is g g^T with g_i = target/w_i: its top eigenvalue is
    target^2 sum 1/w_i^2, all others are 0.  The gradient flow conserves w_i^2 - w_j^2.  Toy of depth.
    `start`: n >= 1 numbers; `target` a number, may be traced; the data is (target,), a batch of one.
    Raises ValueError for a start that is not such a list.
    """
    weights = _weights(start, "scalar_chain", None)
    return Problem(_chain, weights, jnp.reshape(jnp.asarray(target, dtype=float), (1,)), name="scalar_chain")


def flow_minimum(weights: Array) -> Array:
    """Where the gradient flow of `scalar_chain` with target 1 ends, from weights (n,) with a positive product; (n,).

    The flow conserves w_i^2 - w_j^2, so w_i^2 = m + d_i with d_i = w_i^2 - min w^2, and m is the root of
    log m + sum log(m + d_i) = 0 over the others.  In log m the left side is convex and rises with slope >= 1, and the
    root is below 0: Newton's method from 0 converges monotonically.  Cost: 16 steps of n logarithms.
    """
    squares = weights**2
    differences = squares - jnp.min(squares)

    def newton(_: int, log_m: Array) -> Array:
        factors = jnp.exp(log_m) + differences
        return log_m - jnp.sum(jnp.log(factors)) / jnp.sum(jnp.exp(log_m) / factors)

    m = jnp.exp(jax.lax.fori_loop(0, 16, newton, jnp.zeros((), squares.dtype)))
    return jnp.sign(weights) * jnp.sqrt(m + differences)


def flow_sharpness(weights: Array) -> Array:
    """Sharpness of the minimum that gradient flow finds from `weights` (n,): sum 1/w_i^2 there ("gradient flow
    sharpness", Kreisler et al., 2305.13064, definition 2.1).  Target 1, positive product of the weights.
    """
    return jnp.sum(1.0 / flow_minimum(weights) ** 2)


def _half_squared_product(params: Array) -> Array:
    return 0.5 * (1.0 - params[0] * params[1]) ** 2


def _quartic_product(params: Array) -> Array:
    return 0.25 * (1.0 - params[0] ** 2 * params[1] ** 2) ** 2


def _hyperbolic(params: Array) -> Array:
    return jnp.cosh(params[0] * params[1] - 1.0) - 1.0


def _chain(params: Array, data: Array) -> Array:
    return 0.5 * jnp.mean((jnp.prod(params) - data) ** 2)


def _weights(start: ArrayLike | Sequence[float], name: str, count: int | None) -> Array:
    weights = jnp.asarray(start, dtype=float)
    if weights.ndim != 1 or weights.size == 0 or (count is not None and weights.size != count):
        wanted = "a list of at least one number" if count is None else f"{count} numbers"
        raise ValueError(f"{name}: got a start of shape {weights.shape}, needs {wanted}: try start=[2.0, 0.5]")
    if not isinstance(weights, Tracer) and not bool(jnp.isfinite(weights).all()):
        raise ValueError(f"{name}: got a start with a number that is not finite: check where it was computed")
    return weights


PROBLEMS = {
    "product_regression": product_regression,
    "minimalist": minimalist,
    "hyperbolic_product": hyperbolic_product,
    "scalar_chain": scalar_chain,
}
