"""Which state leaves of a rule are even and which are odd in the gradient: decided by running it on 30-digit numbers.

`toylab.rules` derives the same parities, and with them the same edges, from the same code in floating point, without
sharing a line: claims compare the two.
"""

from __future__ import annotations

import random
from collections.abc import Container
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import CannotTrace, NoLinearEdge
from theory.tracing.arrays import objects
from theory.tracing.factory_step import Traced
from theory.tracing.interpreter import evaluate
from theory.tracing.primitives import is_truth
from theory.tracing.schedules import AutonomousState, each
from theory.tracing.symbols import T

DIGITS = 30  # precision of the probes; exact answers differ from wrong ones in the first few of them
PROBES = 3


class Parities:
    """Parity of the remaining leaves, found by probing the traced step with 30-digit numbers.

    Seen from a state that is its own mirror image (the rule's init at w = 0), steps under (w, g) and under (-w, -g)
    agree in the even leaves and are opposite in the odd ones.  What is read off so is then tested at random states.
    """

    def __init__(self, traced: Traced, autonomous: AutonomousState):
        self.traced, self.autonomous = traced, autonomous
        self.rest = [i for i in range(len(traced.init)) if i not in autonomous.leaves]
        rng = random.Random(0)
        points = [self._point(rng) for _ in range(PROBES)]
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
            return sp.Float(scale * rng.uniform(0.5, 1.5), DIGITS)

        leaves = {i: each(self.traced.init[i].shape, lambda _: draw()) for i in self.rest}
        return draw(0.1) * rng.choice((1, -1)), draw(0.1) * rng.choice((1, -1)), leaves

    def run(self, weight: Any, gradient: Any, leaves: dict[int, np.ndarray]) -> list[np.ndarray]:
        """One uncut step with numbers; t = 10,000 stands in for its limit (parity does not depend on it)."""
        values = self.traced.parameters.values()
        step = sp.Float(self.autonomous.t or 10_000, DIGITS)  # not an Integer: no exact powers of that order
        hyper = [objects(sp.N(v, DIGITS)) for v in values.values()]

        def number(e: Any) -> Any:
            if is_truth(e):
                return e
            return sp.N(e.xreplace({T: step} | {s: sp.N(v, DIGITS) for s, v in values.items()}), DIGITS)

        state = [
            leaves[i] if i in leaves else each(array.shape, lambda ix, i=i: number(self.autonomous.before[i][ix]))
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
        leaves = {i: objects(a * sp.Float(0.1, DIGITS)) if sign.get(i) == -1 else a for i, a in leaves.items()}
        there = self.run(weight, gradient, leaves)
        back = self.run(-weight, -gradient, {i: objects(a * sign.get(i, 1)) for i, a in leaves.items()})
        pairs = [(there[0], objects(-back[0])), *((there[1 + i], objects(back[1 + i] * s)) for i, s in sign.items())]
        return all(_all_equal(left, right) for left, right in pairs)


def _without(leaves: dict[int, np.ndarray], known: Container[int]) -> dict[int, np.ndarray]:
    """The unknown leaves at zero, where a flip does not move them."""
    return {i: a if i in known else objects(np.zeros(a.shape, dtype=int)) for i, a in leaves.items()}


def _numbers(array: np.ndarray) -> np.ndarray:
    return each(array.shape, lambda ix: array[ix] if is_truth(array[ix]) else sp.N(array[ix], DIGITS))


def _all_equal(left: np.ndarray, right: np.ndarray) -> bool:
    return all(equal(a, b) for a, b in zip(left.ravel(), right.ravel(), strict=True))


def equal(a: Any, b: Any) -> bool:
    """Whether two numbers are finite, real and the same but for the last five of their digits."""
    a, b = sp.N(a, DIGITS), sp.N(b, DIGITS)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite and a.is_real and b.is_real):
        return False
    return bool(sp.Abs(a - b) <= sp.Float(10) ** (5 - DIGITS) * (1 + sp.Abs(a)))
