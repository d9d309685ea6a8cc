"""Stable windows of a generated rule, without a polynomial.

A gain is critical where two multipliers multiply to one, an eigenvalue problem on symmetric matrices.
"""

import math
from itertools import pairwise

import numpy as np
import scipy.linalg


def spectral_radius(M0, M1, h):
    return np.abs(np.linalg.eigvals(M0 + h * M1)).max()


def symmetric_square(A, B):
    """X -> (A X B^T + B X A^T)/2 on symmetric X, as a matrix."""
    n = len(A)
    index = [(i, j) for i in range(n) for j in range(i, n)]
    out = np.empty((len(index), len(index)))
    for col, (i, j) in enumerate(index):
        X = np.zeros((n, n))
        X[i, j] = X[j, i] = 1.0
        Y = (A @ X @ B.T + B @ X @ A.T) / 2
        out[:, col] = [Y[k, m] for k, m in index]
    return out


def critical_gains(M0, M1):
    """Every real h > 0 at which two multipliers of M0 + h M1 multiply to one: a superset of all crossings."""
    K0, K1, K2 = symmetric_square(M0, M0), 2 * symmetric_square(M0, M1), symmetric_square(M1, M1)
    size, scale = len(K0), 1 / np.abs(M1).max()
    eye, zero = np.eye(size), np.zeros((size, size))
    # (K0 - I) + h K1 + h^2 K2 = 0, h measured in units of the gain
    left = np.block([[zero, eye], [K0 - eye, K1 * scale]])
    right = np.block([[eye, zero], [zero, -K2 * scale**2]])
    with np.errstate(all="ignore"):
        h = scipy.linalg.eigvals(left, right) * scale
    h = h[np.isfinite(h)]
    return sorted({float(x.real) for x in h if x.real > 0 and abs(x.imag) < 1e-3 * abs(x)})


def oracle_windows(M0, M1):
    """Stable windows in h > 0; ends polished by bisection of the spectral radius."""
    gains = [g for g in critical_gains(M0, M1) if 1e-7 < g * np.abs(M1).max() < 1e9]
    ends = [gains[0] * 1e-4 if gains else 1e-6, *gains, (gains[-1] if gains else 1.0) * 1e4]
    middles = [math.sqrt(lo * hi) for lo, hi in pairwise(ends)]
    inside = [spectral_radius(M0, M1, m) < 1 for m in middles]
    windows, lo = [], 0.0 if inside[0] else None
    for (before, after), (here, there) in zip(pairwise(middles), pairwise(inside), strict=True):
        if here != there:
            left, right = before, after
            for _ in range(80):
                middle = math.sqrt(left * right)
                left, right = (middle, right) if (spectral_radius(M0, M1, middle) < 1) == here else (left, middle)
            if here:
                windows.append((lo, left))
                lo = None
            else:
                lo = left
    if lo is not None:
        windows.append((lo, np.inf))
    return windows


def separable(rule):
    """Whether one P divides the loop, as numbers: chi(z, h) = a0(z) + (P h + shift) b0(z)/P at two frozen P."""
    if not any(q.adaptive for q in rule.pieces):
        return True
    found = []
    for p in (
        [1.0] * len(rule.pieces),
        [1.0 + (i + 1) * 0.7 if q.adaptive else 1.0 for i, q in enumerate(rule.pieces)],
    ):
        M0, M1 = rule.matrices(1.0, p)  # eta only scales the loop, and a small one would drown it in rounding
        alpha = np.poly(M0)
        found.append((alpha, (np.poly(M0 + M1) - alpha), np.prod(p)))
    (a, b, _), (a_, b_, P) = found
    if not np.allclose(b, b_ * P, rtol=1e-7, atol=1e-7 * np.abs(b).max()):
        return False
    moved, direction = a - a_, b - b_
    shift = moved @ direction / (direction @ direction)
    # coefficients of order one, rounded by np.poly's products of nearly equal eigenvalues
    return bool(np.allclose(moved, shift * direction, atol=1e-8 * max(1.0, np.abs(a).max())))


def close(found, expected, M0, M1):
    """Equal ends; or, where the radius is flat at the crossing, an end at which the radius is 1 all the same."""
    if np.isinf(found) or np.isinf(expected):
        return found == expected
    if abs(found / expected - 1) < 1e-7:  # bisection resolves the radius to ~1e-12, its slope is rarely below 1e-5
        return True
    return abs(spectral_radius(M0, M1, found) - 1) < 1e-8 and abs(found / expected - 1) < 1e-2
