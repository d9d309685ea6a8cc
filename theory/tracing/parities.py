"""What a rule's step is like, found by running it on 30-digit numbers: parities, linearity, coordinates."""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import CannotTrace, NoLinearEdge
from theory.tracing.arrays import objects
from theory.tracing.factory_step import Traced, g, trace_with, w
from theory.tracing.interpreter import evaluate
from theory.tracing.primitives import is_truth
from theory.tracing.schedules import Schedule, each
from theory.tracing.symbols import T

_DIGITS = 30  # precision of the probes; exact answers differ from wrong ones in the first few of them
_PROBES = 3
_ALMOST = sp.Float(10) ** -14  # superposition: DESIGN's bound


class Roles:
    """Parity of the remaining leaves, found by probing the traced step with 30-digit numbers.

    Seen from a state that is its own mirror image (the rule's init at w = 0), steps under (w, g) and under (-w, -g)
    agree in the even leaves and are opposite in the odd ones.  What is read off so is then tested at random states.
    """

    def __init__(self, traced: Traced, schedule: Schedule):
        self.traced, self.schedule = traced, schedule
        self.rest = [i for i in range(len(traced.init)) if i not in schedule.autonomous]
        rng = random.Random(0)
        points = [self._point(rng) for _ in range(_PROBES)]
        sign = self._parities(rng)
        if not all(self._equivariant(point, sign) for point in points):
            raise NoLinearEdge("the step is not odd in the gradient: flipping every sign does not flip the update")
        self.slow = [i for i in self.rest if sign[i] == 1]
        self.fast = [i for i in self.rest if sign[i] == -1]

    def _parities(self, rng: random.Random) -> dict[int, int]:
        """leaf -> +1 (even) or -1 (odd): the only assignment that can pass, if any does."""
        values = self.traced.parameters.values()
        init = {i: self.traced.init[i] for i in self.rest}
        start = {i: each(a.shape, lambda ix, a=a: a[ix].xreplace(values)) for i, a in init.items()}
        sign = self._mirrored(start, rng)
        if len(sign) < len(self.rest):  # an odd leaf may start elsewhere, and spoil others
            sign = self._mirrored(_without(start, sign), rng) | sign
        for i in self.rest:  # what these runs leave at zero, or in doubt: alone, even if that passes
            if i not in sign:
                weight, gradient, leaves = self._point(rng)
                point = weight, gradient, _without(leaves, {**sign, i: 0})
                sign[i] = next((s for s in (1, -1) if self._equivariant(point, {**sign, i: s})), 1)
        return sign

    def _mirrored(self, start: dict[int, np.ndarray], rng: random.Random) -> dict[int, int]:
        """The leaves that two mirrored runs show to be even or odd; as many steps as a signal takes through all."""
        there = back = start
        possible = {i: {1, -1} for i in self.rest}
        for _ in range(len(self.rest) + 2):
            weight, gradient, _leaves = self._point(rng)
            try:
                after, mirrored = self.run(weight, gradient, there), self.run(-weight, -gradient, back)
            except CannotTrace:
                return {}
            there, back = ({i: _numbers(out[1 + i]) for i in self.rest} for out in (after, mirrored))
            for i in self.rest:
                possible[i] &= {s for s in (1, -1) if _all_equal(there[i], objects(back[i] * s))}
        return {i: s.pop() for i, s in possible.items() if len(s) == 1}

    def _point(self, rng: random.Random) -> tuple[sp.Float, sp.Float, dict[int, np.ndarray]]:
        def draw(scale: float = 1.0) -> sp.Float:
            return sp.Float(scale * rng.uniform(0.5, 1.5), _DIGITS)

        leaves = {i: each(self.traced.init[i].shape, lambda _: draw()) for i in self.rest}
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
            leaves[i] if i in leaves else each(array.shape, lambda ix, i=i: number(self.schedule.before[i][ix]))
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
        leaves = {i: objects(a * sp.Float(0.1, _DIGITS)) if sign.get(i) == -1 else a for i, a in leaves.items()}
        there = self.run(weight, gradient, leaves)
        back = self.run(-weight, -gradient, {i: objects(a * sign.get(i, 1)) for i, a in leaves.items()})
        pairs = [(there[0], objects(-back[0])), *((there[1 + i], objects(back[1 + i] * s)) for i, s in sign.items())]
        return all(_all_equal(left, right) for left, right in pairs)


def _without(leaves: dict[int, np.ndarray], known: Container[int]) -> dict[int, np.ndarray]:
    """The unknown leaves at zero, where a flip does not move them."""
    return {i: a if i in known else objects(np.zeros(a.shape, dtype=int)) for i, a in leaves.items()}


def _numbers(array: np.ndarray) -> np.ndarray:
    return each(array.shape, lambda ix: array[ix] if is_truth(array[ix]) else sp.N(array[ix], _DIGITS))


def _all_equal(left: np.ndarray, right: np.ndarray) -> bool:
    return all(_equal(a, b) for a, b in zip(left.ravel(), right.ravel(), strict=True))


def _equal(a: Any, b: Any) -> bool:
    a, b = sp.N(a, _DIGITS), sp.N(b, _DIGITS)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite and a.is_real and b.is_real):
        return False
    return bool(sp.Abs(a - b) <= sp.Float(10) ** (5 - _DIGITS) * (1 + sp.Abs(a)))


def require_linear(after: list[sp.Expr], x: list[sp.Symbol], schedule: Schedule, slow: tuple) -> bool:
    """f(a) + f(b) = f(a + b) with 30-digit numbers, at finite weights; oscillations of order one, or else small."""
    rng = random.Random(1)
    hyper = schedule.traced.parameters.values()
    given = {s: sp.Float(rng.uniform(0.5, 1.5), _DIGITS) for s in slow}
    numbers = {s: sp.N(v, _DIGITS) for s, v in hyper.items()} | given | {T: sp.Float(schedule.t or 10_000, _DIGITS)}
    reduced = [e.xreplace(numbers) for e in after]

    def run(point: dict) -> list[sp.Expr]:
        try:
            return [sp.N(e.xreplace(point), _DIGITS) for e in reduced]
        except (TypeError, ValueError):  # a maximum of complex numbers: an oscillation too large for a root in P
            return [sp.nan for _ in reduced]

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
                size = sp.Abs(one) + sp.Abs(other) + sp.Abs(together)
                # without the weight's own share: an error in the oscillation must show beside a large weight
                scale = sp.Min(size, small * (1 + size)) + sp.Float(10) ** -25
                worst = sp.Max(worst, sp.Abs(one + other - together) / scale)
        if worst < _ALMOST * 10**4:
            return small != 1
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
        return (
            "the step does not grow with the gradient, u(c g) = u(g): a sign or a normalised update has no linear edge"
        )
    if not _equal(response(3, 1), base):
        return "the response to the gradient depends on the size of the weights (a trust ratio or parameter scaling)"
    return "the held step is not linear in (weights, gradient, fast state): superposition fails"


_BLOCK = (2, 2)


def require_elementwise(factory: Callable, scalar: Traced, schedule: Schedule, roles: Roles) -> None:
    """On a matrix of weights, the held step must act on each entry by itself: probed with numbers."""
    block = trace_with(factory, scalar.parameters, [], _BLOCK)
    if block.names != scalar.names:
        raise NoLinearEdge(
            f"a matrix of weights is treated differently from a scalar: its state is {', '.join(block.names)}",
            "derive it with the options that make it elementwise, if it has any",
        )
    rng = random.Random(2)
    values = [objects(sp.N(v, _DIGITS)) for v in scalar.parameters.values().values()]
    step = {T: sp.Float(schedule.t or 10_000, _DIGITS)} | {
        s: sp.N(v, _DIGITS) for s, v in scalar.parameters.values().items()
    }

    def draw(shape: tuple, scale: float) -> np.ndarray:
        return each(shape, lambda _: sp.Float(scale * rng.uniform(0.5, 1.5), _DIGITS))

    weights = draw(_BLOCK, 1.0)
    small = 1e-10  # clipped and centred rules are linear for small oscillations
    leaves = {i: draw(block.init[i].shape, small if i in roles.fast else 1.0) for i in roles.rest}
    held = {i: draw(block.init[i].shape, 1.0) for i in roles.slow}

    def number(e: Any) -> Any:
        return e if is_truth(e) else sp.N(e.xreplace(step), _DIGITS)

    state = [
        leaves[i]
        if i in leaves
        else np.broadcast_to(each((), lambda _, i=i: number(schedule.before[i].flat[0])), a.shape)
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
