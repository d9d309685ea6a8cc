"""Polynomials and the unit circle: Schur-Cohn (Jury) conditions, critical gains, stable windows.

A loop p(z, k) = a(z) + k b(z) is stable where every root lies inside |z| = 1.  Coefficient lists run from the highest
power down.  The same functions take symbols and numbers (SymPy expressions or mpmath floats): only + - * / are used.

`toylab.rules` finds the stable windows of the same rules in floating point, without sharing a line with this module:
claims compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mpmath as mp
import sympy as sp

Coefficients = Sequence[Any]


def jury_conditions(p: Coefficients) -> list[sp.Expr]:
    """Expressions that are all positive exactly if the real polynomial ``p`` (p[0] > 0) has its roots in |z| < 1.

    p(1) > 0, (-1)^n p(-1) > 0, and the inner determinants of X +- Y positive, X the upper triangular Toeplitz and Y
    the lower Hankel matrix of the coefficients (Jury, Inners and Stability of Dynamic Systems, 1974).
    """
    p = [sp.sympify(c) for c in p]
    n = len(p) - 1
    if n == 0:
        return []
    at_one = sum(p)
    at_minus_one = sum(c * (-1) ** i for i, c in enumerate(p))  # (-1)^n p(-1)
    conditions = [at_one, at_minus_one]
    if n == 1:
        return conditions
    m = n - 1
    upper = sp.Matrix(m, m, lambda i, j: p[j - i] if j >= i else 0)
    hankel = sp.Matrix(m, m, lambda i, j: p[2 + i + j] if 2 + i + j <= n else 0)
    size = m
    while size >= 1:
        low = (m - size) // 2
        for sign in (1, -1):
            inner = (upper + sign * hankel)[low : low + size, low : low + size]
            conditions.append(inner.det(method="berkowitz"))
        size -= 2
    return conditions


def is_schur(p: Sequence[Any]) -> bool:
    """Whether every root of the numeric polynomial lies strictly inside the unit circle (Schur-Cohn recursion)."""
    p = list(p)
    while len(p) > 1:
        if abs(p[-1]) >= abs(p[0]):
            return False
        ratio = p[-1] / p[0]
        p = [x - ratio * y for x, y in zip(p[:-1], reversed(p[1:]), strict=True)]
    return True


def on_circle(a: Coefficients, b: Coefficients) -> list[Any]:
    """N(c), highest power first: on z = e^{i angle}, a/b is real where sin(angle) N(cos(angle)) = 0.

    a b* - a* b (star: reversed coefficients) is antipalindromic, so z^2 - 1 divides it and the quotient is a
    polynomial in c = (z + 1/z)/2 once z^m is taken out.
    """
    n = len(a) - 1
    product = [0] * (2 * n + 1)
    for i, x in enumerate(a):
        for j, y in enumerate(reversed(b)):
            product[i + j] = product[i + j] + x * y
    both = [u - v for u, v in zip(product, reversed(product), strict=True)]
    quotient: list[Any] = []  # divide by z^2 - 1
    for i in range(2 * n - 1):
        quotient.append(both[i] + (quotient[i - 2] if i >= 2 else 0))
    # palindromic of degree 2m: sum_j 2 q_{m+j} T_j(c), q_m once
    m = n - 1
    chebyshev = [[1], [1, 0]]
    for _ in range(m):
        longer, last = [2 * x for x in chebyshev[-1]] + [0], chebyshev[-2]
        padded = [0] * (len(longer) - len(last)) + list(last)
        chebyshev.append([u - v for u, v in zip(longer, padded, strict=True)])
    out = [0] * (m + 1)
    for j in range(m + 1):
        weight = quotient[m - j] * (1 if j == 0 else 2)
        for i, x in enumerate(chebyshev[j]):
            out[m + 1 - len(chebyshev[j]) + i] = out[m + 1 - len(chebyshev[j]) + i] + weight * x
    return out


def gain_at(a: Coefficients, b: Coefficients, c: Any) -> Any:
    """k = -a/b at z = e^{i angle} with cos(angle) = c, where it is real: -Re(a b-bar)/|b|^2."""
    return -_dot(a, b, c) / _dot(b, b, c)


def _dot(a: Coefficients, b: Coefficients, c: Any) -> Any:
    """Re(a(z) conj(b(z))) on the circle: sum over coefficients of a_i b_j T_{|i-j|}(c)."""
    powers = [1, c]
    for _ in range(len(a)):
        powers.append(2 * c * powers[-1] - powers[-2])
    return sum(x * y * powers[abs(i - j)] for i, x in enumerate(a) for j, y in enumerate(b))


def value(p: Coefficients, z: Any) -> Any:
    """p(z) by Horner's rule."""
    out: Any = 0
    for c in p:
        out = out * z + c
    return out


@dataclass(frozen=True)
class Windows:
    """Stable windows (lo, hi) of k > 0 in rising order, and the cosine of the critical angle at each finite end."""

    windows: tuple[tuple[float, float], ...]
    cosine: dict[float, float]


def stable_windows(a: Sequence[Any], b: Sequence[Any], digits: int = 40) -> Windows:
    """All k > 0 at which a + k b is Schur stable; numbers, worked out with ``digits`` digits."""
    with mp.workdps(digits):
        a, b = ([mp.mpf(str(sp.N(x, digits))) if isinstance(x, sp.Basic) else mp.mpf(x) for x in p] for p in (a, b))
        critical: dict[Any, Any] = {}
        for c in (mp.mpf(1), mp.mpf(-1)):
            denominator = value(b, c)
            if abs(denominator) > mp.mpf(10) ** (10 - digits):
                critical[-value(a, c) / denominator] = c
        for c in _real_roots(on_circle(a, b), digits):
            if -1 < c < 1 and abs(_dot(b, b, c)) > mp.mpf(10) ** (10 - digits):
                critical.setdefault(gain_at(a, b, c), c)
        ends = [mp.mpf(0), *sorted(k for k in critical if k > mp.mpf(10) ** (20 - digits)), mp.inf]
        intervals: list[list[Any]] = []
        for lo, hi in pairwise(ends):
            inside = hi / 2 if lo == 0 else mp.sqrt(lo * hi)
            inside = 1 + 2 * lo if hi == mp.inf else inside
            if is_schur([x + inside * y for x, y in zip(a, b, strict=True)]):
                if intervals and intervals[-1][1] == lo:
                    intervals[-1][1] = hi
                else:
                    intervals.append([lo, hi])
        return Windows(
            tuple((float(lo), float(hi)) for lo, hi in intervals),
            {float(k): float(c) for k, c in critical.items() if k > 0},
        )


def _real_roots(p: list[Any], digits: int) -> list[Any]:
    scale = max((abs(x) for x in p), default=mp.mpf(0))
    while p and abs(p[0]) <= scale * mp.mpf(10) ** (10 - digits):
        p = p[1:]
    if len(p) < 2:
        return []
    roots = mp.polyroots(p, maxsteps=500, extraprec=4 * digits, error=False)
    # a real root of multiplicity m is found with an imaginary part of about 10^(-digits/m)
    return [mp.re(r) for r in roots if abs(mp.im(r)) < mp.mpf(10) ** (-digits // 4)]
