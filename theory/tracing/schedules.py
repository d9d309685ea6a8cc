"""State that evolves by itself - counters, constants, schedules - in closed form, and its limit t -> infinity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import NoLinearEdge
from theory.tracing.arrays import objects
from theory.tracing.factory_step import Traced, g, w
from theory.tracing.interpreter import evaluate
from theory.tracing.symbols import Hyperparameters, T

_LONGEST = 100  # steps in which a period is looked for
_ALIKE = "no step is like the next, so there is no threshold in the limit"
_PERIODIC = "write one period as a step of its own: a rule that repeats itself is stable or not over a whole period"


def require_settling(expr: sp.Basic) -> None:
    """Refuse what comes back again and again as the step number grows."""
    for e in sorted(expr.atoms(sp.Mod), key=str):
        if T in e.free_symbols:
            raise NoLinearEdge(
                f"the rule repeats itself (its step number is taken modulo {e.args[1]}): {_ALIKE}", _PERIODIC
            )


class AutonomousState:
    """Autonomous leaves as functions of the step number t, and what becomes of expressions in t."""

    def __init__(self, traced: Traced, t: int | None):
        self.t, self.traced = t, traced
        shapes = [array.shape for array in traced.init]
        self.symbols = [
            each(shape, lambda i, name=name, n=n: sp.Symbol(f"{name}_{n}{i}", real=True))
            for n, (name, shape) in enumerate(zip(traced.names, shapes, strict=True))
        ]
        self._run_free()
        self.before: dict[int, np.ndarray] = {}
        self._solve()

    def _run_free(self) -> None:
        args = [objects(s) for s in self.traced.parameters.symbols.values()]
        out = evaluate(self.traced.closed, [*args, objects(w), objects(g), *self.symbols])
        self.free = out[1:]
        hyper = set(self.traced.parameters.symbols.values())
        self.leaves = set(range(len(self.free)))
        while True:
            known = hyper | {s for i in self.leaves for s in self.symbols[i].ravel()}
            drop = {i for i in self.leaves if not _free_symbols(self.free[i]) <= known}
            if not drop:
                return
            self.leaves -= drop

    def _solve(self) -> None:
        """Closed form of s(t) for each autonomous leaf: constants first, then affine recursions, then the rest."""
        left = set(self.leaves)
        while left:
            progress = False
            for i in sorted(left):
                own = set(self.symbols[i].ravel())
                others = {s for j in left - {i} for s in self.symbols[j].ravel()}
                if _free_symbols(self.free[i]) & others:
                    continue
                recursion = each(self.free[i].shape, lambda ix, i=i: self.now(self.free[i][ix]))
                self.before[i] = each(
                    recursion.shape,
                    lambda ix, i=i, r=recursion, own=own: self._closed(
                        self.traced.init[i][ix], r[ix], self.symbols[i][ix]
                    ),
                )
                left.discard(i)
                progress = True
            if not progress:
                names = ", ".join(self.traced.names[i] for i in sorted(left))
                raise NoLinearEdge(f"the schedule state ({names}) has no closed form in the step number")

    def now(self, expr: sp.Basic) -> sp.Basic:
        """``expr`` with the autonomous leaves known so far written as functions of t, before the step."""
        known = {s: v for i, a in self.before.items() for s, v in zip(self.symbols[i].ravel(), a.ravel(), strict=True)}
        return expr.xreplace(known) if known else expr

    def _closed(self, start: sp.Basic, after: sp.Basic, own: sp.Symbol) -> sp.Basic:
        if after == own:
            return start
        if own not in after.free_symbols:  # a value set anew at every step, by the counters: its old value is t - 1's
            return start if self.t == 1 else after.xreplace({T: T - 1}) if T in after.free_symbols else after
        first = after.xreplace({own: start})
        second = after.xreplace({own: first})
        if T not in after.free_symbols:
            if _same(first, second):
                return first
            factor = sp.diff(after, own)
            if own not in factor.free_symbols:
                shift = sp.cancel(after.xreplace({own: sp.Integer(0)}))
                n = T - 1
                if factor == 1:
                    return start + n * shift
                return factor**n * start + shift * (1 - factor**n) / (1 - factor)
        name = own.name.rsplit("_", 1)[0]
        period = self._period(start, after, own)
        if period is not None:
            raise NoLinearEdge(
                f"the rule repeats itself every {period} steps ({name} counts them): {_ALIKE}", _PERIODIC
            )
        raise NoLinearEdge(f"the schedule state {name} has no closed form in the step number")

    def _period(self, start: sp.Basic, after: sp.Basic, own: sp.Symbol) -> int | None:
        """After how many steps the leaf is back where it started."""
        numbers = self.traced.parameters.values()
        start, after = start.xreplace(numbers), after.xreplace(numbers)
        value = start
        for n in range(1, _LONGEST + 1):
            value = after.xreplace({own: value})
            if value == start:
                return n
        return None

    def at_limit(self, expr: sp.Expr) -> sp.Expr:
        """t -> infinity, or t = the given step."""
        if T not in expr.free_symbols:
            return expr
        if self.t is not None:
            return self._held(expr)
        return limit(expr, self.traced.parameters)

    def _held(self, expr: Any) -> Any:
        """t stays a symbol in powers, b^t, where its number would blow up polynomials; elsewhere it becomes one."""
        number = {T: sp.Integer(self.t)}
        expr = expr.replace(lambda e: isinstance(e, sp.Min | sp.Max) and e.has(T), lambda e: e.xreplace(number))
        powers = {p: sp.Dummy(positive=True) for p in expr.atoms(sp.Pow) if p.exp.has(T) and not p.base.has(T)}
        if expr.xreplace(powers).has(T):
            rest = expr.xreplace(powers).xreplace(number)
            expr = rest.xreplace({dummy: power for power, dummy in powers.items()})
        return sp.expand_power_exp(expr)


def limit(expr: Any, parameters: Hyperparameters) -> Any:
    """lim t -> infinity, powers of quantities inside the unit interval going to zero first."""
    require_settling(expr)

    def fades(base: sp.Expr, exponent: sp.Expr) -> bool:
        if T not in exponent.free_symbols or T in base.free_symbols:
            return False
        slope = sp.diff(exponent, T)
        if slope.is_number and slope.is_positive:
            value = base.xreplace(parameters.values())
            return bool(value.is_number and sp.Abs(value) < 1)
        return False

    expr = expr.replace(lambda e: e.is_Pow and fades(e.base, e.exp), lambda e: sp.Integer(0))
    expr = expr.replace(
        lambda e: isinstance(e, sp.exp) and T in e.free_symbols and sp.limit(e.args[0], T, sp.oo) == -sp.oo,
        lambda e: sp.Integer(0),
    )
    expr = expr.replace(lambda e: isinstance(e, sp.Min | sp.Max) and T in e.free_symbols, lambda e: _extreme(e))
    if T not in expr.free_symbols:
        return expr
    expr = sp.cancel(expr) if expr.is_rational_function(T) else expr
    limit_value = sp.limit(expr, T, sp.oo)
    if limit_value.has(sp.AccumBounds):
        raise NoLinearEdge(
            f"a schedule goes on oscillating as the step number grows, it has no limit: {expr}",
            "ask for the rule at a given step, `--set t=100` (quasi-static)",
        )
    if limit_value.has(sp.oo, -sp.oo, sp.nan, sp.zoo, sp.Limit) or T in limit_value.free_symbols:
        raise NoLinearEdge(
            f"a coefficient has no limit as the step number grows: {expr}",
            "ask for the rule at a given step, `--set t=100` (quasi-static)",
        )
    return limit_value


def _extreme(e: Any) -> Any:
    """A maximum or minimum at t -> infinity, where each of its arguments converges or grows."""
    ends = [sp.limit(a, T, sp.oo) if T in a.free_symbols else a for a in e.args]
    if all(end.is_finite for end in ends):
        return e.func(*ends)
    growing = [a for a, end in zip(e.args, ends, strict=True) if end == sp.oo]
    rest = [a for a in e.args if a not in growing]
    if growing and not any(T in a.free_symbols for a in rest):
        return e.func(*rest) if isinstance(e, sp.Min) else growing[0]
    return e


def _free_symbols(array: np.ndarray) -> set:
    return set().union(*(e.free_symbols for e in array.ravel())) if array.size else set()


def _same(a: Any, b: Any) -> bool:
    return a == b or sp.simplify(a - b) == 0


def each(shape: tuple, fn: Callable) -> np.ndarray:
    """An object array of ``shape`` with ``fn(index)`` in every place."""
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        out[index] = fn(index)
    return out
