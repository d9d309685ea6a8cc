"""The mean of the gradient over an oscillation: half its variance times the gradient of the sharpness is added."""

from __future__ import annotations

import itertools
import math
from typing import Any

import sympy as sp

from theory.losses.taylor import NoExpansion, x
from theory.theorem import Theorem


def averaged_gradient(dimension: int = 2, order: int = 5) -> Theorem:
    """The mean of grad L over a symmetric oscillation w +- x u: grad L + (x^2/2) grad S + O(x^4), derived.

    From a generic jet of ``order`` in x and one transverse direction at a time (the others give the same formula):
    the odd part in x cancels; what is left at second order is d^3L[u, u, .], which first-order perturbation of the
    eigenvalue problem (H(w) - S(w)) u(w) = 0 shows to be grad S.  Hence, once x^2 > 2 |grad L|/|grad S|, descent
    along the averaged gradient is descent of the sharpness.  Source: Cohen et al. 2022; Damian et al. 2022

    Example:
        >>> import theory
        >>> law = theory.averaged_gradient(order=3)
        >>> print(law.expressions["mean_gradient_1"], "with dS/ds =", law.expressions["sharpness_slope_1"])
        L_01 + L_21*x**2/2 with dS/ds = L_21
    """
    if dimension < 2 or order < 3:
        raise NoExpansion(f"got dimension {dimension} and order {order}; at least 2 and 3 are needed")
    c = (x, *sp.symbols(f"s1:{dimension}", real=True))
    counts = [n for n in itertools.product(range(order + 1), repeat=dimension) if 0 < sum(n) <= order]
    symbols: dict[tuple[int, ...], Any] = {n: sp.Symbol("L_" + "".join(map(str, n)), real=True) for n in counts}
    for i in range(1, dimension):  # u is an eigenvector: the Hessian does not mix it with the others
        symbols[tuple(int(j in (0, i)) for j in range(dimension))] = sp.Integer(0)
    loss = sum(v * math.prod(q**k / sp.factorial(k) for q, k in zip(c, n, strict=True)) for n, v in symbols.items())
    rest = dict.fromkeys(c[1:], sp.Integer(0))
    expressions: dict[str, Any] = {}
    for j, coordinate in enumerate(c):
        along = sp.expand(sp.diff(loss, coordinate).xreplace(rest))
        expressions[f"mean_gradient_{j}"] = sp.expand((along + along.xreplace({x: -x})) / 2)
        slope = _eigenvalue_slope(loss, c, j)
        if sp.expand(2 * expressions[f"mean_gradient_{j}"].coeff(x, 2) - slope) != 0:
            raise ArithmeticError("the second-order mean of the gradient is not the gradient of the sharpness")
        expressions[f"sharpness_slope_{j}"] = slope
    return Theorem(
        statement="the mean of grad L over w +- x u is grad L + (x^2/2) grad S + O(x^4)",
        assumptions=("u is the eigenvector of a simple top eigenvalue S of the Hessian at w", "L has 5 derivatives"),
        source="second-order Taylor expansion of grad L; Damian, Nichani & Lee 2209.15594",
        expressions=expressions,
        arguments={str(v): v for v in (x, *(v for v in symbols.values() if v != 0))},
    )


def _eigenvalue_slope(loss: sp.Expr, c: tuple[sp.Symbol, ...], j: int) -> sp.Expr:
    """dS/dc_j: the first-order term e1 of det(H(t) - S0 - t e1 - ...) = 0 along c_j = t."""
    t, slope = sp.symbols("t e1", real=True)
    at = {q: t if i == j else sp.Integer(0) for i, q in enumerate(c)}
    hessian = sp.hessian(loss, c).xreplace(at)
    shifted = hessian - (hessian[0, 0].xreplace({t: sp.Integer(0)}) + t * slope) * sp.eye(len(c))
    first = sp.expand(shifted.det(method="berkowitz")).coeff(t, 1)
    return sp.factor(sp.solve(first, slope)[0])
