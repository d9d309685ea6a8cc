"""Losses near a point of the edge, with prescribed Taylor coefficients: the stage of self-stabilization."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from toylab.problems.coefficients import example, start_of
from toylab.problems.problem import Problem


class NormalForm(NamedTuple):
    """Coefficients of `cubic_normal_form`, each with a leading axis of examples."""

    threshold: Array
    sharpening_rate: Array
    grad_sharpness_sq: Array
    third: Array
    fourth: Array
    transverse_curvature: Array
    sharpness_curvature: Array
    tilt: Array
    bend: Array


class Valley(NamedTuple):
    """Coefficients of `curved_valley`, each with a leading axis of examples."""

    threshold: Array
    sharpening_rate: Array
    grad_sharpness_sq: Array
    drift: Array
    bend: Array
    swell: Array
    third: Array
    transverse_curvature: Array
    coupling: Array


def cubic_normal_form(
    threshold: ArrayLike,
    sharpening_rate: ArrayLike = 1.0,
    grad_sharpness_sq: ArrayLike = 1.0,
    third: ArrayLike = 0.0,
    fourth: ArrayLike = 0.0,
    transverse_curvature: ArrayLike = 0.0,
    sharpness_curvature: ArrayLike = 0.0,
    tilt: ArrayLike = 0.0,
    bend: ArrayLike = 0.0,
    start: ArrayLike | tuple[float, ...] = (0.1, 0.0),
) -> Problem:
    """The local model of a loss at the edge, in the plane of u and grad S_perp:

        L(x, s) = (T + sqrt(beta) s + sharpness_curvature s^2/2) x^2/2 + third x^3/6 + fourth x^4/24
                  - (alpha/sqrt(beta)) s + transverse_curvature s^2/2 - tilt x
                  + bend x s^2/2 + bend^2 s^4/(8 T),

    x the coordinate along the top eigenvector u, s along n = grad S_perp/|grad S_perp|, both from a point of the
    edge; T = `threshold` the sharpness there (the rule's own edge k*/eta, 2/eta for gradient descent); alpha =
    `sharpening_rate` = -grad L . grad S (at tilt = 0) and beta = `grad_sharpness_sq` = |grad S_perp|^2 > 0 there.
    `bend` curves the valley's floor to x = -bend s^2/(2 T); its quartic term keeps the floor level.
    With only alpha and beta, gradient descent on it *is* the two-variable map of self-stabilization with
    y = sqrt(beta) s: x+ = -(1 + eta y) x, y+ = y + eta (alpha - beta x^2/2).

    Source: Damian, Nichani & Lee, arXiv:2209.15594 (its cubic expansion); the higher coefficients are the
    next orders of the same expansion.  A toy of: one critical direction, one direction that changes the sharpness.
    Hessian: [[T + sqrt(beta) s + sharpness_curvature s^2/2 + third x + fourth x^2/2, (sqrt(beta) +
    sharpness_curvature s) x + bend s], [the same, sharpness_curvature x^2/2 + transverse_curvature + bend x
    + 3 bend^2 s^2/(2 T)]]; at x = 0 = bend it is diagonal with sharpness T + sqrt(beta) s + sharpness_curvature s^2/2.

    params: [x, s], `start`.  The data is the one example of all coefficients (1,), so they may be traced and vmapped.
    """
    across = (transverse_curvature, sharpness_curvature, tilt, bend)
    given = (threshold, sharpening_rate, grad_sharpness_sq, third, fourth, *across)
    named = NormalForm(*(example(one) for one in given))
    return Problem(_normal_form, start_of(start, 2), named, name="cubic_normal_form")


def _normal_form(params: Array, c: NormalForm) -> Array:
    x, s = params[0], params[1]
    slope = jnp.sqrt(c.grad_sharpness_sq)
    sharpness = c.threshold + slope * s + c.sharpness_curvature * s**2 / 2
    along = sharpness * x**2 / 2 + c.third * x**3 / 6 + c.fourth * x**4 / 24 - c.tilt * x
    across = -c.sharpening_rate / slope * s + c.transverse_curvature * s**2 / 2
    floor = c.bend * x * s**2 / 2 + c.bend**2 * s**4 / (8 * c.threshold)
    return jnp.mean(along + across + floor)


def curved_valley(
    threshold: ArrayLike,
    sharpening_rate: ArrayLike = 1.0,
    grad_sharpness_sq: ArrayLike = 1.0,
    drift: ArrayLike = 1.0,
    bend: ArrayLike = 1.0,
    swell: ArrayLike = 0.5,
    third: ArrayLike = 0.0,
    transverse_curvature: ArrayLike = 0.0,
    coupling: ArrayLike = 0.0,
    start: ArrayLike | tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
) -> Problem:
    """A valley whose floor x = phi(q) bends while its sharpness stays under control:

        L(x, s, q, p) = K/(1 + phi'^2) r^2/2 + third r^3/6 - (alpha/sqrt(beta)) (1 + swell sin q) s - drift q
                        + transverse_curvature p^2/2,
        r = x - phi(q), phi(q) = bend (1 - cos q), K = T + sqrt(beta) s + coupling p.

    The weights drift along q, the top eigenvector turns with the floor, alpha = -grad L . grad S changes by the
    factor 1 + swell sin q, and the sharpness on the floor r = 0 is K exactly; `coupling` lets it also change along
    the direction p of curvature `transverse_curvature`, which is then not in the kernel of the Hessian.  With T =
    2/eta, alpha = eps^2, drift = O(eps) the top eigenvector turns by O(1) within 1/eps steps.

    A toy of: a constrained trajectory that curves, for predicted against real dynamics (Damian, Nichani & Lee,
    arXiv:2209.15594).  Hessian on the floor r = 0: K/(1 + phi'^2) n n^T + transverse_curvature e_p e_p^T with n =
    (1, 0, -phi', 0), of eigenvalues K and transverse_curvature, plus what the tilt of the floor bends: entries
    (s, q) -(alpha/sqrt(beta)) swell cos q and (q, q) (alpha/sqrt(beta)) swell s sin q.

    params: [x, s, q, p], `start`.  The data is the one example of all coefficients (1,), so they may be traced.
    """
    floor = (drift, bend, swell, third)
    given = (threshold, sharpening_rate, grad_sharpness_sq, *floor, transverse_curvature, coupling)
    named = Valley(*(example(one) for one in given))
    return Problem(_valley, start_of(start, 4), named, name="curved_valley")


def _valley(params: Array, c: Valley) -> Array:
    x, s, q, p = params[0], params[1], params[2], params[3]
    slope = jnp.sqrt(c.grad_sharpness_sq)
    away = x - c.bend * (1 - jnp.cos(q))
    stiffness = (c.threshold + slope * s + c.coupling * p) / (1 + (c.bend * jnp.sin(q)) ** 2)
    wall = stiffness * away**2 / 2 + c.third * away**3 / 6
    floor = -c.sharpening_rate / slope * (1 + c.swell * jnp.sin(q)) * s - c.drift * q
    return jnp.mean(wall + floor + c.transverse_curvature * p**2 / 2)


PROBLEMS = {"cubic_normal_form": cubic_normal_form, "curved_valley": curved_valley}
