"""A loss of two weights beside a curve of minima: the derivatives that decide where a run settles there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from theory.errors import Refusal
from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

cubic, quartic = sp.symbols("c3 c4", real=True)
grad_sharpness_sq = sp.Symbol("beta", positive=True)
sharpness_curvature = sp.Symbol("S2", real=True)

LOCAL = {
    "cubic": cubic,
    "quartic": quartic,
    "grad_sharpness_sq": grad_sharpness_sq,
    "sharpness_curvature": sharpness_curvature,
}
"""The derivatives of a loss at the minimum of sharpness k*/eta, by name; defined in `curve_of_minima`."""


def curve_of_minima(loss: Callable, point: tuple, parameters: tuple[sp.Symbol, ...] = ()) -> Theorem:
    """The derivatives, which `settling_law` takes, of a traced loss of two weights at a point on a curve of minima.

    loss        JAX function of an array of two weights;  point: its coordinates, SymPy expressions
    parameters  the symbols in ``point``, which become the arguments by their names

    Expressions: sharpness a; cubic, quartic: derivatives of the loss along the top eigenvector u;
    grad_sharpness_sq = (d^3 L[u, u, v])^2 and sharpness_curvature, the first (squared) and second derivative of the
    sharpness with respect to arc length along the curve.
    Raises `Refusal` where the point is not on a curve of minima.
    """
    w = sp.symbols("w0 w1", real=True)
    traced = symbolically(loss)(np.array(w, dtype=object))
    at_point = dict(zip(w, point, strict=True))

    def derivative(i: int, j: int) -> sp.Expr:
        return sp.cancel(sp.together(sp.diff(traced, w[0], i, w[1], j).subs(at_point)))

    tensors = {n: [derivative(n - j, j) for j in range(n + 1)] for n in (1, 2, 3, 4)}
    h00, h01, h11 = tensors[2]
    a = sp.cancel(h00 + h11)
    if any(g != 0 for g in tensors[1]) or sp.cancel(h00 * h11 - h01**2) != 0 or a == 0:
        raise Refusal("the point is not on a curve of minima: gradient or Hessian do not fit", "give a point on it")
    length = sp.sqrt(h00**2 + h01**2) if h00 != 0 else sp.sqrt(h11**2)
    u = (h00 / length, h01 / length) if h00 != 0 else (sp.Integer(0), sp.Integer(1))
    v = (-u[1], u[0])

    def along(i: int, j: int) -> sp.Expr:
        """The derivative i times along u and j times along v."""
        n, p = i + j, sp.Symbol("p")
        # the coefficient of p^m in (u0 + u1 p)^i (v0 + v1 p)^j counts the ways to take w1 m times
        ways = sp.Poly(sp.expand((u[0] + u[1] * p) ** i * (v[0] + v[1] * p) ** j), p).all_coeffs()[::-1]
        ways += [sp.Integer(0)] * (n + 1 - len(ways))
        return sp.Add(*(c * d for c, d in zip(ways, tensors[n], strict=True)))

    b12 = along(1, 2)
    if tidy(sp.expand(along(0, 3))) != 0 or tidy(sp.expand(along(0, 4) - 3 * b12**2 / a)) != 0:
        raise Refusal("the loss is not constant along a curve through the point", "give a point on a curve of minima")
    bend = (a * along(2, 2) + 2 * b12**2 - b12 * along(3, 0)) / a
    expressions = {
        "sharpness": a,
        "cubic": along(3, 0),
        "quartic": along(4, 0),
        "grad_sharpness_sq": along(2, 1) ** 2,
        "sharpness_curvature": bend,
    }
    return Theorem(
        statement="the loss beside a minimum, across and along its curve of minima",
        assumptions=("the Hessian has one positive eigenvalue and one zero, the loss is constant along the curve",),
        source="derivatives of the traced loss",
        expressions={name: tidy(sp.together(sp.expand(e))) for name, e in expressions.items()},
        arguments={str(s): s for s in parameters},
    )
