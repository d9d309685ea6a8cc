"""Closed orbits of the averaged self-stabilization, the same for every rule once time and level are scaled.

With v = log(x^2/delta^2), delta^2 = 2 alpha/beta, the averaged motion log|x|' = kappa eta y, y' = Q(1) eta alpha
(1 - e^v) is v'' = omega^2 (1 - e^v): a Toda oscillator of frequency omega = eta sqrt(2 alpha kappa Q(1)) and energy

    level = e^v - v - 1 + (v'/omega)^2/2 = g(|x|/delta) + kappa y^2/(Q(1) alpha),   g(q) = q^2 - log q^2 - 1.

(Damian, Nichani & Lee 2209.15594, for gradient descent: kappa = Q(1) = 1.)  Times are in units
of 1/omega; on the orbit of a level the two roots of e^v - v - 1 = p are given by Lambert's W.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from theory.theorem import Theorem

level = sp.Symbol("level", positive=True)
_P = sp.Symbol("p", positive=True)
_V = sp.Symbol("v", real=True)
_NODES = 200  # the integrands are analytic; from level 1e-6 to 1e3 this many Gauss-Legendre nodes leave 1e-12


@lru_cache(maxsize=1)
def closed_orbits(terms: int = 3) -> Theorem:
    """Extremes of an orbit in closed form, its period as an integral and as a series for small orbits.

    **Expressions** (in `level`): `largest`, `smallest` of x^2/delta^2; `highest` of (v'/omega)^2/2 = kappa y^2/(Q(1)
    alpha), which is `level` itself; `period_series` to level^(terms - 1) in units of 1/omega, from the expansion of v
    in sqrt(p).
    """
    above, below = _branches()
    conserved = sp.exp(_V) - _V - 1 + sp.Symbol("u") ** 2 / 2
    u = sp.Symbol("u")
    rate = sp.diff(conserved, _V) * u + sp.diff(conserved, u) * (1 - sp.exp(_V))
    if sp.expand(rate) != 0:
        raise ArithmeticError("the energy of the Toda oscillator is not conserved")
    return Theorem(
        statement="averaged orbits are closed; their period depends on the level only, 2 pi/omega for small ones",
        assumptions=("leading order in eta sqrt(alpha); the level does not drift",),
        source="Damian, Nichani & Lee 2209.15594; scaled to any filter",
        expressions={
            "largest": sp.exp(above).xreplace({_P: level}),
            "smallest": sp.exp(below).xreplace({_P: level}),
            "highest": level,
            "period_series": _series(terms),
        },
        arguments={"level": level},
    )


def _branches() -> tuple[sp.Expr, sp.Expr]:
    """The roots v > 0 and v < 0 of e^v - v - 1 = p, checked by substitution."""
    roots = []
    for branch in (-1, 0):
        w = sp.LambertW(-sp.exp(-1 - _P), branch)
        v = -w - 1 - _P
        if sp.cancel(v.diff(_P) * (-w - 1) - 1) != 0:  # e^v = -w there, so (e^v - 1) dv/dp = 1
            raise ArithmeticError("Lambert's W does not solve e^v - v - 1 = p")
        roots.append(v)
    return roots[0], roots[1]


def _series(terms: int) -> sp.Expr:
    """With q^2 = p, dv/dq = 2 q/(q^2 + v) (since e^v - 1 = p + v), and the time on a branch is sqrt(2)/2 dv/dq dphi.

    v = a1 q + a2 q^2 + ..., one coefficient after the other from dv/dq (q^2 + v) = 2 q; q < 0 is the other branch.
    """
    q, phi = sp.symbols("q phi", positive=True)
    v = sp.sqrt(2) * q
    for n in range(2, 2 * terms):
        residual = sp.expand(sp.diff(v, q) * (q**2 + v) - 2 * q).coeff(q, n)
        v -= residual / (sp.sqrt(2) * (n + 1)) * q**n
    slope = sp.diff(v, q)
    both = sp.expand(slope + slope.subs(q, -q))  # what is odd in q cancels
    integrand = sp.sqrt(2) * both.xreplace({q: sp.sqrt(level) * sp.cos(phi)})
    return sp.expand(sp.integrate(sp.expand(integrand), (phi, 0, sp.pi / 2)))


def branch(p: ArrayLike, side: int) -> np.ndarray:
    """The root v of e^v - v - 1 = p >= 0 with the sign of ``side``, by Newton: the function is convex."""
    p = np.asarray(p, dtype=float)
    far = np.log1p(p + np.log1p(p)) if side > 0 else -1 - p
    v = np.where(p < 0.5, side * np.sqrt(2 * p) - p / 3, far)
    for _ in range(8):  # the starts are within 0.2 of the root and errors square: 1e-16 after five, three to spare
        slope = np.expm1(v)
        v = np.where(p > 0, v - (_excess(v) - p) / np.where(slope == 0, 1.0, slope), 0.0)
    return v


def _excess(v: np.ndarray) -> np.ndarray:
    """e^v - v - 1 without cancellation: the series leaves v^7/5040, 2e-16 of v^2/2 at |v| = 1e-2."""
    small = np.abs(v) < 1e-2
    series = v**2 / 2 * (1 + v / 3 * (1 + v / 4 * (1 + v / 5 * (1 + v / 6))))
    return np.where(small, series, np.expm1(np.where(small, 0.0, v)) - v)


@lru_cache
def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _integral(energy: float, side: int, weight: Callable[[np.ndarray], np.ndarray] | None = None) -> float:
    """Integral of ``weight`` (of (v'/omega)^2) over the time that an orbit spends on one side of v = 0."""
    nodes, weights = _gauss(_NODES)
    phi = (nodes + 1) * np.pi / 4
    v = branch(energy * np.cos(phi) ** 2, side)
    time = np.sqrt(2 * energy) * np.cos(phi) / np.abs(np.expm1(v))
    value = np.ones_like(phi) if weight is None else weight(2 * energy * np.sin(phi) ** 2)
    return float(2 * np.pi / 4 * np.sum(weights * time * value))


def period(energy: float) -> float:
    """Period of the orbit of that level, in units of 1/omega; 2 pi at level 0."""
    return _integral(energy, 1) + _integral(energy, -1)


def stages(energy: float) -> np.ndarray:
    """Times (4,), in units of 1/omega, of the four stages of one period.

    Progressive sharpening (|x| < delta, y < 0), blow-up (|x| < delta, y > 0), self-stabilization (|x| > delta, y > 0),
    return to stability (|x| > delta, y < 0).  The orbit is symmetric in y, so they come in equal pairs.
    """
    quiet, loud = _integral(energy, -1) / 2, _integral(energy, 1) / 2
    return np.array([quiet, quiet, loud, loud])


def mean_square_rate(energy: float) -> float:
    """Mean of (v'/omega)^2 = 2 kappa y^2/(Q(1) alpha) over the orbit of level ``energy``; it tends to
    ``energy`` for small orbits."""
    square = sum(_integral(energy, side, lambda rate: rate) for side in (1, -1))
    return square / period(energy)
