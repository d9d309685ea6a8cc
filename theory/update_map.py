"""An optax factory on a local quadratic -> its held one-step map, hyperparameters as symbols.

The factory is called inside the trace with traced scalars, so that its hyperparameters become SymPy symbols without a
word about which optimizer it is.  State leaves are sorted into *autonomous* (their update sees neither gradient nor
weights: counters, constants, schedules), *slow* (even under (w, g, fast) -> -(w, g, fast): second moments, maxima) and
*fast* (odd: momenta, delays).  The step is then cut at the updated slow leaves, which become positive constants, and
autonomous leaves take their limit t -> infinity (or their value at a given t: quasi-static).  What is left is linear
in (w, fast, g), or the rule has no linear edge.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from theory.errors import BadFactory, CannotTrace, NoLinearEdge
from theory.symbols import Hyperparameters, hyperparameters, name_of, symbol_name
from theory.trace import evaluate, is_truth, objects, program

w, g = sp.symbols("w g", real=True)
T = sp.Symbol("t", integer=True, positive=True)

_DIGITS = 30  # precision of the numeric probes; exact answers differ from wrong ones in the first few of them
_PROBES = 3
_ALMOST = sp.Float(10) ** -14  # superposition: DESIGN's bound


@dataclass(frozen=True)
class UpdateMap:
    """The held step on one eigendirection: (w, fast)+ = matrix (w, fast) + inject g.

    ``matrix`` (n+1, n+1) and ``inject`` (n+1,) hold SymPy expressions in the hyperparameters (``parameters.symbols``)
    and the held ``slow`` symbols; ``update`` is the traced update itself, cut, before differentiation.
    """

    parameters: Hyperparameters
    matrix: sp.Matrix
    inject: sp.Matrix
    slow: tuple[sp.Symbol, ...]
    fast: tuple[sp.Symbol, ...]
    update: sp.Expr
    step_map: dict[sp.Symbol, sp.Expr]
    assumptions: tuple[str, ...]
    t: int | None = None


@dataclass
class _Traced:
    closed: Any
    init: list[np.ndarray]
    names: list[str]
    parameters: Hyperparameters
    notes: list[str] = field(default_factory=list)


def update_map(factory: Callable, t: int | None = None, **settings: Any) -> UpdateMap:
    """The held map of ``factory``; ``settings`` fix or add hyperparameters (see `theory.edge`).

    Raises `BadFactory`, `CannotTrace` or `NoLinearEdge` with the reason.
    """
    traced = _trace(factory, settings)
    schedule = _Schedule(traced, t)
    roles = _Roles(traced, schedule)
    held = _hold(traced, schedule, roles, t)
    _require_elementwise(factory, traced, schedule, roles)
    return held


# ---------------------------------------------------------------------------------------------------------------
# Tracing


def _trace(factory: Callable, settings: dict[str, Any]) -> _Traced:
    parameters = hyperparameters(factory, settings)
    notes: list[str] = []
    while True:
        try:
            return _trace_with(factory, parameters, notes)
        except CannotTrace as error:
            smaller = _blame(factory, parameters)
            if smaller is None:
                raise
            dropped = next(n for n in parameters.symbols if n not in smaller.symbols)
            notes.append(f"{dropped} = {parameters.reference[dropped]}, since the rule's own code branches on it")
            parameters = smaller
            del error


def _blame(factory: Callable, parameters: Hyperparameters) -> Hyperparameters | None:
    """The first hyperparameter that, fixed to its default, lets the factory be traced; None if there is none."""
    for name in reversed(list(parameters.symbols)):
        if name == parameters.learning_rate:
            continue
        smaller = parameters.fix(name)
        try:
            _trace_with(factory, smaller, [])
        except CannotTrace:
            continue
        except BadFactory:
            continue
        return smaller
    return None


def _trace_with(factory: Callable, parameters: Hyperparameters, notes: list[str], shape: tuple = ()) -> _Traced:
    names = list(parameters.symbols)
    real = jnp.result_type(float)
    scalar = jax.ShapeDtypeStruct((), real)

    def build(values: tuple) -> Any:
        try:
            made = factory(**parameters.fixed, **dict(zip(names, values, strict=True)))
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            raise
        except Exception as error:
            raise BadFactory(
                f"the factory raised {type(error).__name__} when called with {', '.join(names) or 'no numbers'}: "
                f"{' '.join(str(error).split())[:160]}"
            ) from error
        if not (callable(getattr(made, "init", None)) and callable(getattr(made, "update", None))):
            raise BadFactory(
                f"the factory returned {type(made).__name__}, an optax.GradientTransformation was needed"
            )
        return made

    start, state_tree = program(lambda *v: build(v).init(jnp.zeros(shape, real)), *[scalar] * len(names))
    init = evaluate(start, [objects(s) for s in parameters.symbols.values()])
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in start.jaxpr.outvars]

    def step(*flat: Any) -> Any:
        made = build(flat[: len(names)])
        weight, gradient, *leaves = flat[len(names) :]
        try:
            update, state = made.update(gradient, jax.tree.unflatten(state_tree, leaves), weight)
        except TypeError as error:
            if "argument" in str(error):
                raise BadFactory(
                    f"its update needs extra arguments: {' '.join(str(error).split())[:160]}",
                    "rules that ask for the loss value or a gradient function have no update map on a quadratic alone",
                ) from error
            raise
        return [update, *jax.tree.leaves(state)]

    weights = jax.ShapeDtypeStruct(shape, real)
    closed, _ = program(step, *[scalar] * len(names), weights, weights, *avals)
    if len(closed.jaxpr.outvars) != 1 + len(avals):
        raise NoLinearEdge("the update returns a state of another structure than it was given")
    paths = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(state_tree, range(len(avals))))[0]
    return _Traced(closed, init, [name_of(path) for path, _ in paths], parameters, notes)


# ---------------------------------------------------------------------------------------------------------------
# Autonomous leaves


class _Schedule:
    """Autonomous leaves as functions of the step number t, and what becomes of expressions in t."""

    def __init__(self, traced: _Traced, t: int | None):
        self.t, self.traced = t, traced
        shapes = [array.shape for array in traced.init]
        self.symbols = [
            _each(shape, lambda i, name=name, n=n: sp.Symbol(f"{name}_{n}{i}", real=True))
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
        self.autonomous = set(range(len(self.free)))
        while True:
            known = hyper | {s for i in self.autonomous for s in self.symbols[i].ravel()}
            drop = {i for i in self.autonomous if not _free_symbols(self.free[i]) <= known}
            if not drop:
                return
            self.autonomous -= drop

    def _solve(self) -> None:
        """Closed form of s(t) for each autonomous leaf: constants first, then affine recursions, then the rest."""
        left = set(self.autonomous)
        while left:
            progress = False
            for i in sorted(left):
                own = set(self.symbols[i].ravel())
                others = {s for j in left - {i} for s in self.symbols[j].ravel()}
                if _free_symbols(self.free[i]) & others:
                    continue
                recursion = _each(self.free[i].shape, lambda ix, i=i: self.now(self.free[i][ix]))
                self.before[i] = _each(
                    recursion.shape,
                    lambda ix, i=i, r=recursion, own=own: self._closed(self.traced.init[i][ix], r[ix], self.symbols[i][ix]),
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
        raise NoLinearEdge(f"the schedule state {own} has no closed form in the step number")

    def at_limit(self, expr: sp.Expr) -> sp.Expr:
        """t -> infinity, or t = the given step."""
        if T not in expr.free_symbols:
            return expr
        if self.t is not None:
            return expr.xreplace({T: sp.Integer(self.t)})
        return limit(expr, self.traced.parameters)


def limit(expr: sp.Expr, parameters: Hyperparameters) -> sp.Expr:
    """lim t -> infinity, powers of quantities inside the unit interval going to zero first."""

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
    expr = expr.replace(
        lambda e: isinstance(e, sp.Min | sp.Max) and T in e.free_symbols, lambda e: _extreme(e)
    )
    if T not in expr.free_symbols:
        return expr
    expr = sp.cancel(expr) if expr.is_rational_function(T) else expr
    found = sp.limit(expr, T, sp.oo)
    if found.has(sp.oo, -sp.oo, sp.nan, sp.zoo, sp.Limit) or T in found.free_symbols:
        raise NoLinearEdge(
            f"a coefficient has no limit as the step number grows: {expr}",
            "ask for the rule at a given step, `--set t=100` (quasi-static)",
        )
    return found


def _extreme(e: sp.Expr) -> sp.Expr:
    growing = [a for a in e.args if T in a.free_symbols]
    rest = [a for a in e.args if T not in a.free_symbols]
    if all(sp.limit(a, T, sp.oo) == sp.oo for a in growing):
        return e.func(*rest) if isinstance(e, sp.Min) else growing[0]
    return e


# ---------------------------------------------------------------------------------------------------------------
# Roles


class _Roles:
    """Parity of the remaining leaves, found by probing the traced step with 30-digit numbers."""

    def __init__(self, traced: _Traced, schedule: _Schedule):
        self.traced, self.schedule = traced, schedule
        self.rest = [i for i in range(len(traced.init)) if i not in schedule.autonomous]
        rng = random.Random(0)
        points = [self._point(rng) for _ in range(_PROBES)]
        for signs in sorted(itertools.product((1, -1), repeat=len(self.rest)), key=lambda s: -sum(s)):
            sign = dict(zip(self.rest, signs, strict=True))
            if all(self._equivariant(point, sign) for point in points):
                self.slow = [i for i in self.rest if sign[i] == 1]
                self.fast = [i for i in self.rest if sign[i] == -1]
                return
        raise NoLinearEdge("the step is not odd in the gradient: flipping every sign does not flip the update")

    def _point(self, rng: random.Random) -> tuple[sp.Float, sp.Float, dict[int, np.ndarray]]:
        def draw(scale: float = 1.0) -> sp.Float:
            return sp.Float(scale * rng.uniform(0.5, 1.5), _DIGITS)

        leaves = {i: _each(self.traced.init[i].shape, lambda _: draw()) for i in self.rest}
        return draw(0.1) * rng.choice((1, -1)), draw(0.1) * rng.choice((1, -1)), leaves

    def run(self, weight: Any, gradient: Any, leaves: dict[int, np.ndarray]) -> list[np.ndarray]:
        """One uncut step with numbers; t = 10,000 stands in for its limit (parity does not depend on it)."""
        values = self.traced.parameters.values()
        step = sp.Float(self.schedule.t or 10_000, _DIGITS)  # not an Integer: no exact powers of that order
        hyper = [objects(sp.N(v, _DIGITS)) for v in values.values()]

        def number(e: Any) -> Any:
            if is_truth(e):
                return e
            return sp.N(e.xreplace({T: step} | {s: sp.N(v, _DIGITS) for s, v in values.items()}), _DIGITS)

        state = [
            leaves[i] if i in leaves else _each(array.shape, lambda ix, i=i: number(self.schedule.before[i][ix]))
            for i, array in enumerate(self.traced.init)
        ]
        return evaluate(self.traced.closed, [*hyper, objects(weight), objects(gradient), *state])

    def _equivariant(self, point: tuple, sign: dict[int, int]) -> bool:
        try:
            return self._flips(point, sign)
        except CannotTrace:  # a comparison of complex numbers: a root of a quantity that this assignment makes negative
            return False

    def _flips(self, point: tuple, sign: dict[int, int]) -> bool:
        weight, gradient, leaves = point
        leaves = {i: objects(a * sp.Float(0.1, _DIGITS)) if sign[i] == -1 else a for i, a in leaves.items()}
        there = self.run(weight, gradient, leaves)
        back = self.run(-weight, -gradient, {i: objects(a * sign[i]) for i, a in leaves.items()})
        pairs = [(there[0], objects(-back[0])), *((there[1 + i], objects(back[1 + i] * sign[i])) for i in self.rest)]
        return all(_equal(a, b) for left, right in pairs for a, b in zip(left.ravel(), right.ravel(), strict=True))


def _equal(a: Any, b: Any) -> bool:
    a, b = sp.N(a, _DIGITS), sp.N(b, _DIGITS)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite and a.is_real and b.is_real):
        return False
    return bool(sp.Abs(a - b) <= sp.Float(10) ** (5 - _DIGITS) * (1 + sp.Abs(a)))


# ---------------------------------------------------------------------------------------------------------------
# Holding


def _hold(traced: _Traced, schedule: _Schedule, roles: _Roles, t: int | None) -> UpdateMap:
    parameters = traced.parameters
    used: set[str] = {s.name for s in parameters.symbols.values()} | {"w", "g", "t", "z", "k"}
    slow = {i: _each(traced.init[i].shape, lambda ix, i=i: _fresh(traced.names[i], used, positive=True)) for i in roles.slow}
    fast = {i: _each(traced.init[i].shape, lambda ix, i=i: _fresh(traced.names[i], used, real=True)) for i in roles.fast}
    state = [
        slow[i] if i in slow else fast[i] if i in fast else schedule.before[i] for i in range(len(traced.init))
    ]
    slow_symbols = tuple(s for a in slow.values() for s in a.ravel())
    fast_symbols = tuple(s for a in fast.values() for s in a.ravel())
    decide = _Decider(schedule, slow_symbols, fast_symbols)
    args = [*(objects(s) for s in parameters.symbols.values()), objects(w), objects(g), *state]

    watch: dict[sp.Expr, sp.Expr] = {}
    out = evaluate(traced.closed, args, decide)
    for _ in range(len(slow_symbols) + 1):  # one leaf may be computed from another: cut until all are cut
        loose = [
            (out[1 + i][ix], slow[i][ix]) for i in slow for ix in np.ndindex(slow[i].shape) if out[1 + i][ix] != slow[i][ix]
        ]
        if not loose:
            break
        watch.update(loose[:1])
        out = evaluate(traced.closed, args, decide, watch)
    else:
        raise NoLinearEdge("the slow state cannot be cut: two leaves are updated by the same expression")

    x = [w, *fast_symbols]
    after = [w + out[0][()], *(out[1 + i][ix] for i in fast for ix in np.ndindex(fast[i].shape))]
    step_map = {s: e - w if s is w else e for s, e in zip(x, after, strict=True)}
    _require_linear(after, x, schedule, slow_symbols)
    rest = {s: sp.Integer(0) for s in (*x, g)}

    def slope(e: sp.Expr, s: sp.Symbol) -> sp.Expr:
        value = sp.diff(e, s).subs(rest)
        if value.has(sp.nan, sp.zoo, sp.oo, sp.DiracDelta, sp.Derivative):
            raise NoLinearEdge("the held step has no derivative at rest (a norm, a root or a sign of the oscillation)")
        return tidy(schedule.at_limit(value))

    matrix = sp.Matrix([[slope(e, s) for s in x] for e in after])
    inject = sp.Matrix([slope(e, g) for e in after])
    if all(v == 0 for v in inject):
        raise NoLinearEdge("the held step does not respond to a small gradient in proportion (a sign or a dead zone)")
    notes = [*traced.notes, *decide.notes]
    if t is not None:
        notes.append(f"quasi-static: the step count is held at t = {t}")
    elif schedule.autonomous and any(T in e.free_symbols for i in schedule.autonomous for e in schedule.before[i].ravel()):
        notes.append("the step count is at its limit, t -> infinity (bias corrections are 1, schedules at their end)")
    if decide.small:
        notes.append("oscillations are small compared with the slow state")
    return UpdateMap(parameters, matrix, inject, slow_symbols, fast_symbols, out[0][()], step_map, tuple(notes), t)


def _fresh(name: str, used: set[str], **assumptions: bool) -> sp.Symbol:
    base = symbol_name(name)
    candidate, n = base, 2
    while candidate in used:
        candidate, n = f"{base}{n}", n + 1
    used.add(candidate)
    return sp.Symbol(candidate, **assumptions)


class _Decider:
    """Settles `where` conditions of the held step; what it had to assume is noted."""

    def __init__(self, schedule: _Schedule, slow: tuple, fast: tuple):
        self.schedule, self.notes, self.small = schedule, [], False
        self.hyper = schedule.traced.parameters.values()
        # rest: oscillation far below everything else, slow state of order one
        tiny = sp.Float(10) ** -12
        self.rest = {s: tiny * (1 + n) for n, s in enumerate((g, *fast))} | {s: sp.Integer(1) for s in (w, *slow)}
        self.moving = {w, g, *fast}

    def __call__(self, condition: sp.Basic) -> bool | None:
        try:
            value = condition
            if T in value.free_symbols:
                value = value.replace(
                    lambda e: isinstance(e, sp.core.relational.Relational) and T in e.free_symbols, self._relation_at_limit
                )
            if value in (sp.true, sp.false):
                return bool(value)
            settled = value.xreplace(self.hyper).xreplace(self.rest)
            settled = sp.simplify(settled) if settled not in (sp.true, sp.false) else settled
        except (TypeError, NotImplementedError, NoLinearEdge):
            return None
        if settled not in (sp.true, sp.false):
            return None
        shown = value if settled == sp.true else sp.Not(value)
        if value.free_symbols & self.moving:
            self.small = True
            note = "the region near rest, where no clipping or other case distinction on the gradient acts"
        else:
            note = f"hyperparameters in the region where {shown}"
        if note not in self.notes:
            self.notes.append(note)
        return settled == sp.true

    def _relation_at_limit(self, relation: Any) -> Any:
        if self.schedule.t is not None:
            return relation.xreplace({T: sp.Integer(self.schedule.t)})
        difference = relation.lhs - relation.rhs
        try:
            value = limit(difference, self.schedule.traced.parameters)
        except NoLinearEdge:
            value = sp.limit(difference, T, sp.oo)
        return relation.func(value, 0)


def _require_linear(after: list[sp.Expr], x: list[sp.Symbol], schedule: _Schedule, slow: tuple) -> None:
    """f(a) + f(b) = f(a + b) with 30-digit numbers, at finite weights; oscillations of order one, or else small."""
    rng = random.Random(1)
    hyper = schedule.traced.parameters.values()
    given = {s: sp.Float(rng.uniform(0.5, 1.5), _DIGITS) for s in slow}
    numbers = {s: sp.N(v, _DIGITS) for s, v in hyper.items()} | given | {T: sp.Float(schedule.t or 10_000, _DIGITS)}
    reduced = [e.xreplace(numbers) for e in after]

    def run(point: dict) -> list[sp.Expr]:
        return [sp.N(e.xreplace(point), _DIGITS) for e in reduced]

    worst = sp.Integer(0)
    for small in (sp.Integer(1), sp.Float(10) ** -10):
        worst = sp.Integer(0)
        for _ in range(_PROBES):
            a, b = (
                {s: sp.Float(rng.gauss(0, 1), _DIGITS) * (1 if s is w else small) for s in (*x, g)} for _ in range(2)
            )
            both = run({s: a[s] + b[s] for s in a})
            for one, other, together in zip(run(a), run(b), both, strict=True):
                if not all(v.is_number and v.is_finite for v in (one, other, together)):
                    worst = sp.oo
                    continue
                # without the weight's own share: an error in the oscillation must show beside a large weight
                scale = small * (sp.Abs(one) + sp.Abs(other) + sp.Abs(together)) + sp.Float(10) ** -25
                worst = sp.Max(worst, sp.Abs(one + other - together) / scale)
        if worst < _ALMOST * 10**4:
            return
    raise NoLinearEdge(_why_not_linear(run, x, rng))


def _why_not_linear(run: Callable, x: list[sp.Symbol], rng: random.Random) -> str:
    """The reason in the user's terms, found by scaling the arguments one group at a time."""
    point = {s: sp.Float(rng.gauss(0, 1), _DIGITS) for s in (*x, g)}
    still = {s: sp.Integer(0) if s is not w else v for s, v in point.items()}

    def response(weight: int, oscillation: int) -> sp.Expr:
        scaled = {s: v * (weight if s is w else oscillation) for s, v in point.items()}
        rest = {s: v * (weight if s is w else 1) for s, v in still.items()}
        one, other = run(scaled)[0], run(rest)[0]
        return one - other if other.is_number and other.is_finite else one - scaled[w]

    base = response(1, 1)
    if _equal(response(1, 3), base):
        return "the step does not grow with the gradient, u(c g) = u(g): a sign or a normalised update has no linear edge"
    if not _equal(response(3, 1), base):
        return "the response to the gradient depends on the size of the weights (a trust ratio or parameter scaling)"
    return "the held step is not linear in (weights, gradient, fast state): superposition fails"


_BLOCK = (2, 2)


def _require_elementwise(factory: Callable, scalar: _Traced, schedule: _Schedule, roles: _Roles) -> None:
    """On a matrix of weights, the held step must act on each entry by itself: probed with numbers."""
    block = _trace_with(factory, scalar.parameters, [], _BLOCK)
    if block.names != scalar.names:
        raise NoLinearEdge(
            f"the rule treats a matrix of weights differently from a scalar: its state is {', '.join(block.names)} there",
            "derive it with the options that make it elementwise, if it has any",
        )
    rng = random.Random(2)
    values = [objects(sp.N(v, _DIGITS)) for v in scalar.parameters.values().values()]
    step = {T: sp.Float(schedule.t or 10_000, _DIGITS)} | {
        s: sp.N(v, _DIGITS) for s, v in scalar.parameters.values().items()
    }

    def draw(shape: tuple, scale: float) -> np.ndarray:
        return _each(shape, lambda _: sp.Float(scale * rng.uniform(0.5, 1.5), _DIGITS))

    weights = draw(_BLOCK, 1.0)
    small = 1e-10  # clipped and centred rules are linear for small oscillations
    leaves = {i: draw(block.init[i].shape, small if i in roles.fast else 1.0) for i in roles.rest}
    held = {i: draw(block.init[i].shape, 1.0) for i in roles.slow}

    def number(e: Any) -> Any:
        return e if is_truth(e) else sp.N(e.xreplace(step), _DIGITS)

    state = [
        leaves[i] if i in leaves else np.broadcast_to(_each((), lambda _, i=i: number(schedule.before[i].flat[0])), a.shape)
        for i, a in enumerate(block.init)
    ]

    def run(gradient: np.ndarray) -> np.ndarray:
        watch: dict[sp.Expr, sp.Expr] = {}
        for i in roles.slow:  # cut one leaf after the other: a later one may be computed from an earlier one
            out = evaluate(block.closed, [*values, weights, gradient, *state], None, watch)
            pairs = zip(out[1 + i].ravel(), held[i].ravel(), strict=True)
            watch.update({new: value for new, value in pairs if new != value})
        return evaluate(block.closed, [*values, weights, gradient, *state], None, watch)[0]

    gradient = draw(_BLOCK, small)
    kicked = gradient.copy()
    kicked[0, 0] = 2 * kicked[0, 0]
    try:
        before, after = run(gradient), run(kicked)
    except CannotTrace as error:
        raise NoLinearEdge(f"on a matrix of weights the rule uses what has no translation: {error.reason}") from error
    moved = [abs(a - b) for a, b in zip(after.ravel(), before.ravel(), strict=True)]
    if not all(m.is_number and m.is_finite for m in moved) or max(moved[1:]) > moved[0] * sp.Float(10) ** -6:
        raise NoLinearEdge("the held step mixes the coordinates of a matrix of weights: P is not diagonal there")


def tidy(expr: sp.Expr) -> sp.Expr:
    """Rational parts in lowest terms, also under roots."""
    expr = expr.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer,
        lambda e: sp.factor(sp.cancel(e.base)) ** e.exp,
    )
    return sp.factor(expr) if expr.free_symbols else sp.nsimplify(expr) if expr.is_Rational else expr


def _free_symbols(array: np.ndarray) -> set:
    return set().union(*(e.free_symbols for e in array.ravel())) if array.size else set()


def _same(a: Any, b: Any) -> bool:
    return a == b or sp.simplify(a - b) == 0


def _each(shape: tuple, fn: Callable) -> np.ndarray:
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        out[index] = fn(index)
    return out


def describe(factory: Callable) -> str:
    """Where the factory's code stands, for a theorem's source line."""
    settings = ""
    while isinstance(factory, functools.partial):
        settings = ", ".join(f"{key}={item}" for key, item in factory.keywords.items())
        factory = factory.func
    inner = inspect.unwrap(factory)
    module, name = getattr(inner, "__module__", "?"), getattr(inner, "__qualname__", repr(inner))
    return f"{module}.{name}" + (f"({settings})" if settings else "")
