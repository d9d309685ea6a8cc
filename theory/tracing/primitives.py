"""The primitives of JAX that act on single numbers, as functions of SymPy.

Float literals become the simplest rational that rounds to them, so 0.1 is 1/10.  Truth values are SymPy's; a condition
that is converted to a number becomes a Piecewise of 1 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import CannotTrace

_LONG = 20  # operations
_INT_MAX = {2**31 - 1, 2**63 - 1, 2**15 - 1, 2**7 - 1}


def rational(value: Any) -> Any:
    """The simplest exact number that rounds to ``value``: 0.1 -> 1/10, 0.333... -> 1/3; nan and inf are kept."""
    if isinstance(value, bool | np.bool_):
        return sp.true if value else sp.false
    if isinstance(value, int | np.integer):
        return sp.Integer(int(value))
    x, dtype = float(value), np.asarray(value).dtype
    if math.isnan(x):
        return sp.nan
    if math.isinf(x):
        return sp.oo if x > 0 else -sp.oo
    eps = float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.floating) else 2.0**-52
    exact = Fraction(x)
    # denominators whose square stays far below 1/eps: a fraction that fits by chance is then unlikely
    simple = exact.limit_denominator(10**6 if eps < 1e-12 else 10**3)
    if simple != 0 and abs(float(simple - exact)) <= 2 * eps * abs(x):
        return sp.Rational(simple.numerator, simple.denominator)
    turns = Fraction(x / math.pi).limit_denominator(1000 if eps < 1e-12 else 12)
    if turns != 0 and abs(float(turns) * math.pi - x) <= 2 * eps * abs(x):
        return sp.pi * sp.Rational(turns.numerator, turns.denominator)
    shortest = repr(np.asarray(value).dtype.type(value)).split("(")[-1].rstrip(")")  # shortest decimal of that dtype
    return sp.Rational(shortest)


def is_truth(item: Any) -> bool:
    """Whether a SymPy object is a truth value (a Symbol counts as a number, though SymPy derives it from Boolean)."""
    logic = sp.logic.boolalg
    return isinstance(item, logic.BooleanAtom | logic.BooleanFunction | sp.core.relational.Relational)


def _compare(relation: Any, a: Any, b: Any, integer: bool = False) -> Any:
    """A comparison, decided where it asks for overflow or, of whole numbers, whether a counter is saturated."""
    if relation in (sp.Eq, sp.Ne) and is_truth(a) and is_truth(b):
        return sp.Xor(a, b) if relation is sp.Ne else sp.Not(sp.Xor(a, b))
    for left, right, sign in ((a, b, 1), (b, a, -1)):
        saturated = right in (sp.oo, -sp.oo) or (integer and right.is_Integer and int(right) in _INT_MAX)
        if saturated and not left.is_number:
            below = sign * (-1 if right == -sp.oo else 1) > 0
            answers = {sp.Lt: below, sp.Le: below, sp.Gt: not below, sp.Ge: not below, sp.Eq: False, sp.Ne: True}
            return sp.true if answers[relation] else sp.false
    if a.is_number and b.is_number and not (a.is_Rational and b.is_Rational):
        a, b = (sp.nan if v.has(sp.nan) or v.has(sp.zoo) else sp.N(v, 30) for v in (a, b))
        if sp.nan in (a, b):
            return sp.true if relation is sp.Ne else sp.false
    return relation(a, b)


def to_even(v: sp.Expr) -> sp.Expr:
    """A number rounded to the nearest integer, a tie to the even one."""
    if not v.is_number:
        raise CannotTrace("round of a symbol has no translation into SymPy")
    return sp.Integer(round(v))


def away_from_zero(v: sp.Expr) -> sp.Expr:
    """A number rounded to the nearest integer, a tie away from zero."""
    return sp.sign(v) * sp.floor(sp.Abs(v) + sp.Rational(1, 2))


def converted(item: Any, target: np.dtype) -> Any:
    """A number or truth value as one of the type ``target``."""
    boolean = is_truth(item)
    if target == np.bool_:
        return item if boolean else _compare(sp.Ne, item, sp.Integer(0))
    if boolean:
        return sp.Piecewise((sp.Integer(1), item), (sp.Integer(0), True))
    if np.issubdtype(target, np.integer) and item.is_integer is not True:
        return sp.sign(item) * sp.floor(sp.Abs(item))
    return item


def _logic(symbolic: Callable, number: Callable) -> Callable:
    def apply(*args: Any) -> Any:
        if all(isinstance(a, sp.Integer) for a in args):
            return sp.Integer(number(*(int(a) for a in args)))
        return symbolic(*args)

    return apply


def _remainder(a: sp.Expr, b: sp.Expr) -> sp.Expr:  # the sign of the dividend, as in C
    if a.is_number and b.is_number:
        return a - b * sp.Integer(int(a / b))
    if a.is_nonnegative and b.is_positive:
        return sp.Mod(a, b)
    return sp.sign(a) * sp.Mod(sp.Abs(a), sp.Abs(b))


def _quotient(a: sp.Expr, b: sp.Expr) -> sp.Expr:  # towards zero, as in C
    if a.is_number and b.is_number:
        return sp.Integer(int(a / b))
    if a.is_nonnegative and b.is_positive:
        return sp.floor(a / b)
    return sp.sign(a) * sp.sign(b) * sp.floor(sp.Abs(a) / sp.Abs(b))


def _extreme(kind: Callable, a: sp.Expr, b: sp.Expr) -> sp.Expr:
    """A maximum or minimum; where a long expression takes part, SymPy does not try in vain which one is larger."""
    if a == b:
        return a
    long = not (a.is_number or b.is_number) and max(a.count_ops(), b.count_ops()) > _LONG
    return kind(a, b, evaluate=not long)


ELEMENTWISE: dict[str, Callable] = {
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "square": lambda a: a**2,
    "sqrt": sp.sqrt,
    "rsqrt": lambda a: 1 / sp.sqrt(a),
    "cbrt": lambda a: sp.sign(a) * sp.Abs(a) ** sp.Rational(1, 3),
    "exp": sp.exp,
    "exp2": lambda a: 2**a,
    "expm1": lambda a: sp.exp(a) - 1,
    "log": sp.log,
    "log1p": lambda a: sp.log(1 + a),
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "atan2": sp.atan2,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "asinh": sp.asinh,
    "acosh": sp.acosh,
    "atanh": sp.atanh,
    "erf": sp.erf,
    "erfc": sp.erfc,
    "lgamma": sp.loggamma,
    "logistic": lambda a: 1 / (1 + sp.exp(-a)),
    "abs": sp.Abs,
    "sign": sp.sign,
    "max": partial(_extreme, sp.Max),
    "min": partial(_extreme, sp.Min),
    "clamp": lambda low, x, high: sp.Min(sp.Max(x, low), high),
    "floor": sp.floor,
    "ceil": sp.ceiling,
    "rem": _remainder,
    "is_finite": lambda a: sp.false if a.has(sp.oo, sp.zoo, sp.nan, -sp.oo) else sp.true,
    "eq": partial(_compare, sp.Eq),
    "ne": partial(_compare, sp.Ne),
    "lt": partial(_compare, sp.Lt),
    "le": partial(_compare, sp.Le),
    "gt": partial(_compare, sp.Gt),
    "ge": partial(_compare, sp.Ge),
    "and": _logic(sp.And, lambda a, b: a & b),
    "or": _logic(sp.Or, lambda a, b: a | b),
    "xor": _logic(sp.Xor, lambda a, b: a ^ b),
    "not": _logic(sp.Not, lambda a: ~a),
    "copy": lambda a: a,
    "copy_p": lambda a: a,
    "stop_gradient": lambda a: a,
    "real": lambda a: a,
    "conj": lambda a: a,
    "nextafter": lambda a, b: a,
}


WHOLE: dict[str, Callable] = {
    "div": _quotient,
    **{
        name: partial(_compare, relation, integer=True)
        for name, relation in {"eq": sp.Eq, "ne": sp.Ne, "lt": sp.Lt, "le": sp.Le, "gt": sp.Gt, "ge": sp.Ge}.items()
    },
}
"""Primitives that mean something else for whole numbers than for reals."""
