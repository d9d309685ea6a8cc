"""The exact 2-cycle of a self-stabilized rule and its multipliers, for any filter.

On L = (S + sqrt(beta) s) x^2/2 - alpha s/sqrt(beta) with S = k*/eta the rule k(z) w = eta grad L has the 2-cycle
x = delta (-1)^n, y = 0, delta^2 = 2 alpha/beta, whatever Q: k(-1) = k* carries the oscillation, and the mean gradient
along s vanishes.  Around it a perturbation (x, y) = ((-1)^n (delta + xi), y) obeys

    (k(-z) - k*) xi = eta delta y,     k(z) y = eta beta delta xi,     so   k(z) (k(-z) - k*) = 2 eta^2 alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import sympy as sp

from theory.edges.transfer import Transfer, z
from theory.edges.unit_circle import value
from theory.losses.plane_jet import ALPHA, BETA, Jet
from theory.losses.taylor import s, x
from theory.self_stabilization.multiple_scales import eta as _ETA
from theory.simplify import tidy

PUSH = sp.Symbol("push", positive=True)
"""eta^2 alpha, the only way in which learning rate and sharpening rate enter."""


def cycle_polynomial(loop: Transfer) -> sp.Expr:
    """The polynomial in z (and `PUSH` = eta^2 alpha) whose roots are the multipliers of the 2-cycle.

    Derived by linearising the gradient of the cubic model on the 2-cycle; decoupled weight decay is left out.
    """
    xi, y, mean_delta = sp.symbols("xi y delta")
    gx, gs = Jet(sp.Symbol("K") / _ETA, ALPHA, BETA).expansion(3).gradient()
    on_cycle = {x: mean_delta, s: sp.Integer(0)}
    balance = sp.solve(gs.xreplace(on_cycle), mean_delta**2)[0]
    level = y / sp.sqrt(BETA)
    force_x = sp.diff(gx, s).xreplace(on_cycle) * level  # the part of d(grad L) that is not k* xi
    force_y = sp.sqrt(BETA) * sp.diff(gs, x).xreplace(on_cycle) * xi
    # (k(-z) - k*) xi = eta force_x, k(z) y = eta force_y
    product = sp.cancel(_ETA**2 * sp.diff(force_x, y) * sp.diff(force_y, xi))
    product = sp.cancel(product.subs(mean_delta**2, balance)).subs(ALPHA, PUSH / _ETA**2)
    over, under = value(loop.numerator, z), value(loop.denominator, z)
    at = {z: -z}
    critical = 2 * under.xreplace({z: sp.Integer(-1)}) / over.xreplace({z: sp.Integer(-1)})
    left = (1 - z) * under * ((1 + z) * under.xreplace(at) - critical * over.xreplace(at))
    return sp.numer(sp.together(left - product * over * over.xreplace(at)))


def cycle_multipliers(loop: Transfer, values: Mapping[sp.Symbol, sp.Expr], push: float) -> np.ndarray:
    """All multipliers of the 2-cycle (complex, per step of the modulated motion) at hyperparameters ``values``.

    Two steps of the rule have the squares of these as multipliers.
    """
    digits = {symbol: sp.Float(number, 40) for symbol, number in values.items()}

    def numbers(coefficients: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
        return tuple(sp.N(sp.sympify(c).xreplace(digits), 40) for c in coefficients)

    there = replace(loop, numerator=numbers(loop.numerator), denominator=numbers(loop.denominator))
    polynomial = sp.Poly(cycle_polynomial(there).xreplace({PUSH: sp.Float(push, 40)}), z)
    return np.array([complex(root) for root in polynomial.nroots(n=20, maxsteps=200)])


def growth_by_series(loop: Transfer) -> tuple[sp.Expr, sp.Expr]:
    """(omega^2, rho)/PUSH: near z = 1 the multipliers are e^(+-i omega + rho), omega^2 and rho of order PUSH."""
    root, first, second = sp.symbols("root first second")
    # z = 1 + i root w + root^2 q + ..., root^2 = PUSH: two orders of the polynomial fix w^2 and q
    point = 1 + first * root + second * root**2
    polynomial = sp.Poly(cycle_polynomial(loop), z)
    shifted = sp.expand(sp.Poly(polynomial.as_expr().subs(z, 1 + z), z).as_expr().subs(PUSH, root**2))
    low = sum(shifted.coeff(z, n) * (point - 1) ** n for n in range(4))
    low = sp.expand(low)
    square = tidy(-low.coeff(root, 2).subs(first, 0) / low.coeff(root, 2).coeff(first, 2))
    third = low.coeff(root, 3)
    third = sp.expand(third.subs(first**3, first * square))
    q = tidy(-(third.subs(second, 0)) / third.coeff(second, 1))
    q = tidy(sp.cancel(q))
    # log z = first root + (second - first^2/2) root^2
    return tidy(-square), tidy(q - square / 2)
