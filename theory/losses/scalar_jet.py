"""The derivatives of a scalar loss at a minimum, as symbols or read off its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.errors import Refusal
from theory.simplify import tidy
from theory.tracing.interpreter import symbolically

ORDER = 6
"""The highest derivative that the laws to second order need."""


class NotAMinimum(Refusal):
    """The point is not a strict local minimum of the loss, so no orbit of period 2 is born there."""

    hint = "give a point where the first derivative vanishes and the second is positive"


@dataclass(frozen=True)
class ScalarJet:
    """f'', f''', ... , f^(6) of a scalar loss at a minimum.

    derivatives  (a, c3, c4, c5, c6): the loss is a x^2/2 + c3 x^3/6 + c4 x^4/24 + ..., x measured from the minimum
    arguments    parameter name -> symbol, what the derivatives depend on
    assumptions  what was not decided while reading them
    source       where they come from
    """

    derivatives: tuple[sp.Expr, ...]
    arguments: Mapping[str, sp.Symbol]
    assumptions: tuple[str, ...]
    source: str

    @property
    def slope_coefficients(self) -> tuple[sp.Expr, ...]:
        """Coefficients of 1, x, x^2, ... in f'(x)."""
        return (sp.Integer(0), *(c / sp.factorial(j + 1) for j, c in enumerate(self.derivatives)))


def symbolic_jet() -> ScalarJet:
    """The jet whose derivatives are the symbols a > 0, c3, c4, c5, c6."""
    a, *rest = symbols = (sp.Symbol("a", positive=True), *sp.symbols(f"c3:{ORDER + 1}", real=True))
    named = {s.name: s for s in symbols}
    return ScalarJet((a, *rest), named, ("a = f'' > 0",), "Taylor expansion of a scalar loss at a strict minimum")


def loss_jet(loss: Callable, at: Any = 0, **parameters: Any) -> ScalarJet:
    """The jet of ``loss(x, **parameters)``, a JAX function of a scalar, at the point ``at``.

    ``at`` and the parameters are numbers or SymPy expressions; symbols become the arguments of the theorem.  The
    loss is traced and differentiated in SymPy.  Raises `NotAMinimum`, or `CannotTrace` for code without translation.
    """
    x = sp.Symbol("x", real=True)
    names = list(parameters)
    values = [sp.sympify(v) for v in parameters.values()]
    expression = symbolically(lambda x, *given: loss(x, **dict(zip(names, given, strict=True))))(x, *values)
    point = sp.sympify(at)
    derivatives: list[Any] = []
    for _ in range(ORDER):
        expression = sp.diff(expression, x)
        derivatives.append(tidy(sp.sympify(expression.subs(x, point)).doit()))
    first, second, *_ = derivatives
    if any(
        e.has(sp.DiracDelta, sp.Heaviside, sp.sign, sp.Abs, sp.Derivative, sp.nan, sp.zoo, sp.oo) for e in derivatives
    ):
        raise NotAMinimum(
            f"the loss is not smooth at {sp.sstr(point)} as its code is written",
            "write it without absolute values, maxima or guards (log1p(exp(x)) instead of softplus)",
        )
    if first.equals(0) is not True:
        raise NotAMinimum(f"got a first derivative {sp.sstr(first)} at {sp.sstr(point)}, zero was needed")
    if second.is_positive is False:
        raise NotAMinimum(f"got a second derivative {sp.sstr(second)} at {sp.sstr(point)}, a positive one was needed")
    symbols = sorted(set().union(*(e.free_symbols for e in derivatives)), key=lambda s: s.name)
    taken = [f"{sp.sstr(second)} = f'' > 0"] if second.is_positive is not True else []
    where = f"{getattr(loss, '__module__', '?')}.{getattr(loss, '__qualname__', repr(loss))} at {sp.sstr(point)}"
    return ScalarJet(tuple(derivatives[1:]), {s.name: s for s in symbols}, tuple(taken), where)
