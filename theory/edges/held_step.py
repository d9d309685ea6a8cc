"""An optax factory on a local quadratic -> its held one-step map, hyperparameters as symbols.

The factory is called inside the trace with traced scalars, so that its hyperparameters become SymPy symbols without a
word about which optimizer it is.  State leaves are sorted into *autonomous* (their update sees neither gradient nor
weights: counters, constants, schedules), *slow* (even under (w, g, fast) -> -(w, g, fast): second moments, maxima) and
*fast* (odd: momenta, delays).  The step is then cut at the updated slow leaves, which become positive constants, and
autonomous leaves take their limit t -> infinity (or their value at a given t: quasi-static).  What is left is linear
in (w, fast, g), or the rule has no linear edge.

`toylab.rules` holds the same rules by running and differentiating their code, without sharing a line with this module:
the symbols here and the numbers there are two derivations of one edge, and claims compare the two.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import NoLinearEdge
from theory.simplify import tidy
from theory.tracing.arrays import objects
from theory.tracing.factory_step import Traced, g, trace_factory, w
from theory.tracing.interpreter import evaluate
from theory.tracing.linearity import require_elementwise, require_linear
from theory.tracing.parities import Parities
from theory.tracing.schedules import AutonomousState, each, limit, require_settling
from theory.tracing.symbols import Hyperparameters, T, symbol_name


@dataclass(frozen=True)
class UpdateMap:
    """The held step on one eigendirection: (w, fast)+ = matrix (w, fast) + inject g.

    ``matrix`` (n+1, n+1) and ``inject`` (n+1,) hold SymPy expressions in the hyperparameters (``parameters.symbols``)
    and the held ``slow`` symbols; ``update`` is the traced update itself, cut, before differentiation.  ``region``:
    conditions on the hyperparameters under which the rule's code takes the branches that were traced.
    """

    parameters: Hyperparameters
    matrix: sp.Matrix
    inject: sp.Matrix
    slow: tuple[sp.Symbol, ...]
    fast: tuple[sp.Symbol, ...]
    update: sp.Expr
    step_map: dict[sp.Symbol, sp.Expr]
    region: tuple[sp.Basic, ...]
    assumptions: tuple[str, ...]
    t: int | None = None


def held_map(factory: Callable, t: int | None = None, **settings: Any) -> UpdateMap:
    """The held map of ``factory``; ``settings`` fix or add hyperparameters (see `theory.edge`).

    Raises `BadFactory`, `CannotTrace` or `NoLinearEdge` with the reason.
    """
    traced = trace_factory(factory, settings, t)
    autonomous = AutonomousState(traced, t)
    parities = Parities(traced, autonomous)
    held = _hold(traced, autonomous, parities, t)
    require_elementwise(factory, traced, autonomous, parities)
    return held


def _hold(traced: Traced, autonomous: AutonomousState, parities: Parities, t: int | None) -> UpdateMap:
    parameters = traced.parameters
    used: set[str] = {s.name for s in parameters.symbols.values()} | {"w", "g", "t", "z", "k"}

    def named(leaves: list[int], **assumptions: bool) -> dict[int, np.ndarray]:
        return {
            i: each(traced.init[i].shape, lambda _, i=i: _fresh(traced.names[i], used, **assumptions)) for i in leaves
        }

    slow, fast = named(parities.slow, positive=True), named(parities.fast, real=True)
    state = [slow[i] if i in slow else fast[i] if i in fast else autonomous.before[i] for i in range(len(traced.init))]
    slow_symbols = tuple(s for a in slow.values() for s in a.ravel())
    fast_symbols = tuple(s for a in fast.values() for s in a.ravel())
    decide = BranchDecider(autonomous, slow_symbols, fast_symbols)
    args = [*(objects(s) for s in parameters.symbols.values()), objects(w), objects(g), *state]

    watch: dict[sp.Expr, sp.Expr] = {}
    out = evaluate(traced.closed, args, decide)
    for _ in range(len(slow_symbols) + 1):  # one leaf may be computed from another: cut until all are cut
        uncut = [
            (out[1 + i][ix], slow[i][ix])
            for i in slow
            for ix in np.ndindex(slow[i].shape)
            if out[1 + i][ix] != slow[i][ix]
        ]
        if not uncut:
            break
        watch.update(uncut[:1])
        out = evaluate(traced.closed, args, decide, watch)
    else:
        raise NoLinearEdge("the slow state cannot be cut: two leaves are updated by the same expression")

    x = [w, *fast_symbols]
    after = [w + out[0][()], *(out[1 + i][ix] for i in fast for ix in np.ndindex(fast[i].shape))]
    step_map = {s: e - w if s is w else e for s, e in zip(x, after, strict=True)}
    small = require_linear(after, x, autonomous, slow_symbols)
    rest = {s: sp.Integer(0) for s in (*x, g)}

    def slope(e: sp.Expr, s: sp.Symbol) -> sp.Expr:
        value = sp.diff(e, s).subs(rest)
        if value.has(sp.nan, sp.zoo, sp.oo, sp.DiracDelta, sp.Derivative):
            raise NoLinearEdge("the held step has no derivative at rest (a norm, a root or a sign of the oscillation)")
        return tidy(autonomous.at_limit(value))

    matrix = sp.Matrix([[slope(e, s) for s in x] for e in after])
    inject = sp.Matrix([slope(e, g) for e in after])
    if all(v == 0 for v in inject):
        if any(sp.diff(e, g).subs(rest) != 0 for e in after):
            raise NoLinearEdge(
                "the step fades to nothing as the step number grows, so there is no threshold in the limit",
                "ask for the rule at a given step, `--set t=100` (quasi-static)",
            )
        raise NoLinearEdge("the held step does not respond to a small gradient in proportion (a sign or a dead zone)")
    notes = [*traced.notes, *decide.notes]
    if t is not None:
        notes.append(f"quasi-static: the step number is held at t = {t}")
    elif any(T in e.free_symbols for i in autonomous.leaves for e in autonomous.before[i].ravel()):
        notes.append("the step count is at its limit, t -> infinity (bias corrections are 1, schedules at their end)")
    if decide.small or small:
        notes.append("oscillations are small compared with the slow state")
    return UpdateMap(
        parameters,
        matrix,
        inject,
        slow_symbols,
        fast_symbols,
        out[0].item(),
        step_map,
        tuple(decide.region),
        tuple(notes),
        t,
    )


def _fresh(name: str, used: set[str], **assumptions: bool) -> sp.Symbol:
    base = symbol_name(name)
    candidate, n = base, 2
    while candidate in used:
        candidate, n = f"{base}{n}", n + 1
    used.add(candidate)
    return sp.Symbol(candidate, **assumptions)


class BranchDecider:
    """Settles `where` conditions of the held step; what it had to assume is noted."""

    def __init__(self, autonomous: AutonomousState, slow: tuple, fast: tuple):
        self.autonomous, self.notes, self.small = autonomous, [], False
        self.region: list[sp.Basic] = []
        self.hyper = autonomous.traced.parameters.numbers()
        # rest: oscillation far below everything else, slow state of order one
        tiny = sp.Float(10) ** -12
        self.rest = {s: tiny * (1 + n) for n, s in enumerate((g, *fast))} | {s: sp.Integer(1) for s in (w, *slow)}
        self.moving = {w, g, *fast}

    def __call__(self, condition: sp.Basic) -> bool | None:
        """Whether the condition holds near rest, at the reference hyperparameters and at the limit of the step number.

        None where that cannot be decided.
        """
        value = condition
        try:
            if T in value.free_symbols:
                value = value.replace(
                    lambda e: isinstance(e, sp.core.relational.Relational) and T in e.free_symbols,
                    self._relation_at_limit,
                )
        except (TypeError, NotImplementedError, NoLinearEdge):
            return None
        require_settling(value)
        try:
            if value in (sp.true, sp.false):
                return bool(value)
            settled = value.xreplace(self.hyper).xreplace(self.rest)
            settled = sp.simplify(settled) if settled not in (sp.true, sp.false) else settled
        except (TypeError, NotImplementedError):
            return None
        if settled not in (sp.true, sp.false):
            return None
        shown = value if settled == sp.true else sp.Not(value)
        if value.free_symbols & self.moving:
            self.small = True
            note = "the region near rest, where no clipping or other case distinction on the gradient acts"
        else:
            note = f"hyperparameters in the region where {shown}"
            if shown not in self.region:
                self.region.append(shown)
        if note not in self.notes:
            self.notes.append(note)
        return settled == sp.true

    def _relation_at_limit(self, relation: Any) -> Any:
        if self.autonomous.t is not None:
            return relation.xreplace({T: sp.Integer(self.autonomous.t)})
        if relation.has(sp.Mod):  # refused, unless the others decide
            return relation
        difference = relation.lhs - relation.rhs
        try:
            value = limit(difference, self.autonomous.traced.parameters)
        except NoLinearEdge:
            value = sp.limit(difference, T, sp.oo)
        return relation.func(value, 0)


def describe(factory: Callable) -> str:
    """Where the factory's code stands, for a theorem's source line."""
    settings = ""
    while isinstance(factory, functools.partial):
        settings = ", ".join(f"{key}={item}" for key, item in factory.keywords.items())
        factory = factory.func
    inner = inspect.unwrap(factory)
    module, name = getattr(inner, "__module__", "?"), getattr(inner, "__qualname__", repr(inner))
    return f"{module}.{name}" + (f"({settings})" if settings else "")
