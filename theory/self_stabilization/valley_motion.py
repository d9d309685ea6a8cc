"""The averaged motion of a rule beside a curve of minima, to second order: envelope of the oscillation and sharpness.

For a rule with filter Q write z = e^D with D = d/dt and k(z) = (1 - z)/Q(z): then k(z) w = eta grad L(w), and the
ansatz "mean plus (-1)^t times envelope" balances mean and oscillation separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from theory.edges.filter_numbers import ADVANCE, BEND, KAPPA, Q1
from theory.self_stabilization.minima_curves import cubic, quartic

_HALF = sp.Rational(1, 2)

excess, envelope_sq = sp.symbols("y X", real=True)
"""y = S - k*/eta, and X = A^2, the square of the envelope."""

eta = sp.Symbol("eta", positive=True)
a, b21, b12, b22 = sp.symbols("a b21 b12 b22", real=True)
"""L_xx and L_xxt, L_xtt, L_xxtt at the minimum, x across the curve of minima and t along its tangent."""

envelope, along = sp.symbols("A t", real=True)
"""The envelope of the oscillation across the curve, and the place along it."""


@dataclass(frozen=True)
class ValleyMotion:
    """Averaged motion beside a curve of minima, per step, of the envelope A and of y, to second order in (A, y).

    (log A)' = growth y + growth2 y^2 + saturation A^2,   y' = A^2 (-slide + slide2 y).
    """

    growth: sp.Expr
    growth2: sp.Expr
    saturation: sp.Expr
    slide: sp.Expr
    slide2: sp.Expr


def local_loss() -> tuple[sp.Expr, sp.Symbol, sp.Symbol]:
    """The loss to fourth order at a point of a curve of minima: x across (Hessian a), t along its tangent.

    That the loss is constant along the curve fixes L_ttt = 0 and L_tttt = 3 L_xtt^2/a.
    """
    x, t = sp.symbols("x_ t_")
    terms = {
        (2, 0): a,
        (3, 0): cubic,
        (4, 0): quartic,
        (2, 1): b21,
        (1, 2): b12,
        (2, 2): b22,
        (3, 1): sp.Symbol("b31"),
        (1, 3): sp.Symbol("b13"),
        (0, 4): 3 * b12**2 / a,
    }
    return sp.Add(*(c * x**i * t**j / sp.factorial(i) / sp.factorial(j) for (i, j), c in terms.items())), x, t


@lru_cache(maxsize=1)
def motion_beside_minima() -> ValleyMotion:
    """Mean plus oscillation, order by order: A, t and D are of first order, mean of x and oscillation of t of second.

    Near z = -1: k(-e^D) = k* + (D + D^2/2)/kappa + (k2/2) D^2; near z = 1: k(e^D) = -(D + (1/2 - q1) D^2)/Q(1).
    """
    size, sign, mean, shake = sp.symbols("size sign mean shake")
    loss, x, t = local_loss()
    ansatz = {x: size * sign * envelope + size**2 * mean, t: size * along + size**2 * sign * shake}

    def parts(force: sp.Expr) -> tuple[dict[int, sp.Expr], dict[int, sp.Expr]]:
        """Oscillating and mean part (sign^2 = 1), order -> coefficient."""
        powers: tuple[dict[int, sp.Expr], dict[int, sp.Expr]] = ({}, {})
        for (odd, order), c in sp.Poly(sp.expand(force.xreplace(ansatz)), sign, size).terms():
            powers[1 - odd % 2][order] = powers[1 - odd % 2].get(order, sp.Integer(0)) + c
        return powers

    (x_odd, x_mean), (t_odd, t_mean) = parts(sp.diff(loss, x)), parts(sp.diff(loss, t))
    second = {mean: sp.solve(x_mean[2], mean)[0], shake: t_odd[2] / a}
    rate = KAPPA * eta * x_odd[2].xreplace(second) / envelope
    slide = -Q1 * eta * t_mean[2].xreplace(second)

    def moved(f: sp.Expr) -> sp.Expr:
        return sp.diff(f, envelope) * envelope * rate + sp.diff(f, along) * slide

    inertia = (_HALF + KAPPA * BEND / 2) * moved(envelope * rate)
    rate2 = sp.expand((KAPPA * eta * x_odd[3].xreplace(second) - inertia) / envelope)
    slide2 = sp.expand(-Q1 * eta * t_mean[3].xreplace(second) - (_HALF - ADVANCE) * moved(slide))
    # the sharpness along the curve is the curvature under the oscillation at zero envelope
    bend = sp.expand(x_odd[3].xreplace(second) / envelope).coeff(envelope, 0).coeff(along, 2)
    where = excess / b21 - bend * excess**2 / b21**3
    log_rate = sp.expand(rate.xreplace({along: where}) + rate2.xreplace({along: excess / b21}))
    lead = sp.expand(slide / envelope**2)
    return ValleyMotion(
        growth=sp.factor(log_rate.coeff(excess, 1).coeff(envelope, 0)),
        growth2=sp.factor(log_rate.coeff(excess, 2)),
        saturation=sp.factor(log_rate.coeff(envelope, 2).coeff(excess, 0)),
        slide=sp.factor(-b21 * lead),
        slide2=sp.factor(sp.expand(slide2.coeff(along, 1) / envelope**2 + 2 * bend * lead / b21)),
    )
