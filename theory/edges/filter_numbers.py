"""The few numbers of a rule's filter that decide what happens at a flip, as formulas and as floats.

A rule with filter Q and decoupled weight decay omega moves by k(z) w = eta P^-1 grad L, where z shifts by one step and

    k(z) = (1 - eta omega - z)/Q(z) = -a(z)/b(z)     (a, b: the polynomials of `theory.edges.transfer.Transfer`).

An oscillation (-1)^n A_n with a slow envelope A_n sees k near z = -1, its slow mean sees k and Q near z = 1:

    k* = k(-1)            the edge: the oscillation neither grows nor decays at eta lambda(P^-1 H) = k*
    kappa = -1/k'(-1)     how fast it grows above the edge: the critical root moves by dz/dk = -kappa
    k2 = k''(-1)          how the growth of the envelope lags behind the excess over the edge
    Q(1)                  the speed of the mean along the mean gradient
    q1 = Q'(1)/Q(1)       how far the mean runs ahead of the mean gradient, in steps (negative for momentum)
    Lambda = Q(1) (1 - q1 + kappa k2/2)     the two lags together: self-stabilization spirals outwards if positive

For gradient descent Q = 1: k* = 2, kappa = 1, k2 = 0, Q(1) = 1, q1 = 0, Lambda = 1.  Time is counted in steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.edges.transfer import Transfer, z
from theory.edges.unit_circle import value
from theory.simplify import tidy

KAPPA, Q1, ADVANCE, BEND, LAMBDA = sp.symbols("kappa Q1 q1 k2 Lambda", real=True)
K = sp.Symbol("kstar", positive=True)
"""kappa, Q(1), q1, k2, Lambda and k* as symbols, for laws that hold for every filter."""

_ONE, _FLIP = {z: sp.Integer(1)}, {z: sp.Integer(-1)}


def inverse_filter(q: sp.Expr) -> sp.Expr:
    """k(z) = (1 - z)/Q(z) of a filter Q(z) without weight decay."""
    return sp.cancel((1 - z) / q)


def loop_inverse(loop: Transfer) -> sp.Expr:
    """k(z) = -a(z)/b(z) of a rule, its decoupled weight decay included."""
    return sp.cancel(-value(loop.a, z) / value(loop.b, z))


def at_flip(k: sp.Expr, derivative: int = 0) -> sp.Expr:
    """The derivative of k(z) of that order at z = -1, in lowest terms."""
    return tidy(sp.diff(k, z, derivative).xreplace(_FLIP))


def at_one(k: sp.Expr, derivative: int = 0) -> sp.Expr:
    """The derivative of k(z) of that order at z = 1, in lowest terms."""
    return tidy(sp.diff(k, z, derivative).xreplace(_ONE))


def envelope_growth(k: sp.Expr) -> sp.Expr:
    """kappa = -1/k'(-1) in lowest terms."""
    return tidy(-1 / sp.diff(k, z).xreplace(_FLIP))


def total_lag(gain: Any, advance: Any, kappa: Any, bend: Any) -> Any:
    """Lambda = Q(1) (1 - q1 + kappa k2/2), of symbols or of numbers."""
    return gain * (1 - advance + kappa * bend / 2)


def filter_values(q: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
    """symbol -> value for `K`, `KAPPA`, `BEND`, `Q1`, `ADVANCE` and `LAMBDA`, in lowest terms.

    ``q`` is a filter Q(z) without weight decay that crosses its edge by a flip.
    """
    k = inverse_filter(q)
    kappa, bend, gain = envelope_growth(k), at_flip(k, 2), at_one(q)
    advance = tidy(sp.diff(q, z).xreplace(_ONE) / gain)
    return {
        K: at_flip(k),
        KAPPA: kappa,
        BEND: bend,
        Q1: gain,
        ADVANCE: advance,
        LAMBDA: tidy(total_lag(gain, advance, kappa, bend)),
    }


@dataclass(frozen=True)
class FilterNumbers:
    """The numbers of a rule's filter at given hyperparameters; times in steps.

    critical  k* with the learning rate taken out of the threshold: k*/eta is the edge of lambda_max(P^-1 H)
    gain      Q(1)
    kappa     Re 1/(z* k'(z*)) at the crossing z*, which is -1/k'(-1) for a flip; positive
    advance   q1 = Q'(1)/Q(1);  bend: k2 = k''(-1);  lag: Lambda.  None where the crossing is a complex pair
    """

    learning_rate: float
    critical: float
    gain: float
    kappa: float
    advance: float | None = None
    bend: float | None = None
    lag: float | None = None

    def frequency(self, sharpening_rate: float) -> float:
        """Angular frequency, per step, of small orbits of self-stabilization."""
        return self.learning_rate * (2 * sharpening_rate * self.kappa * self.gain) ** 0.5

    def threshold(self) -> float:
        """The edge of lambda_max(P^-1 H), k*/eta."""
        return self.critical / self.learning_rate


def numbers_of(q: sp.Expr, learning_rate: float, critical: float, angle: float | None) -> FilterNumbers:
    """`FilterNumbers` of a filter Q(z) whose coefficients are numbers (30 digits).

    ``angle`` is that of the critical root on the unit circle, None for a flip.
    """
    point = sp.Integer(-1) if angle is None else sp.exp(sp.I * sp.Float(angle, 30))
    k = (1 - z) / q
    kappa = complex(sp.N(1 / (point * sp.diff(k, z).xreplace({z: point})), 20)).real
    gain = float(sp.N(q.xreplace(_ONE), 20))
    if angle is not None:
        return FilterNumbers(learning_rate, critical, gain, kappa)
    bend = float(sp.N(sp.diff(k, z, 2).xreplace({z: point}), 20))
    advance = float(sp.N(sp.diff(q, z).xreplace(_ONE), 20)) / gain
    return FilterNumbers(learning_rate, critical, gain, kappa, advance, bend, total_lag(gain, advance, kappa, bend))
