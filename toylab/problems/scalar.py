"""Losses of one weight with known derivatives at their minimum: toys of an orbit of period 2 at the edge."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def scalar_polynomial(derivatives: ArrayLike | Sequence[float] = (1.0, 1.0, 1.0), start: ArrayLike = 0.1) -> Problem:
    """f(x) = sum_j derivatives[j] x^(j + 2)/(j + 2)!, whose derivatives at its critical point 0 are given.

    `derivatives`: f''(0), f'''(0), f''''(0), ..., at least one; `start`: a number, the first weight; the weight is a
    scalar.  The data is a single example, the derivatives (1, n), so that one loss serves all polynomials of a
    degree.  Arguments may be traced.  A toy of: any scalar loss near a minimum.

    Raises ValueError for no derivatives, or a start that is not one number, or numbers that are not finite.
    """
    given = jnp.atleast_1d(jnp.asarray(derivatives, dtype=float))
    if given.ndim != 1 or given.size == 0:
        raise ValueError(
            f"scalar_polynomial: got derivatives of shape {given.shape}, needs a list of at least one number: "
            "try derivatives=[1.0, 0.5, -1.0]"
        )
    return Problem(mean_polynomial, _weight("scalar_polynomial", start, given), given[None], name="scalar_polynomial")


def quartic(a: ArrayLike = 1.0, c3: ArrayLike = 0.0, c4: ArrayLike = -1.0, start: ArrayLike = 0.1) -> Problem:
    """f(x) = a x^2/2 + c3 x^3/6 + c4 x^4/24: second, third and fourth derivative at 0 are a, c3, c4.

    At the edge a stable orbit of period 2 is born where 3 c3^2 > a c4 (Chen & Bruna 2022, in this notation).  See
    `scalar_polynomial`.
    """
    given = jnp.stack([jnp.asarray(c, dtype=float) for c in (a, c3, c4)])
    return Problem(mean_polynomial, _weight("quartic", start, given), given[None], name="quartic")


def log_cosh(curvature: ArrayLike = 1.0, start: ArrayLike = 0.1) -> Problem:
    """f(x) = curvature log cosh x: even, convex, linear far out; f'' = curvature, f'''' = -2 curvature at 0.

    A toy of a loss whose curvature falls away from the minimum: its orbits of period 2 are stable at the edge.
    """
    given = jnp.atleast_1d(jnp.asarray(curvature, dtype=float))
    return Problem(mean_log_cosh, _weight("log_cosh", start, given), given[None], name="log_cosh")


def soft_label(probability: ArrayLike = 0.8, start: ArrayLike = 1.0) -> Problem:
    """f(x) = log(1 + e^x) - p x: the cross-entropy of one logit x against a label that is 1 with probability p.

    Its minimum is at x = log(p/(1 - p)), with f'' = p(1 - p), f''' = p(1 - p)(1 - 2p): a skewed well.
    """
    given = jnp.atleast_1d(jnp.asarray(probability, dtype=float))
    return Problem(mean_soft_label, _weight("soft_label", start, given), given[None], name="soft_label")


def catenary(curvature: ArrayLike = 1.0, start: ArrayLike = 0.1) -> Problem:
    """f(x) = curvature (cosh x - 1): all even derivatives at 0 are curvature, so its curvature grows away from 0.

    A toy of a subcritical flip: above the edge every orbit runs away, below it an unstable orbit bounds the basin.
    """
    given = jnp.atleast_1d(jnp.asarray(curvature, dtype=float))
    return Problem(mean_catenary, _weight("catenary", start, given), given[None], name="catenary")


def polynomial(x: Array, derivatives: Array) -> Array:
    """sum_j derivatives[..., j] x^(j + 2)/(j + 2)! for a scalar x."""
    total, power = jnp.zeros_like(derivatives[..., 0]), x
    for j in range(derivatives.shape[-1]):
        power = power * x / (j + 2)
        total = total + derivatives[..., j] * power
    return total


def mean_polynomial(x: Array, derivatives: Array) -> Array:
    """Mean of `polynomial` over the examples, derivatives (examples, n)."""
    return jnp.mean(polynomial(x, derivatives))


def mean_log_cosh(x: Array, curvature: Array) -> Array:
    """Mean of curvature log cosh x over the examples, curvature (examples, 1); overflows where cosh does."""
    return jnp.mean(curvature) * jnp.log(jnp.cosh(x))


def mean_soft_label(x: Array, probability: Array) -> Array:
    """Mean of log(1 + e^x) - p x over the examples, probability (examples, 1); overflows where e^x does."""
    # not the library's softplus, which is guarded by |x|: this one can be differentiated symbolically at 0
    return jnp.log1p(jnp.exp(x)) - jnp.mean(probability) * x


def mean_catenary(x: Array, curvature: Array) -> Array:
    """Mean of curvature (cosh x - 1) over the examples, curvature (examples, 1)."""
    return jnp.mean(curvature) * (jnp.cosh(x) - 1)


def _weight(name: str, start: ArrayLike, given: Array) -> Array:
    weight = jnp.asarray(start, dtype=float)
    if weight.shape != ():
        raise ValueError(f"{name}: got a start of shape {weight.shape}, needs one number: try start=0.1")
    for what, numbers in (("start", weight), ("derivatives or parameters", given)):
        if not isinstance(numbers, Tracer) and not bool(jnp.isfinite(numbers).all()):
            raise ValueError(f"{name}: got {what} {numbers}, needs finite numbers: check where they were computed")
    return weight


PROBLEMS = {
    "scalar_polynomial": scalar_polynomial,
    "quartic": quartic,
    "log_cosh": log_cosh,
    "soft_label": soft_label,
    "catenary": catenary,
}
