"""Orbits of period 2 as two balances, one of the oscillation and one of the mean (`balance`).

A held rule obeys a(E) w_n + eta P^-1 b(E) f'(w_n) = 0, E the shift by one step and a, b the polynomials of its edge.
With k(z) = -a(z)/b(z), which is (1 - z)/Q(z) without weight decay, an orbit w_n = B + (-1)^n A is *exactly* one of
    k(-1) A = eta P^-1 [f'(B + A) - f'(B - A)]/2,      k(1) B = eta P^-1 [f'(B + A) + f'(B - A)]/2:
k(z) acts as k(-1) on (-1)^n and as k(1) on constants.  So of the whole filter the orbit knows k* = k(-1) and k(1)
alone, and k(1) = 0 without decay.  How fast it is approached depends on k'(-1) as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import sympy as sp

from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

A, B = sp.symbols("A B", real=True)
"""Half the difference, and the mean, of the two points of the orbit, measured from the minimum."""

d = sp.Symbol("d", real=True)
"""How far above the edge: eta f''/(P k*) - 1, which is eta/eta* - 1 at a fixed loss without weight decay."""


def require_zero(expression: sp.Expr, what: str) -> None:
    """A derivation's check of itself: raise `ArithmeticError`, with ``what`` should have held, unless it is zero."""
    if sp.cancel(sp.together(expression)) != 0:
        raise ArithmeticError(f"a check failed: {what}")


def balance(loss: Callable) -> Theorem:
    """The exact equations of an orbit w = B ± A of period 2 on ``loss(x, **parameters)``, a traced scalar JAX function.

    Formulas: ``odd`` = [f'(B + A) - f'(B - A)]/(2 A), which the orbit sets to k(-1) P/eta; ``even`` =
    [f'(B + A) + f'(B - A)]/2, which it sets to k(1) P B/eta (zero without weight decay); ``curvature`` = f''(x), for
    the gains of `PeriodTwo.multipliers`.
    Arguments: A, B, x and the parameters of the loss, which are symbols of the same names.
    """
    x = sp.Symbol("x", real=True)
    symbols = {name: sp.Symbol(name, real=True) for name in list(inspect.signature(loss).parameters)[1:]}
    slope = sp.diff(symbolically(loss)(x, *symbols.values()), x)
    up, down = slope.subs(x, B + A), slope.subs(x, B - A)
    return Theorem(
        statement="w_n = B + (-1)^n A is an orbit exactly where odd = k(-1) P/eta and even = k(1) P B/eta",
        assumptions=("a scalar weight; the slow state is held",),
        source=f"harmonic balance; loss: {getattr(loss, '__module__', '?')}.{getattr(loss, '__qualname__', loss)}",
        expressions={"odd": (up - down) / (2 * A), "even": (up + down) / 2, "curvature": sp.diff(slope, x)},
        arguments={"A": A, "B": B, "x": x, **symbols},
    )
