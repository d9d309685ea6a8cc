"""Three exact toys of the edge of stability: a fast oscillation x, a slow push of size eps.

Each is f = g + eps h (Berthier 2026): g has a whole manifold of minima x = 0, along which only the sharpness changes,
and h pushes slowly towards larger sharpness and, by its -x terms, keeps the oscillation from dying out.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.coefficients import example, start_of
from toylab.problems.problem import Problem


class Push(NamedTuple):
    """Coefficients of the toys, each with a leading axis of examples; `zeta` is only used by the first."""

    eps: Array
    zeta: Array
    forcing: Array


def berthier_one_eigenvalue(
    eps: ArrayLike = 1e-2,
    zeta: ArrayLike = 0.0,
    forcing: ArrayLike = 1.0,
    start: ArrayLike | tuple[float, ...] = (0.1, 6.0),
) -> Problem:
    """f(x, y) = (y + zeta x) x^2/2 + eps (-forcing x - y), params [x, y].

    A toy of: one eigenvalue at the edge y = 2/eta, sharpened at the rate eps, with beta = |grad S_perp|^2 = 1 and
    third derivative 3 zeta along u.  Berthier has `forcing` = 1; with 0 nothing excites the oscillation.
    Hessian: [[y + 3 zeta x, x], [x, 0]].  Source: Berthier 2026, the example with one
    eigenvalue.  The coefficients may be traced and vmapped.
    """
    return Problem(_one, start_of(start, 2), _push(eps, zeta, forcing), name="berthier_one_eigenvalue")


def _one(params: Array, c: Push) -> Array:
    x, y = params[0], params[1]
    return jnp.mean((y + c.zeta * x) * x**2 / 2 - c.eps * (c.forcing * x + y))


def berthier_codimension_one(
    eps: ArrayLike = 1e-2, forcing: ArrayLike = 1.0, start: ArrayLike | tuple[float, ...] = (0.1, 2.0, 2.5)
) -> Problem:
    """f(x, y) = (|y| + 3 e^(x/2)) x^2/2 + eps (-forcing x - y_1), params [x, y_1, y_2], y != 0.

    A toy of: an edge of codimension one, the circle |y| = 2/eta - 3, along which the weights go on drifting while the
    sharpness |y| + 3 stays there.  Hessian at x = 0: diag(|y| + 3, 0, 0); third derivative 9/2 along u.  Source:
    Berthier 2026, the example of codimension one.  The coefficients may be traced and vmapped.
    """
    return Problem(_circle, start_of(start, 3), _push(eps, 0.0, forcing), name="berthier_codimension_one")


def _circle(params: Array, c: Push) -> Array:
    x = params[0]
    sharp = jnp.sqrt(params[1] ** 2 + params[2] ** 2) + 3 * jnp.exp(x / 2)
    return jnp.mean(sharp * x**2 / 2 - c.eps * (c.forcing * x + params[1]))


def berthier_two_eigenvalues(
    eps: ArrayLike = 1e-2, forcing: ArrayLike = 1.0, start: ArrayLike | tuple[float, ...] = (0.1, 0.1, 6.0, 6.0, 0.0)
) -> Problem:
    """f(x, y) = x^T H(y) x/2 + (x_1^3 + x_2^3)/2 + eps (-forcing x_1 - 2 y_1 - y_2 - y_3),
    H(y) = [[y_1, y_3/sqrt 2], [y_3/sqrt 2, y_2]], params [x_1, x_2, y_1, y_2, y_3].

    A toy of: two eigenvalues at the edge H(y) <= (2/eta) I, a cone of symmetric matrices (the scaling of y_3 makes
    |y| the Frobenius norm of H).  Hessian at x = 0: H(y) in the first two coordinates, zero elsewhere.  Source:
    Berthier 2026, the example with two eigenvalues.  The coefficients may be traced and vmapped.
    """
    return Problem(_two, start_of(start, 5), _push(eps, 0.0, forcing), name="berthier_two_eigenvalues")


def _two(params: Array, c: Push) -> Array:
    x1, x2, y1, y2, y3 = params[0], params[1], params[2], params[3], params[4]
    sharp = (y1 * x1**2 + y2 * x2**2) / 2 + y3 * x1 * x2 / jnp.sqrt(2.0) + (x1**3 + x2**3) / 2
    return jnp.mean(sharp - c.eps * (c.forcing * x1 + 2 * y1 + y2 + y3))


def _push(eps: ArrayLike, zeta: ArrayLike, forcing: ArrayLike) -> Push:
    return Push(*(example(one) for one in (eps, zeta, forcing)))


PROBLEMS = {
    "berthier_one_eigenvalue": berthier_one_eigenvalue,
    "berthier_codimension_one": berthier_codimension_one,
    "berthier_two_eigenvalues": berthier_two_eigenvalues,
}
