"""The edge of a rule: held map -> characteristic polynomial -> stable windows, threshold, crossing (`edge`).

With k = eta lambda(P^-1 H) the held step on one eigendirection has the characteristic polynomial
z - 1 + eta omega + k Q(z) = 0 (Road Taken, Lee & Lee; omega: decoupled weight decay).  The rule is stable where all
its roots lie inside the unit circle.  A root leaves at z = -1 (a flip: k* = (2 - eta omega)/Q(-1)) or as a complex
pair (Neimark-Sacker); which one comes first can depend on the hyperparameters and is decided, never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from sympy.polys.polyerrors import BasePolynomialError

from theory.edges.crossing import Candidates
from theory.edges.edge_numbers import EdgeNumbers, draw_one, numbers_at
from theory.edges.held_step import describe, held_map
from theory.edges.transfer import Transfer, k, split, z
from theory.edges.unit_circle import jury_conditions, value
from theory.errors import BadFactory, CannotTrace, NoLinearEdge, Refusal
from theory.simplify import readable, tidy
from theory.theorem import Theorem, as_jax
from theory.tracing.symbols import Hyperparameters
from theory.tracing.time_limit import time_limited

_BEYOND_SYMPY = (TypeError, ValueError, ArithmeticError, NotImplementedError, RecursionError, BasePolynomialError)
"""Errors of SymPy where it cannot go on with somebody's code: the derivation is then refused, it does not crash."""


@dataclass(frozen=True)
class Edge(Theorem):
    """The theorem on a rule's edge.  See `edge` for the convention.

    name                 of the factory
    symbols              parameter -> symbol
    threshold            of lambda_max(P^-1 matrix); None where it is only known implicitly (then use `at`)
    preconditioner       P in the held slow leaves;  matrix: H, or H + omega I with coupled decay
    crossing             "flip", "neimark_sacker" or "depends" (on hyperparameters: see ``conditions``)
    multiplier           the critical root z
    windows              stable windows of lambda(P^-1 matrix) at the reference hyperparameters, as formulas
    characteristic_polynomial   in z and k = eta lambda(P^-1 matrix)
    filter               Q(z);  gain_dc = Q(1), gain_nyquist = Q(-1)
    growth               d|z|/dk where the root crosses (None where implicit)
    conditions           all positive exactly where the rule is stable (Schur-Cohn in Jury's form)
    reference, domain    parameter -> number, (lo, hi)
    slow                 the symbols in P, in the order of the state's slow leaves
    region               conditions on the hyperparameters under which the rule's code takes the branches derived here

    Example:
        >>> import optax, theory
        >>> edge = theory.edge(optax.adam)
        >>> print(edge.crossing, edge.threshold)
        flip 2*(beta1 + 1)/(eta*(1 - beta1))
        >>> print(edge.preconditioner)
        epsilon + sqrt(nu)
        >>> round(edge.at(learning_rate=0.1, b1=0.8).threshold, 6)
        180.0
    """

    name: str
    symbols: Mapping[str, sp.Symbol]
    threshold: sp.Expr | None
    preconditioner: sp.Expr
    matrix: sp.Expr
    crossing: str
    multiplier: sp.Expr | None
    windows: tuple[tuple[sp.Expr, sp.Expr], ...]
    characteristic_polynomial: sp.Expr
    filter: sp.Expr
    gain_dc: sp.Expr
    gain_nyquist: sp.Expr
    growth: sp.Expr | None
    conditions: tuple[sp.Expr, ...]
    reference: Mapping[str, Any]
    domain: Mapping[str, tuple[float, float]]
    slow: tuple[sp.Symbol, ...]
    region: tuple[sp.Basic, ...]
    step_map: Mapping[sp.Symbol, sp.Expr]
    loop: Transfer
    parameters: Hyperparameters

    def at(self, **numbers: float) -> EdgeNumbers:
        """The edge at these hyperparameters (those left out keep their reference value).

        Raises `BadFactory` for a name that is not one of ``symbols``, `NoLinearEdge` where no stable window starts
        at 0+ or outside ``region``.
        """
        return numbers_at(self.loop, self.parameters, self.region, numbers)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Random hyperparameters from ``domain``, inside ``region`` and with a stable window."""
        for _ in range(1000):
            point = {name: draw_one(rng, *box) for name, box in self.domain.items()}
            try:
                self.at(**point)
            except NoLinearEdge:
                continue
            return point
        raise NoLinearEdge(f"no stable hyperparameters of {self.name} were found in 1000 tries")

    def numeric(self, name: str = "threshold") -> Callable:
        """``threshold(**hyperparameters)`` (or another formula) as a JAX function; jits, vmaps, differentiates."""
        if self.expressions.get(name) is None:
            raise NoLinearEdge(f"the {name} of {self.name} has no closed form", "use Edge.at(...) with numbers")
        return as_jax(self.expressions[name], self.symbols)

    def to_json(self) -> dict[str, Any]:
        """The dictionary of `toylab derive --json`; every expression is a string that `sympy.sympify` reads."""

        def text(e: sp.Basic | None) -> str | None:
            return None if e is None else sp.sstr(e)

        return {
            "rule": self.name,
            "symbols": {name: str(symbol) for name, symbol in self.symbols.items()},
            "threshold": text(self.threshold),
            "preconditioner": text(self.preconditioner),
            "matrix": text(self.matrix),
            "crossing": self.crossing,
            "multiplier": text(self.multiplier),
            "windows": [[text(lo), text(hi)] for lo, hi in self.windows],
            "characteristic_polynomial": text(self.characteristic_polynomial),
            "gain_dc": text(self.gain_dc),
            "gain_nyquist": text(self.gain_nyquist),
            "growth": text(self.growth),
            "conditions": [text(c) for c in self.conditions],
            "assumptions": list(self.assumptions),
            "source": self.source,
        }


def edge(factory: Callable, *, t: int | None = None, time_limit: float = 30.0, **settings: Any) -> Edge:
    """Derive where the rule made by ``factory`` becomes unstable on a local quadratic, from its own code.

    factory     hyperparameters -> `optax.GradientTransformation`; its numeric hyperparameters become symbols
    settings    other values for its parameters: a float makes a symbol with that reference value (momentum=0.9), a
                bool, int, string or None is used as it is (nesterov=True)
    t           hold the step count at t instead of its limit (quasi-static)
    time_limit  seconds, after which `DerivationTimeout` is raised

    Convention: w+ = w - eta P^-1 (Q * g); P = 1 when every second-moment leaf is 1 and eps = 0; eta in neither.
    ``threshold`` is the end of the stable window of lambda(P^-1 H) that starts at 0+.
    Raises a `Refusal`: `BadFactory`, `CannotTrace`, `NoLinearEdge`, `DerivationTimeout`.

    Example:
        >>> import optax, theory
        >>> print(theory.edge(optax.sgd).threshold)
        2/eta
        >>> print(theory.edge(optax.sgd, momentum=0.9, nesterov=True).threshold)
        2*(beta1 + 1)/(eta*(2*beta1 + 1))
    """
    if t is not None and t < 1:
        raise BadFactory(f"got t = {t}, a step counted from 1 was needed")
    with time_limited(time_limit):
        try:
            return _edge(factory, t, settings)
        except Refusal:
            raise
        except _BEYOND_SYMPY as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CannotTrace(
                f"the derivation broke down, no theorem follows ({message})",
                "fix some hyperparameters or simplify the rule's case distinctions; toylab.filters may still take it",
            ) from error


def _edge(factory: Callable, t: int | None, settings: dict[str, Any]) -> Edge:
    held = held_map(factory, t=t, **settings)
    loop = split(held)
    parameters = held.parameters
    eta, name = parameters.eta, getattr(factory, "__name__", None) or describe(factory).rsplit(".", 1)[-1]
    a, b = loop.a, loop.b
    candidates = Candidates(loop, parameters, held.region)
    crossing, threshold, multiplier, extra, notes = candidates.decide()
    growth = None
    if threshold is not None and multiplier is not None:
        growth = _growth(a, b, threshold * eta, multiplier, crossing)
    n = len(a) - 1
    conditions = (*extra, *(tidy(c) for c in jury_conditions([x + k * y for x, y in zip(a, b, strict=True)])))
    if parameters.learning_rate is None:
        notes.append("no learning rate among the hyperparameters: k = lambda(P^-1 H)")
    ratio = sp.factor(value(loop.numerator, z) / value(loop.denominator, z))
    polynomial = sp.Add(*(sp.factor(x + k * y) * z ** (n - i) for i, (x, y) in enumerate(zip(a, b, strict=True))))
    dc, nyquist = (_gain(loop, point) for point in (1, -1))
    windows = tuple((readable(lo, parameters), readable(hi, parameters)) for lo, hi in candidates.reference_windows())
    threshold, growth, dc, nyquist, ratio = (readable(e, parameters) for e in (threshold, growth, dc, nyquist, ratio))
    preconditioner = readable(sp.expand(loop.preconditioner, power_base=False), parameters)
    expressions = {
        "threshold": threshold,
        "preconditioner": preconditioner,
        "filter": ratio,
        "characteristic_polynomial": polynomial,
        "gain_dc": dc,
        "gain_nyquist": nyquist,
        "growth": growth,
    }
    how = {"flip": "by a flip", "neimark_sacker": "as a complex pair", "depends": "by a flip or as a complex pair"}
    return Edge(
        statement=f"{name} loses stability {how[crossing]} where lambda_max(P^-1 {loop.matrix}) = "
        + (sp.sstr(threshold) if threshold is not None else "the smallest positive root of its condition (see at())"),
        assumptions=(
            "a local quadratic; the slow state is held; P is positive and diagonal",
            *held.assumptions,
            *loop.notes,
            *notes,
        ),
        source=describe(factory),
        expressions={key: e for key, e in expressions.items() if e is not None},
        arguments=parameters.listed,
        name=name,
        symbols=parameters.listed,
        threshold=threshold,
        preconditioner=preconditioner,
        matrix=loop.matrix,
        crossing=crossing,
        multiplier=multiplier,
        windows=windows,
        characteristic_polynomial=polynomial,
        filter=ratio,
        gain_dc=dc,
        gain_nyquist=nyquist,
        growth=growth,
        conditions=conditions,
        reference=parameters.reference | ({} if t is None else {"t": t}),
        domain=parameters.domain,
        slow=held.slow,
        region=held.region,
        step_map=held.step_map,
        loop=loop,
        parameters=parameters,
    )


def _gain(loop: Transfer, point: int) -> sp.Expr:
    below = tidy(value(loop.denominator, sp.Integer(point)))
    above = tidy(value(loop.numerator, sp.Integer(point)))
    return tidy(above / below) if below != 0 else sp.oo if above != 0 else sp.nan


def _growth(a: tuple, b: tuple, gain: sp.Expr, point: sp.Expr, crossing: str) -> sp.Expr | None:
    """d|z|/dk = Re(conj(z) dz/dk), dz/dk = -b(z)/(a'(z) + k b'(z)); None where the crossing depends."""
    if crossing == "depends":
        return None
    n = len(a) - 1
    terms = list(zip(a, b, strict=True))[:n]
    slope = sum((n - i) * (x + gain * y) * point ** (n - 1 - i) for i, (x, y) in enumerate(terms))
    rate = -value(b, point) / slope
    if crossing == "flip":
        return tidy(-rate)
    return sp.simplify(sp.re(sp.conjugate(point) * rate)) if len(a) <= 3 else None


@lru_cache(maxsize=256)
def cached_edge(factory: Callable, settings: tuple[tuple[str, Any], ...] = ()) -> Edge:
    """`edge`, kept: for claims and figures that ask for the same theorem many times.

    Example:
        >>> import optax, theory
        >>> theory.cached_edge(optax.sgd) is theory.cached_edge(optax.sgd)
        True
        >>> print(theory.cached_edge(optax.sgd, (("momentum", 0.9),)).threshold)
        2*(beta1 + 1)/eta
    """
    return edge(factory, **dict(settings))
