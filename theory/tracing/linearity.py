"""Whether a held step is linear, and acts on each weight by itself: decided by running it on 30-digit numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import CannotTrace, NoLinearEdge
from theory.tracing.arrays import objects
from theory.tracing.factory_step import Traced, g, trace_with, w
from theory.tracing.interpreter import evaluate
from theory.tracing.parities import DIGITS, PROBES, Parities, equal
from theory.tracing.primitives import is_truth
from theory.tracing.schedules import AutonomousState, each
from theory.tracing.symbols import T

_ALMOST = sp.Float(10) ** -14  # superposition: 30 digits leave far less, a step that is not linear far more


def require_linear(after: list[sp.Expr], x: list[sp.Symbol], autonomous: AutonomousState, slow: tuple) -> bool:
    """Whether the held step ``after`` of ``x`` is linear only for small oscillations (False: for those of any size).

    Superposition, f(a) + f(b) = f(a + b), is tested with 30-digit numbers at weights of order one.
    Raises `NoLinearEdge`, with the reason, where it fails for small oscillations as well.
    """
    rng = random.Random(1)
    hyper = autonomous.traced.parameters.values()
    given = {s: sp.Float(rng.uniform(0.5, 1.5), DIGITS) for s in slow}
    numbers = {s: sp.N(v, DIGITS) for s, v in hyper.items()} | given | {T: sp.Float(autonomous.t or 10_000, DIGITS)}
    reduced = [e.xreplace(numbers) for e in after]

    def run(point: dict) -> list[sp.Expr]:
        try:
            return [sp.N(e.xreplace(point), DIGITS) for e in reduced]
        except (TypeError, ValueError):  # a maximum of complex numbers: an oscillation too large for a root in P
            return [sp.nan for _ in reduced]

    worst = sp.Integer(0)
    for small in (sp.Integer(1), sp.Float(10) ** -10):
        worst = sp.Integer(0)
        for _ in range(PROBES):
            a, b = (
                {s: sp.Float(rng.gauss(0, 1), DIGITS) * (1 if s is w else small) for s in (*x, g)} for _ in range(2)
            )
            both = run({s: a[s] + b[s] for s in a})
            for one, other, together in zip(run(a), run(b), both, strict=True):
                if not all(v.is_number and v.is_finite for v in (one, other, together)):
                    worst = sp.oo
                    continue
                size = sp.Abs(one) + sp.Abs(other) + sp.Abs(together)
                # without the weight's own share: an error in the oscillation must show beside a large weight
                scale = sp.Min(size, small * (1 + size)) + sp.Float(10) ** -25
                worst = sp.Max(worst, sp.Abs(one + other - together) / scale)
        if worst < _ALMOST * 10**4:
            return small != 1
    raise NoLinearEdge(_why_not_linear(run, x, rng))


def _why_not_linear(run: Callable, x: list[sp.Symbol], rng: random.Random) -> str:
    """The reason in the user's terms, found by scaling the arguments one group at a time."""
    point = {s: sp.Float(rng.gauss(0, 1), DIGITS) for s in (*x, g)}
    still = {s: sp.Integer(0) if s is not w else v for s, v in point.items()}

    def response(weight: int, oscillation: int) -> sp.Expr:
        scaled = {s: v * (weight if s is w else oscillation) for s, v in point.items()}
        rest = {s: v * (weight if s is w else 1) for s, v in still.items()}
        one, other = run(scaled)[0], run(rest)[0]
        return one - other if other.is_number and other.is_finite else one - scaled[w]

    base = response(1, 1)
    if equal(response(1, 3), base):
        return (
            "the step does not grow with the gradient, u(c g) = u(g): a sign or a normalised update has no linear edge"
        )
    if not equal(response(3, 1), base):
        return "the response to the gradient depends on the size of the weights (a trust ratio or parameter scaling)"
    return "the held step is not linear in (weights, gradient, fast state): superposition fails"


_BLOCK = (2, 2)


def require_elementwise(factory: Callable, scalar: Traced, autonomous: AutonomousState, parities: Parities) -> None:
    """Raise `NoLinearEdge` unless the held step acts on each entry of a matrix of weights by itself.

    Decided with 30-digit numbers: one entry of the gradient is changed, and only its own update may move.
    """
    block = trace_with(factory, scalar.parameters, [], _BLOCK)
    if block.names != scalar.names:
        raise NoLinearEdge(
            f"a matrix of weights is treated differently from a scalar: its state is {', '.join(block.names)}",
            "derive it with the options that make it elementwise, if it has any",
        )
    rng = random.Random(2)
    values = [objects(sp.N(v, DIGITS)) for v in scalar.parameters.values().values()]
    step = {T: sp.Float(autonomous.t or 10_000, DIGITS)} | {
        s: sp.N(v, DIGITS) for s, v in scalar.parameters.values().items()
    }

    def draw(shape: tuple, scale: float) -> np.ndarray:
        return each(shape, lambda _: sp.Float(scale * rng.uniform(0.5, 1.5), DIGITS))

    weights = draw(_BLOCK, 1.0)
    small = 1e-10  # clipped and centred rules are linear for small oscillations
    leaves = {i: draw(block.init[i].shape, small if i in parities.fast else 1.0) for i in parities.rest}
    held = {i: draw(block.init[i].shape, 1.0) for i in parities.slow}

    def number(e: Any) -> Any:
        return e if is_truth(e) else sp.N(e.xreplace(step), DIGITS)

    state = [
        leaves[i]
        if i in leaves
        else np.broadcast_to(each((), lambda _, i=i: number(autonomous.before[i].flat[0])), a.shape)
        for i, a in enumerate(block.init)
    ]

    def run(gradient: np.ndarray) -> np.ndarray:
        watch: dict[sp.Expr, sp.Expr] = {}
        for i in parities.slow:  # cut one leaf after the other: a later one may be computed from an earlier one
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
