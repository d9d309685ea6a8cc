"""How a rule's slow state moves on average while its gradient oscillates: read off the rule's own step.

Near the edge g_n = G + (-1)^n h, and every fast leaf follows with its own response: G times its value at z = 1, h times
its value at z = -1.  Put into the *uncut* update of a slow leaf and averaged over the two phases, this leaves a step in
the leaf, G and q = <h^2>.  Rules use the updated leaf, s_n = F(s_{n-1}, g_n): in continuous time the derivative is the
backward difference, s = F(s - s', g).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.edges.held_step import BranchDecider
from theory.edges.linear_stability import Edge
from theory.simplify import tidy
from theory.tracing.arrays import objects
from theory.tracing.factory_step import g, trace_factory, trace_with, w
from theory.tracing.interpreter import evaluate
from theory.tracing.parities import Parities
from theory.tracing.schedules import AutonomousState, each, limit
from theory.tracing.symbols import T

G = sp.Symbol("gbar", real=True)
"""The mean gradient of one weight."""
q = sp.Symbol("qbar", nonnegative=True)
"""The variance of one weight's gradient: the weight's entry of diag(H Sigma H)."""


@dataclass(frozen=True)
class SlowState:
    """The motion of the slow leaves averaged over the oscillation, as a step and as a rate (per step).

    after    leaf -> F, in the leaves' symbols, `G` and `q`
    rate     leaf -> ds/dt = the solution of F(s - s') = s;  leaves that have no such rate are left out, with the
             reason in ``notes`` (their mean step is not polynomial in h, or not affine in the leaf alone)
    shared   leaves that several weights share: there G^2 and q are sums over these weights
    """

    after: Mapping[sp.Symbol, sp.Expr]
    rate: Mapping[sp.Symbol, sp.Expr]
    shared: tuple[sp.Symbol, ...]
    notes: tuple[str, ...]


def averaged_slow_state(factory: Callable, theorem: Edge, **settings: Any) -> SlowState:
    """The averaged motion of the slow leaves of ``factory``, whose edge is ``theorem``.

    Assumes that the oscillation has period two and zero mean; exact where the update is quadratic in the gradient.
    Raises what `theory.edge` raises.
    """
    if not theorem.slow:
        return SlowState({}, {}, (), ())
    step = uncut_step(factory, theorem, **settings)
    after, rate, notes = {}, {}, []
    oscillation = _phases(theorem, list(theorem.step_map)[1:])
    for leaf in theorem.slow:
        mean = _mean(limit_of(step.after[leaf].xreplace({w: sp.Integer(0)}), theorem), oscillation)
        if mean is None:
            notes.append(f"{leaf} has no averaged step: its update is no polynomial in the oscillation")
            continue
        after[leaf] = by_terms(mean, leaf)
        leaf_rate = backward_rate(mean, leaf, set(theorem.slow))
        if leaf_rate is None:
            notes.append(f"{leaf} has no averaged rate: its step is not affine in {leaf} alone")
        else:
            rate[leaf] = leaf_rate
    return SlowState(after, rate, step.shared, tuple(notes))


@dataclass(frozen=True)
class UncutStep:
    """One step of the rule as it is, on one weight: leaf -> its new value in (w, g, fast, slow); `update` is w+ - w.

    The step number may occur in it (`limit_of`).  shared: as in `SlowState`.
    """

    update: sp.Expr
    after: Mapping[sp.Symbol, sp.Expr]
    shared: tuple[sp.Symbol, ...]


def uncut_step(factory: Callable, theorem: Edge, **settings: Any) -> UncutStep:
    """The rule's step in the symbols of its edge ``theorem``, without holding the slow state."""
    traced = trace_factory(factory, settings)
    autonomous = AutonomousState(traced, None)
    parities = Parities(traced, autonomous)
    fast = list(theorem.step_map)[1:]
    slow_supply, fast_supply = iter(theorem.slow), iter(fast)
    named = {
        i: each(traced.init[i].shape, lambda _, source=source: next(source))
        for leaves, source in ((parities.slow, slow_supply), (parities.fast, fast_supply))
        for i in leaves
    }
    leaves = [named[i] if i in named else autonomous.before[i] for i in range(len(traced.init))]
    decide = BranchDecider(autonomous, theorem.slow, tuple(fast))
    hyper = [objects(s) for s in traced.parameters.symbols.values()]
    out = evaluate(traced.closed, [*hyper, objects(w), objects(g), *leaves], decide)
    after = {
        leaf: sp.sympify(raw) for i in named for leaf, raw in zip(named[i].ravel(), out[1 + i].ravel(), strict=True)
    }
    pair = trace_with(factory, traced.parameters, [], (2,))
    shared = tuple(leaf for i in parities.slow if pair.init[i].shape[:1] != (2,) for leaf in named[i].ravel())
    return UncutStep(sp.sympify(out[0].item()), after, shared)


def limit_of(expr: sp.Expr, theorem: Edge) -> sp.Expr:
    """The value at the limit t -> infinity of the step number."""
    return limit(expr, theorem.parameters) if T in expr.free_symbols else expr


def backward_rate(after: sp.Expr, leaf: sp.Symbol, others: set[sp.Symbol] | None = None) -> sp.Expr | None:
    """s' with F(s - s') = s, in lowest terms, for a step F affine in s; None for any other F."""
    mixed = (others or set()) - {leaf}
    slope = tidy(sp.diff(after, leaf))
    if slope == 0 or leaf in slope.free_symbols or mixed & after.free_symbols:
        return None
    change = sp.Dummy("change")
    (root,) = sp.solve(after.xreplace({leaf: leaf - change}) - leaf, change)
    return by_terms(root, leaf)


_H = sp.Symbol("h", real=True)


def held_matrix(theorem: Edge) -> tuple[sp.Matrix, sp.Matrix]:
    """The held step on (w, fast state), at its limit t -> infinity: x+ = matrix x + inject g."""
    names = list(theorem.step_map)
    rest = {s: sp.Integer(0) for s in (*names, g)}

    def slope(leaf: sp.Symbol, by: sp.Symbol) -> sp.Expr:
        after = sp.diff(theorem.step_map[leaf], by).subs(rest)
        if leaf is w and by is w:
            after += 1  # the rule's step is kept there without the weight itself
        return tidy(limit_of(after, theorem))

    size = len(names)
    matrix = sp.Matrix(size, size, lambda i, j: slope(names[i], names[j]))
    return matrix, sp.Matrix(size, 1, lambda i, _: slope(names[i], g))


def _phases(theorem: Edge, fast: list[sp.Symbol]) -> dict[int, dict[sp.Symbol, sp.Expr]]:
    """Gradient and fast leaves before the step, in each of the two phases."""
    full_matrix, drive = held_matrix(theorem)
    matrix, inject = full_matrix[1:, 1:], drive[1:, :]
    response = {}
    for point in (1, -1):
        system = (point * sp.eye(len(fast)) - matrix).applyfunc(tidy)
        response[point] = system.LUsolve(inject).applyfunc(tidy) if fast else inject
    return {
        sign: {g: G + sign * _H} | {f: response[1][i] * G + sign * response[-1][i] * _H for i, f in enumerate(fast)}
        for sign in (1, -1)
    }


def _mean(raw: sp.Expr, oscillation: Mapping[int, Mapping[sp.Symbol, sp.Expr]]) -> sp.Expr | None:
    """The mean over both phases with h^2 -> q; None where it is not of degree two in h."""
    mean = sp.expand((raw.xreplace(oscillation[1]) + raw.xreplace(oscillation[-1])) / 2)
    if not mean.is_polynomial(_H) or sp.degree(mean, _H) > 2:
        return None
    return mean.coeff(_H, 0) + mean.coeff(_H, 2) * q


def by_terms(expr: sp.Expr, leaf: sp.Symbol) -> sp.Expr:
    """A polynomial in G, q and the leaf with its coefficients in lowest terms; any other expression tidied."""
    if not expr.is_polynomial(G, q, leaf):
        return tidy(expr)
    return sp.Add(*(tidy(c) * G**i * q**j * leaf**n for (i, j, n), c in sp.Poly(expr, G, q, leaf).terms()))
