"""The stability of an orbit of period 2: the polynomial whose roots are the multipliers of two steps along it."""

from __future__ import annotations

import sympy as sp

from theory.edges.transfer import Transfer, z
from theory.edges.unit_circle import value
from theory.simplify import tidy
from theory.two_cycles.harmonic_balance import require_zero

Z = sp.Symbol("Z")
"""A multiplier of two steps."""

k_plus, k_minus = sp.symbols("k_plus k_minus", real=True)
"""eta P^-1 f'' at the two points of the orbit."""


def two_step_polynomials(loop: Transfer) -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]]:
    """The polynomial of the multipliers of two steps, and the spectators' multipliers' polynomial.

    A perturbation z^n (p + (-1)^n q) of the orbit sees the gain (k_plus + k_minus)/2 + (-1)^n (k_plus - k_minus)/2:
    with F(z) = a(z) + mean b(z) the two components couple as F(z) p + half b(z) q = 0, F(-z) q + half b(-z) p = 0.
    """
    mean, half = (k_plus + k_minus) / 2, (k_plus - k_minus) / 2
    above, below = value(loop.a, z), value(loop.b, z)
    sides = [{z: z}, {z: -z}]
    own = [(above + mean * below).subs(side) for side in sides]
    coupling = [half * below.subs(side) for side in sides]
    determinant = sp.Poly(sp.expand(own[0] * own[1] - coupling[0] * coupling[1]), z)
    # even in z, so a polynomial in Z = z^2; monic like a
    lead = determinant.LC()
    coefficients = determinant.all_coeffs()
    require_zero(sp.Add(*(sp.Symbol(f"t{i}") * c for i, c in enumerate(coefficients[1::2]))), "odd powers cancel")
    squares = sp.Poly(loop.spectators, z)
    both = sp.Poly(sp.expand(squares.as_expr() * squares.as_expr().subs(z, -z)), z)
    return (
        tuple(tidy(c / lead) for c in coefficients[::2]),
        tuple(tidy(c / both.LC()) for c in both.all_coeffs()[::2]),
    )
