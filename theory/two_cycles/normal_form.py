"""The 2-cycle beside a flip to second order in its distance from the edge, once for all filters and all scalar losses.

The two balances of `theory.two_cycles.harmonic_balance` are solved as power series: d = d1 A^2 + d2 A^4 and
B = b1 A^2 + b2 A^4, inverted to A^2(d), and the multiplier of two steps near 1.  Units: f'' = 1 and k* = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

from theory.losses.scalar_jet import ORDER, ScalarJet, symbolic_jet
from theory.simplify import tidy
from theory.theorem import Theorem
from theory.two_cycles.harmonic_balance import A, d, require_zero

SIGMA, GROWTH, BEND, SLOPE = sp.symbols("sigma growth bend lag", real=True)
"""The numbers of k(z)/k* on which the laws depend, in symbols that keep every step polynomial: the value at z = 1 is
1 - 1/sigma, the derivatives at z = -1 are -1/growth and bend, the derivative at z = 1 is lag."""
_C = sp.symbols(f"c3:{ORDER + 1}", real=True)
_D, _B, _S = sp.symbols("d1:3"), sp.symbols("b1:3"), sp.symbols("s1:3")  # of the series d(A^2), B(A^2) and A^2(d)


def laws_of(jet: ScalarJet, filter_values: Mapping[sp.Symbol, sp.Expr]) -> dict[str, sp.Expr]:
    """The laws for one loss, in lowest terms, and for one filter, which is put in last and not multiplied out."""
    a, *rest = jet.derivatives
    put = dict(zip(_C, (c / a for c in rest), strict=True))
    laws = {name: tidy(law.xreplace(put)) for name, law in _laws().items()}
    laws["criterion"] = sp.expand(tidy(a**2 * laws["criterion"]))
    return {name: law.xreplace(filter_values) for name, law in laws.items()}


@lru_cache(maxsize=1)
def _laws() -> Mapping[str, sp.Expr]:
    orbit: Any = _orbit()
    first, second = _inverted()
    put: dict[Any, Any] = {_S[0]: 1 / _D[0], _S[1]: second}
    multiplier = [c.subs(put).subs(orbit) for c in _multiplier()]
    require_zero(multiplier[0] + 4 * GROWTH, "the amplitude equation decays towards the orbit at twice its growth")
    return {
        "criterion": sp.factor(6 * orbit[_D[0]]),
        "amplitude_sq_1": sp.factor(first.subs(orbit)),
        "amplitude_sq_2": sp.factor(second.subs(orbit)),
        "centre_1": sp.factor((_B[0] * first).subs(orbit)),
        "centre_2": sp.factor((_B[0] * second + _B[1] * first**2).subs(orbit)),
        "growth": GROWTH,
        "landau": sp.factor(GROWTH * orbit[_D[0]]),
        "multiplier_1": sp.factor(multiplier[0]),
        "multiplier_2": sp.factor(multiplier[1]),
    }


def _orbit() -> dict[sp.Symbol, sp.Expr]:
    """d = d1 A^2 + d2 A^4 and B = b1 A^2 + b2 A^4 from the two balances; checked by putting them back."""
    series_d, series_b = (x * A**2 + y * A**4 for x, y in (_D, _B))
    # one order more than is kept: the odd part is divided by A
    slope = [sp.Integer(0), *(c / sp.factorial(n) for n, c in enumerate((1, *_C), 1))]
    up, down = (_series(slope, series_b + side * A, 5) for side in (1, -1))
    odd = _truncate((1 + series_d) * sp.expand((up - down) / (2 * A)) - 1, A, 4)
    even = _truncate((1 + series_d) * (up + down) / 2 - (1 - 1 / SIGMA) * series_b, A, 4)
    solved: dict[Any, Any] = {}
    for n, b, excess in ((2, _B[0], _D[0]), (4, _B[1], _D[1])):
        solved[b] = _root(even.coeff(A, n), b, 1 / SIGMA, solved)
        solved[excess] = _root(odd.coeff(A, n), excess, sp.Integer(1), solved)
    for row in (odd, even):
        require_zero(row.subs(solved), "the orbit solves both balances to the order stated")
    return solved


def _inverted() -> tuple[sp.Expr, sp.Expr]:
    """s1, s2 of A^2 = s1 d + s2 d^2 in terms of d1, d2; checked by putting the series into one another."""
    coefficients: dict[Any, Any] = {_S[0]: 1 / _D[0]}
    back = _truncate(sum(c * (_S[0] * d + _S[1] * d**2) ** n for n, c in enumerate(_D, 1)) - d, d, 2)
    coefficients[_S[1]] = _root(back.coeff(d, 2), _S[1], _D[0], coefficients)
    require_zero(back.subs(coefficients), "the inverted series is the inverse")
    return coefficients[_S[0]], coefficients[_S[1]]


def _multiplier() -> tuple[sp.Expr, sp.Expr]:
    """Coefficients of d and d^2 in the multiplier of two steps near 1.

    Its equation is [k(z) - mean][k(-z) - mean] = half^2 (see `theory.two_cycles.multipliers`), and z = -1 + zeta with
    a small zeta.
    """
    zeta1, zeta2 = sp.symbols("zeta1:3")
    series_d, series_b = (x * A**2 + y * A**4 for x, y in (_D, _B))
    curvature = [c / sp.factorial(n) for n, c in enumerate((sp.Integer(1), *_C))]
    up, down = (_series(curvature, series_b + side * A, 4) for side in (1, -1))
    mean = _truncate((1 + series_d) * (up + down) / 2, A, 4)
    half_sq = _truncate(((1 + series_d) * (up - down) / 2) ** 2, A, 4)

    def in_d(even: sp.Expr) -> sp.Expr:
        terms = (even.coeff(A, 2 * n) * (_S[0] * d + _S[1] * d**2) ** n for n in range(3))
        return _truncate(sum(terms, sp.Integer(0)), d, 2)

    zeta = zeta1 * d + zeta2 * d**2
    before = 1 - zeta / GROWTH + BEND * zeta**2 / 2  # k(z)/k*
    after = 1 - 1 / SIGMA - SLOPE * zeta  # k(-z)/k*
    row = _truncate((before - in_d(mean)) * (after - in_d(mean)) - in_d(half_sq), d, 2)
    require_zero(row.coeff(d, 0), "the orbit is born with the multiplier 1")
    solved: dict[Any, Any] = {}
    for n, unknown in ((1, zeta1), (2, zeta2)):
        solved[unknown] = _root(row.coeff(d, n), unknown, 1 / (GROWTH * SIGMA), solved)
    two_steps = _truncate((zeta - 1) ** 2, d, 2)
    return two_steps.coeff(d, 1).subs(solved), two_steps.coeff(d, 2).subs(solved)


def _root(row: sp.Expr, unknown: sp.Symbol, slope: sp.Expr, known: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The root of an equation in which ``unknown`` stands with the monomial ``slope``, polynomial like the rest."""
    row = sp.expand(row)
    require_zero(row.coeff(unknown, 1) - slope, "the equation is linear with the slope stated")
    return sp.expand(-row.coeff(unknown, 0).subs(known) / slope)


def _series(coefficients: list[sp.Expr], point: sp.Expr, order: int) -> sp.Expr:
    """sum_j coefficients[j] point^j, up to A^order, for a ``point`` that vanishes with A."""
    total, power = sp.Integer(0), sp.Integer(1)
    for c in coefficients:
        total, power = total + c * power, _truncate(power * point, A, order)
    return sp.expand(total)


def _truncate(expression: sp.Expr, variable: sp.Symbol, order: int) -> sp.Expr:
    """The terms up to ``variable^order`` of a polynomial in it."""
    terms = sp.expand(expression)
    return sum((terms.coeff(variable, n) * variable**n for n in range(order + 1)), sp.Integer(0)).expand()


@lru_cache(maxsize=1)
def second_iterate() -> Theorem:
    """Two steps of gradient descent at eta = 2/a near a minimum, by composition: x + cubic x^3 + O(x^4).

    The sign of ``cubic`` decides: < 0 supercritical.  It is checked against the balance: -2 landau at P = Q = 1.
    """
    jet = symbolic_jet()
    a, *_ = jet.derivatives
    x = sp.Symbol("x", real=True)
    slope = sum(c * x**j for j, c in enumerate(jet.slope_coefficients[:4]))
    once = sp.expand(x - 2 / a * slope)
    twice = sp.Poly(sp.expand(once - 2 / a * slope.subs(x, once)), x)
    require_zero(twice.coeff_monomial(x) - 1, "the second iterate is the identity to first order")
    require_zero(twice.coeff_monomial(x**2), "the second iterate has no quadratic term")
    cubic = tidy(twice.coeff_monomial(x**3))
    put = dict(zip(_C, (c / a for c in jet.derivatives[1:]), strict=True)) | {SIGMA: sp.Integer(1), GROWTH: 2}
    landau = _laws()["landau"].subs(put)  # k(z) = 1 - z: growth 2, and k(1) = 0
    require_zero(cubic + 2 * landau, "composition and balance give the same cubic term")
    return Theorem(
        statement=f"at eta = 2/a two steps of gradient descent are x + ({sp.sstr(cubic)}) x^3 + O(x^4)",
        assumptions=jet.assumptions,
        source="composition of the map x - eta f'(x)",
        expressions={"cubic": cubic},
        arguments=jet.arguments,
    )
