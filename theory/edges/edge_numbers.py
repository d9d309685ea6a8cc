"""The edge in numbers: one set of hyperparameters, forty digits, whatever the symbolic side could simplify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.edges.transfer import Transfer
from theory.edges.unit_circle import stable_windows, value
from theory.errors import BadFactory, NoLinearEdge
from theory.tracing.symbols import MEMORY, Hyperparameters, T


@dataclass(frozen=True)
class EdgeNumbers:
    """The edge at given hyperparameters, worked out with 40 digits, whatever the symbolic side could simplify.

    threshold, windows: in lambda(P^-1 H); ``k = eta threshold``.  crossing: "flip", "neimark_sacker" or "none" (no
    end: threshold is inf).  angle: of the critical multiplier.  growth: d|z|/dk at k*.  spectators: roots that do not
    move with k (structural ones, and decaying state that does not act on the weight).

    Example:
        >>> import optax, theory
        >>> numbers = theory.edge(optax.sgd, momentum=0.9).at(learning_rate=0.1)
        >>> numbers.crossing, round(numbers.threshold, 6), round(numbers.k, 6)
        ('flip', 38.0, 3.8)
        >>> print(abs(numbers.roots(40.0)).max().round(3))  # above the threshold: unstable
        1.5
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


def numbers_at(
    loop: Transfer, parameters: Hyperparameters, region: tuple[sp.Basic, ...], numbers: Mapping[str, float]
) -> EdgeNumbers:
    """`EdgeNumbers` at hyperparameters, by name; those left out keep their reference value (see `Edge.at`)."""
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
    # twice the digits that are asked for: roots of exact numbers would be simplified by factoring them
    values = {s: v if s is T else sp.Float(v, 80) for s, v in values.items()}
    a, b = ([sp.N(c.xreplace(values), 40) for c in p] for p in (loop.a, loop.b))
    eta = float(parameters.eta.xreplace(values))
    stable = stable_windows(a, b)
    first = next(((lo, hi) for lo, hi in stable.windows if lo == 0.0), None)
    if first is None:
        shown = ", ".join(f"{n} = {float(values[s]):g}" for n, s in parameters.symbols.items())
        raise NoLinearEdge(
            f"no stable window starts at 0+ at {shown}: the held step moves uphill or is unstable by itself",
            "check the sign (optax.scale_by_learning_rate makes a descent direction) and the hyperparameters",
        )
    gain = first[1]
    cosine = stable.cosine.get(gain, float("nan"))
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
        gain / eta, gain, crossing, angle, tuple((lo / eta, hi / eta) for lo, hi in stable.windows),
        dc, nyquist, growth, a_, b_, eta, np.roots([float(sp.N(c.xreplace(values), 40)) for c in loop.spectators]),
    )  # fmt: skip


def _ratio(loop: Transfer, point: int, values: Mapping) -> float:
    above, below = (sp.N(value(p, sp.Integer(point)).xreplace(values), 40) for p in (loop.numerator, loop.denominator))
    return float(above / below) if abs(below) > sp.Float(10) ** -60 else float("inf")


def draw_one(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number of a domain: averaging constants often near 1, where memory is long; wide ranges in the log."""
    if (low, high) == MEMORY:
        return round(1 - 10 ** rng.uniform(-2, -1), 6) if rng.random() < 0.3 else round(rng.uniform(low, high), 6)
    if low > 0 and high / low > 50:
        return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.6g}")
    return round(rng.uniform(low, high), 6)
