"""The edge of a rule: held map -> characteristic polynomial -> stable windows, threshold, crossing (`edge`).

With k = eta lambda(P^-1 H) the held step on one eigendirection has the characteristic polynomial
z - 1 + eta omega + k Q(z) = 0 (Road Taken, Lee & Lee; omega: decoupled weight decay).  The rule is stable where all
its roots lie inside the unit circle.  A root leaves at z = -1 (a flip: k* = (2 - eta omega)/Q(-1)) or as a complex
pair (Neimark-Sacker); which one comes first can depend on the hyperparameters and is decided, never assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import sympy as sp

from theory.circle import gain_at, jury_conditions, on_circle, stable_windows, value
from theory.errors import BadFactory, CannotTrace, NoLinearEdge, Refusal
from theory.forms import readable, tidy
from theory.symbols import Hyperparameters
from theory.theorem import Theorem, as_jax
from theory.timing import time_limited
from theory.transfer import Transfer, k, split, z
from theory.update_map import describe, held_map

_SAMPLES = 60  # random points of the domain at which the kind of crossing is decided, besides the reference point


@dataclass(frozen=True)
class EdgeNumbers:
    """The edge at given hyperparameters, worked out with 40 digits, whatever the symbolic side could simplify.

    threshold, windows: in lambda(P^-1 H); ``k = eta threshold``.  crossing: "flip", "neimark_sacker" or "none" (no
    end: threshold is inf).  angle: of the critical multiplier.  growth: d|z|/dk at k*.  spectators: roots that do not
    move with k (structural ones, and decaying state that the weight does not feel).
    """

    threshold: float
    k: float
    crossing: str
    angle: float
    windows: tuple[tuple[float, float], ...]
    gain_dc: float
    gain_nyquist: float
    growth: float
    a: np.ndarray
    b: np.ndarray
    eta: float
    spectators: np.ndarray

    def polynomial(self, k: float) -> np.ndarray:
        """Coefficients in z, highest power first."""
        return self.a + k * self.b

    def roots(self, sharpness: float) -> np.ndarray:
        """Multipliers at lambda(P^-1 H) = ``sharpness``."""
        return np.roots(self.polynomial(self.eta * sharpness))


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
        return _at(self.loop, self.parameters, self.region, numbers)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Random hyperparameters from ``domain``, inside ``region`` and with a stable window."""
        for _ in range(1000):
            point = {name: _draw(rng, *box) for name, box in self.domain.items()}
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
    """
    if t is not None and t < 1:
        raise BadFactory(f"got t = {t}, a step counted from 1 was needed")
    with time_limited(time_limit):
        try:
            return _edge(factory, t, settings)
        except Refusal:
            raise
        except Exception as error:  # whatever SymPy could not do with somebody's code: no theorem, but no crash
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CannotTrace(
                f"the derivation broke down, no theorem follows ({told})",
                "fix some hyperparameters or simplify the rule's case distinctions; toylab.filters may still take it",
            ) from error


def _edge(factory: Callable, t: int | None, settings: dict[str, Any]) -> Edge:
    held = held_map(factory, t=t, **settings)
    loop = split(held)
    parameters = held.parameters
    eta, name = parameters.eta, getattr(factory, "__name__", None) or describe(factory).rsplit(".", 1)[-1]
    a, b = loop.a, loop.b
    candidates = _Candidates(loop, parameters, held.region)
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


# ---------------------------------------------------------------------------------------------------------------
# Numbers


def _at(
    loop: Transfer, parameters: Hyperparameters, region: tuple[sp.Basic, ...], numbers: Mapping[str, float]
) -> EdgeNumbers:
    unknown = [n for n in numbers if n not in parameters.listed]
    if unknown:
        raise BadFactory(f"got {unknown[0]}; the rule's hyperparameters are {', '.join(parameters.listed)}")
    parameters.check(**numbers)
    values = parameters.numbers(**numbers)
    outside = next((condition for condition in region if condition.xreplace(values) == sp.false), None)
    if outside is not None:
        raise NoLinearEdge(
            f"the theorem was derived where {sp.sstr(outside)}, not so here: another branch of the code acts",
            "derive it again with these numbers as settings",
        )
    a, b = ([sp.N(c.xreplace(values), 40) for c in p] for p in (loop.a, loop.b))
    eta = float(parameters.eta.xreplace(values))
    found = stable_windows(a, b)
    first = next(((lo, hi) for lo, hi in found.windows if lo == 0.0), None)
    if first is None:
        shown = ", ".join(f"{n} = {float(values[s]):g}" for n, s in parameters.symbols.items())
        raise NoLinearEdge(
            f"no stable window starts at 0+ at {shown}: the held step moves uphill or is unstable by itself",
            "check the sign (optax.scale_by_learning_rate makes a descent direction) and the hyperparameters",
        )
    gain = first[1]
    cosine = found.cosine.get(gain, float("nan"))
    crossing = "none" if np.isinf(gain) else "flip" if cosine == -1.0 else "neimark_sacker"
    a_, b_ = np.array([float(c) for c in a]), np.array([float(c) for c in b])
    angle = float(np.arccos(np.clip(cosine, -1, 1)))
    growth = float("nan")
    if np.isfinite(gain):
        point = np.exp(1j * angle)
        with np.errstate(all="ignore"):
            rate = -np.polyval(b_, point) / np.polyval(np.polyder(a_ + gain * b_), point)
        growth = float(np.real(np.conj(point) * rate))
    dc, nyquist = (_ratio(loop, point, values) for point in (1, -1))
    return EdgeNumbers(
        gain / eta, gain, crossing, angle, tuple((lo / eta, hi / eta) for lo, hi in found.windows),
        dc, nyquist, growth, a_, b_, eta, np.roots([float(sp.N(c.xreplace(values), 40)) for c in loop.spectators]),
    )  # fmt: skip


def _ratio(loop: Transfer, point: int, values: Mapping) -> float:
    above, below = (sp.N(value(p, sp.Integer(point)).xreplace(values), 40) for p in (loop.numerator, loop.denominator))
    return float(above / below) if below != 0 else float("inf")


# ---------------------------------------------------------------------------------------------------------------
# Symbols


class _Candidates:
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
            points.append({n: _draw(rng, *box) for n, box in self.parameters.domain.items()})
        out = []
        for i, point in enumerate(points):
            try:
                out.append((point, _at(self.loop, self.parameters, self.region, point)))
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


def _draw(rng: np.random.Generator, low: float, high: float) -> float:
    if low > 0 and high / low > 50:
        return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.6g}")
    if high == 0.99 and rng.random() < 0.3:  # more often near 1, where memory is long
        return round(1 - 10 ** rng.uniform(-2, -1), 6)
    return round(rng.uniform(low, high), 6)


@lru_cache(maxsize=256)
def cached_edge(factory: Callable, settings: tuple[tuple[str, Any], ...] = ()) -> Edge:
    """`edge`, kept: for claims and figures that ask for the same theorem many times."""
    return edge(factory, **dict(settings))
