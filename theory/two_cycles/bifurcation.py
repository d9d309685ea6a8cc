"""Orbits of period 2 at the edge, for any rule that crosses it by a flip (`period_two`).

A held rule obeys a(E) w_n + eta P^-1 b(E) f'(w_n) = 0, E the shift by one step and a, b the polynomials of its edge.
With k(z) = -a(z)/b(z), which is (1 - z)/Q(z) without weight decay, an orbit w_n = B + (-1)^n A is *exactly* one of
    k(-1) A = eta P^-1 [f'(B + A) - f'(B - A)]/2,      k(1) B = eta P^-1 [f'(B + A) + f'(B - A)]/2
(harmonic balance): k(z) acts as k(-1) on (-1)^n and as k(1) on constants.  So of the whole filter the orbit knows
k* = k(-1) and k(1) alone, and k(1) = 0 without decay.  How fast it is approached depends on k'(-1) as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import z
from theory.edges.unit_circle import value
from theory.errors import Refusal
from theory.losses.scalar_jet import ORDER, ScalarJet, symbolic_jet
from theory.simplify import tidy
from theory.theorem import Theorem, as_jax
from theory.tracing.interpreter import symbolically

A, B = sp.symbols("A B", real=True)
"""Half the difference, and the mean, of the two points of the orbit, measured from the minimum."""

d = sp.Symbol("d", real=True)
"""How far above the edge: eta f''/(P k*) - 1, which is eta/eta* - 1 at a fixed loss without weight decay."""

Z = sp.Symbol("Z")
"""A multiplier of two steps."""

k_plus, k_minus = sp.symbols("k_plus k_minus", real=True)
"""eta P^-1 f'' at the two points of the orbit."""


class NoFlip(Refusal):
    """The rule does not lose stability by a flip, so no orbit of period 2 is born at its edge."""

    hint = "only rules whose critical multiplier is z = -1 have one; see the crossing in `toylab derive`"


@dataclass(frozen=True)
class PeriodTwo(Theorem):
    """The orbit of period 2 that a rule has near its edge on a scalar loss; d = eta f''/(P k*) - 1.

    kind          "supercritical" (a stable orbit just above the edge), "subcritical" (an unstable one just below,
                  which bounds the basin of the minimum), or "depends" on the sign of ``criterion``
    jet           the derivatives of the loss, symbols or read off its code
    polynomial    coefficients in Z, highest first, of which the multipliers of two steps are the roots, for gains
                  k_plus, k_minus = eta P^-1 f'' at the two points; exact at any amplitude
    spectators    multipliers of two steps of the modes that the gradient does not reach

    Formulas: ``critical_gain`` k*; ``drag`` rho = k(1)/k* (0 without decay); ``criterion`` (> 0: supercritical);
    ``amplitude_sq`` and ``centre`` of the orbit to O(d^3), their coefficients ``amplitude_sq_1``, ...;
    ``growth`` and ``landau`` of the amplitude equation A_{n+1} - A_n = growth d A - landau A^3 (unit: one step),
    to relative O(d); ``multiplier`` of two steps along it to O(d^3).
    """

    name: str
    kind: str
    jet: ScalarJet
    polynomial: tuple[sp.Expr, ...]
    spectators: tuple[sp.Expr, ...]

    def polynomial_at(self, **numbers: Any) -> np.ndarray:
        """Coefficients (..., n + 1) in Z of the multipliers' polynomial, the spectators' included, highest first.

        ``numbers``: k_plus, k_minus and the hyperparameters, numbers or arrays of one shape.
        """
        shape = np.broadcast_shapes(*(np.shape(v) for v in numbers.values()))
        rows = [
            np.stack([np.broadcast_to(as_jax(c, self.arguments)(**numbers), shape) for c in row], axis=-1)
            for row in (self.polynomial, self.spectators)
        ]
        own, others = (row.reshape(-1, row.shape[-1]) for row in rows)
        product = np.stack([np.polymul(x, y) for x, y in zip(own, others, strict=True)])
        return product.reshape(*shape, product.shape[-1])

    def multipliers(self, **numbers: float) -> np.ndarray:
        """The multipliers of two steps, complex, the spectators' included, at these gains and hyperparameters."""
        return np.roots(self.polynomial_at(**numbers))


def period_two(factory: Callable, jet: ScalarJet | None = None, **settings: Any) -> PeriodTwo:
    """The theorem on the orbit of period 2 of the rule made by ``factory`` (see `theory.edge`) on a scalar loss.

    ``jet``: of the loss, by default symbolic; `theory.losses.scalar_jet.loss_jet` reads it off a loss's code.
    Held slow state, a scalar weight.  Raises `NoFlip` for rules that cross as a complex pair or not at all, and
    whatever `theory.edge` raises.
    """
    found = cached_edge(factory, tuple(sorted(settings.items())))
    gain, drag, numbers = filter_numbers(found)
    jet = symbolic_jet() if jet is None else jet
    formulas: dict[str, Any] = _in_terms_of(jet, numbers)
    polynomial, spectators = _floquet(found)
    formulas |= {"critical_gain": gain, "drag": drag}
    for name, order in (("amplitude_sq", 2), ("centre", 2), ("multiplier", 2)):
        formulas[name] = sum(
            (formulas[f"{name}_{j}"] * d**j for j in range(1, order + 1)), sp.Integer(name == "multiplier")
        )
    formulas["multiplier_polynomial"] = sp.Add(*(c * Z**i for i, c in enumerate(reversed(polynomial))))
    criterion = formulas["criterion"]
    kind = "supercritical" if criterion.is_positive else "subcritical" if criterion.is_negative else "depends"
    where = {"depends": f"exists above the edge, stable, where {sp.sstr(criterion)} > 0; below it, unstable, where < 0"}
    where |= {"supercritical": "is born above the edge, stable", "subcritical": "dies below the edge, unstable"}
    return PeriodTwo(
        statement=f"with {found.name} a small orbit of period 2 {where[kind]}; its amplitude^2 is "
        f"({sp.sstr(formulas['amplitude_sq_1'])}) d + O(d^2), d = eta f''/(P k*) - 1",
        assumptions=(
            "a scalar weight; P is held" if found.slow else "a scalar weight",
            *jet.assumptions,
            *found.assumptions[1:],
            *((f"a flip comes first: {sp.sstr(found.conditions[0])} > 0",) if found.crossing == "depends" else ()),
        ),
        source=f"harmonic balance with k(z) from {found.source}; loss: {jet.source}",
        expressions=formulas,
        arguments={**jet.arguments, **found.symbols, "d": d, "Z": Z, "k_plus": k_plus, "k_minus": k_minus},
        name=found.name,
        kind=kind,
        jet=jet,
        polynomial=polynomial,
        spectators=spectators,
    )


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
    _require_zero(twice.coeff_monomial(x) - 1, "the second iterate is the identity to first order")
    _require_zero(twice.coeff_monomial(x**2), "the second iterate has no quadratic term")
    cubic = tidy(twice.coeff_monomial(x**3))
    put = dict(zip(_C, (c / a for c in jet.derivatives[1:]), strict=True)) | {_SIGMA: sp.Integer(1), _GROWTH: 2}
    landau = _laws()["landau"].subs(put)  # k(z) = 1 - z: growth 2, and k(1) = 0
    _require_zero(cubic + 2 * landau, "composition and balance give the same cubic term")
    return Theorem(
        statement=f"at eta = 2/a two steps of gradient descent are x + ({sp.sstr(cubic)}) x^3 + O(x^4)",
        assumptions=jet.assumptions,
        source="composition of the map x - eta f'(x)",
        expressions={"cubic": cubic},
        arguments=jet.arguments,
    )


# ---------------------------------------------------------------------------------------------------------------
# The filter: what of it enters


def filter_numbers(found: Edge) -> tuple[sp.Expr, sp.Expr, dict[sp.Symbol, sp.Expr]]:
    """k*, rho = k(1)/k*, and what the laws need of k(z)/k*; `NoFlip` if no root leaves at -1."""
    if found.crossing == "neimark_sacker":
        raise NoFlip(f"{found.name} leaves the edge as a complex pair: its small orbits are no 2-cycles")
    above, below = value(found.loop.a, z), value(found.loop.b, z)
    gain = _at(-above / below, -1)
    if gain in (0, sp.zoo, sp.oo, sp.nan) or found.threshold == sp.oo:
        raise NoFlip(f"{found.name} never loses stability by a flip")
    ratio = sp.cancel(-above / below / gain)
    slope = sp.cancel(sp.diff(ratio, z))
    drag = _at(ratio, 1)
    numbers = {
        _SIGMA: tidy(1 / (1 - drag)),
        _GROWTH: tidy(-1 / _at(slope, -1)),
        _BEND: _at(sp.diff(slope, z), -1),
        _LAG: _at(slope, 1),
    }
    return gain, drag, numbers


def _at(expression: sp.Expr, point: int) -> sp.Expr:
    return tidy(sp.cancel(sp.together(expression)).subs(z, point))


def _floquet(found: Edge) -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]]:
    """The polynomial of the multipliers of two steps, and the spectators' multipliers' polynomial.

    A perturbation z^n (p + (-1)^n q) of the orbit sees the gain (k_plus + k_minus)/2 + (-1)^n (k_plus - k_minus)/2:
    with F(z) = a(z) + mean b(z) the two components couple as F(z) p + half b(z) q = 0, F(-z) q + half b(-z) p = 0.
    """
    mean, half = (k_plus + k_minus) / 2, (k_plus - k_minus) / 2
    above, below = value(found.loop.a, z), value(found.loop.b, z)
    sides = [{z: z}, {z: -z}]
    own = [(above + mean * below).subs(side) for side in sides]
    coupling = [half * below.subs(side) for side in sides]
    determinant = sp.Poly(sp.expand(own[0] * own[1] - coupling[0] * coupling[1]), z)
    # even in z, so a polynomial in Z = z^2; monic like a
    lead = determinant.LC()
    coefficients = determinant.all_coeffs()
    _require_zero(sp.Add(*(sp.Symbol(f"t{i}") * c for i, c in enumerate(coefficients[1::2]))), "odd powers cancel")
    squares = sp.Poly(found.loop.spectators, z)
    both = sp.Poly(sp.expand(squares.as_expr() * squares.as_expr().subs(z, -z)), z)
    return (
        tuple(tidy(c / lead) for c in coefficients[::2]),
        tuple(tidy(c / both.LC()) for c in both.all_coeffs()[::2]),
    )


# ---------------------------------------------------------------------------------------------------------------
# The laws to second order, once for all rules.  In units of f'' = 1, k* = 1, and in symbols that keep every step
# polynomial; k(z)/k* has the value 1 - 1/sigma at z = 1, the derivatives -1/growth and bend at -1, and lag at 1.

_SIGMA, _GROWTH, _BEND, _LAG = sp.symbols("sigma growth bend lag", real=True)
_C = sp.symbols(f"c3:{ORDER + 1}", real=True)
_D, _B, _S = sp.symbols("d1:3"), sp.symbols("b1:3"), sp.symbols("s1:3")  # of the series d(A^2), B(A^2) and A^2(d)


def _in_terms_of(jet: ScalarJet, filter_numbers: Mapping[sp.Symbol, sp.Expr]) -> dict[str, sp.Expr]:
    """The laws for one loss, in lowest terms, and for one filter, which is put in last and not multiplied out."""
    a, *rest = jet.derivatives
    put = dict(zip(_C, (c / a for c in rest), strict=True))
    laws = {name: tidy(law.xreplace(put)) for name, law in _laws().items()}
    laws["criterion"] = sp.expand(tidy(a**2 * laws["criterion"]))
    return {name: law.xreplace(filter_numbers) for name, law in laws.items()}


@lru_cache(maxsize=1)
def _laws() -> Mapping[str, sp.Expr]:
    orbit: Any = _orbit()
    first, second = _inverted()
    put: dict[Any, Any] = {_S[0]: 1 / _D[0], _S[1]: second}
    multiplier = [c.subs(put).subs(orbit) for c in _multiplier()]
    _require_zero(multiplier[0] + 4 * _GROWTH, "the amplitude equation decays towards the orbit at twice its growth")
    return {
        "criterion": sp.factor(6 * orbit[_D[0]]),
        "amplitude_sq_1": sp.factor(first.subs(orbit)),
        "amplitude_sq_2": sp.factor(second.subs(orbit)),
        "centre_1": sp.factor((_B[0] * first).subs(orbit)),
        "centre_2": sp.factor((_B[0] * second + _B[1] * first**2).subs(orbit)),
        "growth": _GROWTH,
        "landau": sp.factor(_GROWTH * orbit[_D[0]]),
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
    even = _truncate((1 + series_d) * (up + down) / 2 - (1 - 1 / _SIGMA) * series_b, A, 4)
    solved: dict[Any, Any] = {}
    for n, b, excess in ((2, _B[0], _D[0]), (4, _B[1], _D[1])):
        solved[b] = _root(even.coeff(A, n), b, 1 / _SIGMA, solved)
        solved[excess] = _root(odd.coeff(A, n), excess, sp.Integer(1), solved)
    for row in (odd, even):
        _require_zero(row.subs(solved), "the orbit solves both balances to the order stated")
    return solved


def _inverted() -> tuple[sp.Expr, sp.Expr]:
    """s1, s2 of A^2 = s1 d + s2 d^2 in terms of d1, d2; checked by putting the series into one another."""
    found: dict[Any, Any] = {_S[0]: 1 / _D[0]}
    back = _truncate(sum(c * (_S[0] * d + _S[1] * d**2) ** n for n, c in enumerate(_D, 1)) - d, d, 2)
    found[_S[1]] = _root(back.coeff(d, 2), _S[1], _D[0], found)
    _require_zero(back.subs(found), "the inverted series is the inverse")
    return found[_S[0]], found[_S[1]]


def _multiplier() -> tuple[sp.Expr, sp.Expr]:
    """Coefficients of d and d^2 in the multiplier of two steps near 1.

    Its equation is [k(z) - mean][k(-z) - mean] = half^2 (see `_floquet`), and z = -1 + zeta with a small zeta.
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
    before = 1 - zeta / _GROWTH + _BEND * zeta**2 / 2  # k(z)/k*
    after = 1 - 1 / _SIGMA - _LAG * zeta  # k(-z)/k*
    row = _truncate((before - in_d(mean)) * (after - in_d(mean)) - in_d(half_sq), d, 2)
    _require_zero(row.coeff(d, 0), "the orbit is born with the multiplier 1")
    solved: dict[Any, Any] = {}
    for n, unknown in ((1, zeta1), (2, zeta2)):
        solved[unknown] = _root(row.coeff(d, n), unknown, 1 / (_GROWTH * _SIGMA), solved)
    two_steps = _truncate((zeta - 1) ** 2, d, 2)
    return two_steps.coeff(d, 1).subs(solved), two_steps.coeff(d, 2).subs(solved)


def _root(row: sp.Expr, unknown: sp.Symbol, slope: sp.Expr, known: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The root of an equation in which ``unknown`` stands with the monomial ``slope``, polynomial like the rest."""
    row = sp.expand(row)
    _require_zero(row.coeff(unknown, 1) - slope, "the equation is linear with the slope stated")
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


def _require_zero(expression: sp.Expr, what: str) -> None:
    """A derivation's check of itself."""
    if sp.cancel(sp.together(expression)) != 0:
        raise ArithmeticError(f"a check failed: {what}")
