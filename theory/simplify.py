"""How expressions are written: lowest terms, and factors that are positive where the rule is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import sympy as sp


def tidy(expr: Any) -> Any:
    """Rational parts in lowest terms, also under roots."""
    expr = expr.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer,
        lambda e: sp.factor(sp.cancel(e.base)) ** e.exp,
    )
    return sp.factor(expr) if expr.free_symbols else expr


class Reference(Protocol):
    """Symbols with a number for each, at which signs are decided (`theory.tracing.symbols.Hyperparameters`)."""

    def numbers(self) -> Mapping[sp.Symbol, sp.Expr]:
        """symbol -> its reference number."""
        ...


def readable(expr: Any, parameters: Reference) -> Any:
    """The same expression with every factor written so that it is positive at the reference numbers.

    ``None`` and expressions without symbols are returned as they are; a Piecewise is rewritten case by case.
    """
    if expr is None or not expr.free_symbols:
        return expr
    if isinstance(expr, sp.Piecewise):
        return sp.Piecewise(*((readable(e, parameters), condition) for e, condition in expr.args))
    values = parameters.numbers()
    sign: Any = sp.Integer(1)
    factors: list[Any] = []
    for factor in sp.Mul.make_args(expr):
        base, exponent = factor.as_base_exp()
        if base.is_Add and exponent.is_Integer and sp.N(base.xreplace(values)).is_negative:
            terms: Any = base.args
            base, sign = sp.Add(*(-term for term in terms)), sign * (-1) ** exponent
            factor = base**exponent
        elif exponent.is_Rational and not exponent.is_Integer:
            factor = readable(base, parameters) ** exponent
        factors.append(factor)
    return sp.Mul(sign, *factors)
