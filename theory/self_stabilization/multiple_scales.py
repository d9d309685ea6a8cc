"""Multiple scales at the edge, for any filter that crosses at z = -1: the slow motion of an oscillation and its drift.

A rule with filter Q moves by k(z) w = eta grad L, with k(z) = (1 - z)/Q(z) and z the shift by one step.  Near the edge
S = k*/eta, k* = k(-1), with a weak push (the slopes alpha, f and the curvature h of the valley's floor are O(eps)),

    x_n = r A (-1)^n + r^2 B(A, s) + O(r^3),     s_n = r s + r^2 (-1)^n C(A, s) + O(r^3),     r = sqrt(eps),

where A and s are slow: one step shifts them by e^(r d).  k and Q act on (-1)^n times a slow function as k(-e^(r d)), on
a slow function as k(e^(r d)), so only the numbers of `theory.edges.filter_numbers` enter.  The two
balances on each of the two rhythms give B and C, the flow of (A, s) at leading order (a centre) and its first
correction (a drift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from theory.edges.filter_numbers import ADVANCE, BEND, KAPPA, Q1, K
from theory.losses.plane_jet import ALPHA, BETA, Jet, S, symbolic_jet
from theory.losses.taylor import s, x

A = sp.Symbol("A", positive=True)
r = sp.Symbol("r", positive=True)
eta = sp.Symbol("eta", positive=True)


@dataclass(frozen=True)
class SlowMotion:
    """The slow motion (per unit of r x steps) and what was averaged away.

    amplitude, level      dA/dtau, ds/dtau, tau = r n, as polynomials in r up to first order
    offset, ripple        B, C: mean of x and oscillation of s at second order
    energy                E(A, y), conserved at leading order, y = sqrt(beta) s
    drift                 c in dE/dtau = r c <y^2> (mean over a closed orbit)
    lift                  the mean of y over a closed orbit: r (lift[0] + lift[1] <y^2>)
    """

    amplitude: sp.Expr
    level: sp.Expr
    offset: sp.Expr
    ripple: sp.Expr
    energy: sp.Expr
    drift: sp.Expr
    lift: tuple[sp.Expr, sp.Expr]


def slow_motion(jet: Jet) -> SlowMotion:
    """Carry the expansion through second order for a jet whose sharpness is kstar/eta.

    alpha, f and h of the jet count as O(eps); nothing else is assumed small.  Source: method of multiple scales, as
    for gradient descent in Berthier 2026; the filter's part is derived here.
    """
    jet = Jet(**{**vars(jet), "sharpness": K / eta})
    gx, gs = _scaled(jet)
    offset, ripple = sp.symbols("B C")
    flow = {A: sp.Integer(0), s: sp.Integer(0)}
    mean_x, wave_x = _rhythms(gx, offset, ripple)
    mean_s, wave_s = _rhythms(gs, offset, ripple)

    def order(expr: sp.Expr, n: int) -> sp.Expr:
        return sp.expand(expr).coeff(r, n)

    # algebraic balances at r^2: k(1) = 0 holds the mean of x, k(-1) = kstar the oscillation of s
    b = sp.solve(order(mean_x, 2), offset)[0]
    c = order(wave_s, 2) * eta / K
    fast = {offset: b, ripple: c.xreplace({offset: b})}
    # the slow flow, one order after the other; d acts by the chain rule
    wave, mean = wave_x.xreplace(fast), mean_s.xreplace(fast)
    first = {A: sp.expand(KAPPA * eta * order(wave, 2)), s: sp.expand(-Q1 * eta * order(mean, 2))}
    slope = {q: _along(first[q], first) for q in (A, s)}
    flow = {
        # k(-e^(rd)) = kstar + r d/kappa + r^2 (k2 + 1/kappa) d^2/2, on A
        A: first[A] + r * sp.expand(KAPPA * (eta * order(wave, 3) - (BEND + 1 / KAPPA) * slope[A] / 2)),
        # 1 - e^(rd) on s; Q(e^(rd)) = Q1 (1 + q1 r d) on the mean gradient
        s: first[s] + r * sp.expand(-Q1 * eta * order(mean, 3) + ADVANCE * slope[s] - slope[s] / 2),
    }
    energy, drift, lift = _drift(jet, first, flow)
    return SlowMotion(flow[A], flow[s], b, fast[ripple], energy, drift, lift)


def _scaled(jet: Jet) -> tuple[sp.Expr, sp.Expr]:
    """The gradient with its weak parts multiplied by r^2."""
    weak = {name: r**2 * sp.sympify(getattr(jet, name)) for name in ("sharpening_rate", "tilt", "transverse")}
    gx, gs = Jet(**{**vars(jet), **weak}).expansion().gradient()
    return gx, gs


def _rhythms(gradient: sp.Expr, offset: sp.Symbol, ripple: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    """Mean and oscillating part, to r^3, of a component of the gradient (without k* A, which k(-1) cancels)."""
    up, down = (
        sp.expand(gradient.xreplace({x: r * sign * A + r**2 * offset, s: r * s + r**2 * sign * ripple}))
        for sign in (1, -1)
    )
    return sp.expand((up + down) / 2), sp.expand((up - down) / 2)


def _along(value: sp.Expr, flow: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    return sp.expand(sum(sp.diff(value, q) * rate for q, rate in flow.items()))


def _drift(
    jet: Jet, first: Mapping[sp.Symbol, sp.Expr], flow: Mapping[sp.Symbol, sp.Expr]
) -> tuple[sp.Expr, sp.Expr, tuple[sp.Expr, sp.Expr]]:
    """Conserved energy of the leading flow, and the mean rate at which the correction changes it."""
    alpha, beta = jet.sharpening_rate, jet.grad_sharpness_sq
    y = sp.Symbol("y", real=True)
    as_y = {s: y / sp.sqrt(beta)}
    energy = KAPPA * y**2 / 2 + Q1 * (beta * A**2 / 4 - alpha * sp.log(A))
    rate_y = {A: first[A].xreplace(as_y), y: sp.sqrt(beta) * first[s].xreplace(as_y)}
    if sp.expand(_along(energy, rate_y)) != 0:
        raise ArithmeticError("the leading flow does not conserve its energy")
    second = {A: flow[A].coeff(r, 1).xreplace(as_y), y: sp.sqrt(beta) * flow[s].coeff(r, 1).xreplace(as_y)}
    drift = _mean(sp.expand(_along(energy, second)), y, alpha, beta)
    # d log A/dtau has mean zero over a closed orbit: this fixes the mean of y
    growth = sp.expand(second[A] / A)
    lift = _mean(sp.expand(-growth / (KAPPA * eta)), y, alpha, beta)
    by_square = [sp.factor(lift.coeff(_Y2, n)) for n in (0, 1)]
    return energy, sp.factor(drift.coeff(_Y2, 1)), (by_square[0], by_square[1])


_Y2 = sp.Symbol("mean_y2", positive=True)


def _mean(expr: sp.Expr, y: sp.Symbol, alpha: sp.Expr, beta: sp.Expr) -> sp.Expr:
    """The mean over a closed orbit of a polynomial in A^2 and y, in terms of <y^2>.

    With D = dy/dtau = Q1 eta (alpha - beta A^2/2): <D y^j> = 0, and by parts
    <D^2 y^j> = 2 kappa Q1 eta^2 alpha <y^(j+2)>/(j+1) - 2 kappa eta <D y^(j+2)>/(j+1).
    """
    d = sp.Symbol("D")
    squared = 2 * (alpha - d / (Q1 * eta)) / beta
    poly = sp.Poly(sp.expand(expr.subs(A**2, squared).subs(A**4, squared**2)), d, y)
    if A in poly.free_symbols:
        raise ArithmeticError("an odd power of the amplitude was left in a mean")
    total = sp.Integer(0)
    for (i, j), coefficient in poly.terms():
        mean: sp.Expr
        if i == 0 and j % 2 == 0 and j <= 2:
            mean = _Y2 ** (j // 2)
        elif i == 1 or (i in (0, 2) and j % 2 == 1):
            mean = sp.Integer(0)  # a total derivative; or odd in y, and the orbit is symmetric in y
        elif i == 2 and j == 0:
            mean = 2 * KAPPA * Q1 * eta**2 * alpha * _Y2
        else:
            raise ArithmeticError(f"<D^{i} y^{j}> is not a multiple of <y^2>")
        total += coefficient * mean
    return sp.expand(total)


@lru_cache(maxsize=1)
def cubic_motion() -> SlowMotion:
    """`slow_motion` of the pure cubic model: alpha and beta only."""
    return slow_motion(Jet(S, ALPHA, BETA))


@lru_cache(maxsize=1)
def general_motion() -> SlowMotion:
    """`slow_motion` of the symbolic jet: every derivative that can matter at this order."""
    return slow_motion(symbolic_jet())
