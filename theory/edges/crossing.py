"""Which root leaves the unit circle first, over the whole domain of the hyperparameters: decided, never assumed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from theory.edges.edge_numbers import EdgeNumbers, draw_one, numbers_at
from theory.edges.transfer import Transfer
from theory.edges.unit_circle import gain_at, on_circle, value
from theory.errors import NoLinearEdge
from theory.simplify import tidy
from theory.tracing.symbols import Hyperparameters

_SAMPLES = 60  # random points of the domain at which the kind of crossing is decided, besides the reference point


class Candidates:
    """All gains at which a root can cross, as formulas; and which of them ends the first window, over the domain."""

    def __init__(self, loop: Transfer, parameters: Hyperparameters, region: tuple[sp.Basic, ...]):
        self.loop, self.parameters, self.region = loop, parameters, region
        a, b = loop.a, loop.b
        self.flip = self._ratio(-1)
        self.dc = self._ratio(1)
        c = sp.Symbol("c", real=True)
        coefficients = [sp.factor(sp.expand(x)) for x in on_circle(a, b)]
        while coefficients and coefficients[0] == 0:
            coefficients = coefficients[1:]
        self.condition = sp.Poly(coefficients, c) if coefficients else sp.Poly(0, c)

    @cached_property
    def pairs(self) -> list[tuple[sp.Expr, sp.Expr]]:
        """(cosine, gain) of every complex pair, where the equation N(c) = 0 has short explicit roots."""
        if self.condition.degree() not in (1, 2):
            return []
        roots = [sp.simplify(r) for r in sp.roots(self.condition)]
        return [(root, tidy(gain_at(self.loop.a, self.loop.b, root))) for root in roots]

    def _ratio(self, point: int) -> sp.Expr | None:
        below = tidy(value(self.loop.b, sp.Integer(point)))
        return None if below == 0 else tidy(-value(self.loop.a, sp.Integer(point)) / below)

    @cached_property
    def samples(self) -> list[tuple[dict, EdgeNumbers]]:
        """The edge at the reference point and at random points of the domain where a window exists."""
        rng = np.random.default_rng(4)
        points: list[dict[str, Any]] = [{}]
        for _ in range(_SAMPLES):
            points.append({n: draw_one(rng, *box) for n, box in self.parameters.domain.items()})
        out = []
        for i, point in enumerate(points):
            try:
                out.append((point, numbers_at(self.loop, self.parameters, self.region, point)))
            except NoLinearEdge:
                if i == 0:
                    raise
        return out

    def decide(self) -> tuple[str, sp.Expr | None, sp.Expr | None, list[sp.Expr], list[str]]:
        """(crossing, threshold, multiplier, conditions for a flip, notes)."""
        eta, notes = self.parameters.eta, []
        kinds = [numbers.crossing for _, numbers in self.samples]
        if all(kind == "flip" for kind in kinds):
            proof = self._proof()
            notes.append(
                f"the flip comes first for all hyperparameters in their domain: {proof}"
                if proof
                else f"the flip came first at all {len(kinds)} points of the domain that were tried (not proved)"
            )
            return "flip", tidy(self.flip / eta), sp.Integer(-1), [], notes
        if all(kind == "none" for kind in kinds):
            notes.append("no root ever leaves the unit circle")
            return "flip", sp.oo, None, [], notes
        pair = self._pair()
        if all(kind == "neimark_sacker" for kind in kinds):
            notes.append(f"a complex pair crosses first at all {len(kinds)} points of the domain that were tried")
            if pair is None:
                return "neimark_sacker", None, None, [], notes
            cosine, gain = pair
            return "neimark_sacker", tidy(gain / eta), cosine + sp.I * sp.sqrt(1 - cosine**2), [], notes
        side = self._side(kinds)
        if side is None:
            notes.append("whether a flip or a pair comes first has no closed condition; at() decides it with numbers")
            return "depends", None, None, [], notes
        notes.append(f"a flip where {sp.sstr(side)} > 0, else a complex pair")
        if pair is None:
            return "depends", None, None, [side], notes
        cosine, gain = pair
        threshold = sp.Piecewise((tidy(self.flip / eta), side > 0), (tidy(gain / eta), True))
        multiplier = sp.Piecewise((sp.Integer(-1), side > 0), (cosine + sp.I * sp.sqrt(1 - cosine**2), True))
        return "depends", threshold, multiplier, [side], notes

    def _numbers(self, e: sp.Expr, point: dict) -> complex:
        return complex(sp.N(e.xreplace(self.parameters.numbers(**point)), 20))

    def _pair(self) -> tuple[sp.Expr, sp.Expr] | None:
        """The explicit (cosine, gain) that agrees with the numbers at every sample that ends in a pair."""
        for cosine, gain in self.pairs:
            ends = [(p, n) for p, n in self.samples if n.crossing == "neimark_sacker"]
            if all(abs(self._numbers(gain, p) - n.k) < 1e-9 * n.k for p, n in ends):
                return cosine, gain
        return None

    def _side(self, kinds: list[str]) -> sp.Expr | None:
        """An expression that is positive exactly at the samples that end in a flip."""
        options = [value(self.condition.all_coeffs(), sp.Integer(-1))]
        if self.flip is not None:
            options += [gain - self.flip for _, gain in self.pairs]
        for option in options:
            factors = [f for f, m in sp.factor_list(sp.numer(sp.together(option)))[1] if m % 2]
            for expression in [*factors, sp.factor(option)]:
                signs = [self._numbers(expression, p).real > 0 for p, _ in self.samples]
                flips = [kind == "flip" for kind in kinds]
                if signs == flips:
                    return expression
                if signs == [not f for f in flips]:
                    return sp.expand(-expression)
        return None

    def _proof(self) -> str | None:
        """A sign certificate: N(c) has no zero in (-1, 1) anywhere in the domain, so no pair can cross at all.

        c = (1 - s)/(1 + s) with s > 0, every beta = 1/(1 + x) with x > 0: if all coefficients of the numerator then
        have one sign, N has no zero.
        """
        if self.condition.degree() <= 0:
            return "no pair can reach the unit circle (N(c) has no zero)" if not self.condition.is_zero else None
        domain = self.parameters.domain
        unit = [s for n, s in self.parameters.symbols.items() if domain[n][1] <= 1.0 and s.name != "eta"]
        fresh = {s: 1 / (1 + sp.Symbol(f"x_{s.name}", positive=True)) for s in unit if s in self.condition.free_symbols}
        s = sp.Symbol("s", positive=True)
        c = self.condition.gen
        expression = self.condition.as_expr().xreplace(fresh).xreplace({c: (1 - s) / (1 + s)})
        numerator = sp.numer(sp.together(expression))
        variables = sorted(numerator.free_symbols, key=str)
        try:
            terms = sp.Poly(numerator, *variables).coeffs()
        except sp.PolynomialError:
            return None
        if all(t > 0 for t in terms) or all(t < 0 for t in terms):
            return "no complex pair can reach the unit circle (sign certificate)"
        return None

    def reference_windows(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """The stable windows at the reference hyperparameters, each end as the formula that gives it."""
        numbers = self.samples[0][1]
        eta = self.parameters.eta

        def known() -> Iterator[sp.Expr]:
            yield from (sp.Integer(0), sp.oo, *(e for e in (self.flip, self.dc) if e is not None))
            yield from (gain for _, gain in self.pairs)

        def formula(end: float) -> sp.Expr:
            gain = end * numbers.eta
            for e in known():
                if e == sp.oo:
                    if np.isinf(gain):
                        return sp.oo
                    continue
                if abs(self._numbers(e, {}) - gain) <= 1e-9 * max(gain, 1e-300):
                    return tidy(e / eta)
            return sp.Float(end, 16)

        return tuple((formula(lo), formula(hi)) for lo, hi in numbers.windows)
