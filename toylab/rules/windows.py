"""Where a loop poly0(z) + lambda poly1(z) is stable: all windows of lambda > 0, and the multiplier that leaves first.

On the host, in numpy: nonsymmetric eigenvalues exist there only.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from toylab.rules.errors import NoLinearEdge


def reduced(poly0: np.ndarray, poly1: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[complex, ...]]:
    """Divide out the roots that do not move with lambda; return the ones on the unit circle."""
    roots0, roots1 = list(np.roots(poly0)), list(np.roots(poly1))
    # a root of multiplicity m is known to about eps^(1/m); six digits cover the double ones met in practice
    lead = poly1[np.flatnonzero(poly1)[0]] if np.any(poly1) else 0.0
    shared = []
    for root in list(roots1):
        near = [r for r in roots0 if abs(r - root) < 1e-6]
        if near:
            roots0.remove(min(near, key=lambda r: abs(r - root)))
            roots1.remove(root)
            shared.append(root)
    # dividing by the roots of poly1, which are the simple ones, keeps what is left of poly0 accurate
    new0 = np.atleast_1d(np.polydiv(poly0, np.real(np.poly(shared)))[0]) if shared else poly0
    new1 = lead * np.atleast_1d(np.real(np.poly(roots1)))
    if any(abs(r) > 1 + 1e-6 for r in shared):
        raise NoLinearEdge("the held step is unstable by itself: a mode that the gradient does not move grows")
    structural = tuple(complex(r) for r in shared if abs(abs(r) - 1) < 1e-6)
    return new0, np.concatenate([np.zeros(len(new0) - len(new1)), new1]), structural


def stable_windows(
    poly0: np.ndarray, poly1: np.ndarray, matrix: np.ndarray, inject: np.ndarray
) -> tuple[tuple[tuple[float, float], ...], float]:
    """All lambda > 0 windows with every root inside the unit circle, and the angle at the end of the first.

    On |z| = 1 a critical lambda makes poly0 + lambda poly1 vanish together with its reciprocal, so the critical z are
    unit roots of poly0 poly1* - poly0* poly1, a polynomial without lambda.
    """
    critical: dict[float, float] = {}
    # lambda = 0 is critical without decay (z = 1 is the weight itself): rounding must not make an end of it
    negligible = 1e-10 * np.abs(poly0).sum() / np.abs(poly1).sum()
    both = np.polysub(np.convolve(poly0, poly1[::-1]), np.convolve(poly0[::-1], poly1))
    for z in [1.0, -1.0, *np.roots(np.trim_zeros(both, "f"))]:
        if abs(abs(z) - 1) > 1e-4 or np.imag(z) < 0:  # 1e-4: unit roots of multiplicity 3 are only known to eps^(1/4)
            continue
        z = z / abs(z)
        denominator = np.polyval(poly1, z)
        if abs(denominator) > 1e-12 * np.abs(poly1).sum():
            lam = -np.polyval(poly0, z) / denominator
            if np.isfinite(lam) and lam.real > negligible and abs(lam.imag) < 1e-3 * abs(lam):
                exact, sharpness = _polish(matrix, inject, z) if abs(z - 1) > 1e-9 else (z, lam.real)
                if sharpness > negligible:
                    critical[sharpness] = float(np.angle(exact))
    ends = [0.0, *sorted(critical), np.inf]
    stable = [_radius(poly0 + _between(lo, hi) * poly1) < 1 for lo, hi in pairwise(ends)]
    windows: list[tuple[float, float]] = []
    for (lo, hi), good in zip(pairwise(ends), stable, strict=True):
        if good:
            joined = windows and windows[-1][1] == lo
            windows[-1:] = [(windows[-1][0], hi)] if joined else [*windows[-1:], (lo, hi)]
    return tuple(windows), critical.get(windows[0][1], np.nan) if windows else np.nan


def _polish(matrix: np.ndarray, inject: np.ndarray, z: complex) -> tuple[complex, float]:
    """The critical multiplier and lambda from the matrices themselves: lambda e_w^T (z - matrix)^-1 inject = 1.

    Polynomial coefficients lose digits where k* is large or the memory long; solving with the matrices does not.
    """

    def inverse(point: complex) -> tuple[complex, complex]:  # 1/G and its derivative
        resolvent = point * np.eye(len(inject)) - matrix
        once = np.linalg.solve(resolvent, inject)
        twice = np.linalg.solve(resolvent, once)
        with np.errstate(all="ignore"):  # an absurd learning rate overflows: NaN is no end of a window
            return 1 / once[0], twice[0] / once[0] ** 2

    if abs(np.imag(z)) < 1e-9:
        real = float(np.sign(np.real(z)))
        return complex(real), float(np.real(inverse(real)[0]))
    angle = float(np.angle(z))
    for _ in range(6):
        point = np.exp(1j * angle)
        gain, slope = inverse(point)
        turn = np.imag(1j * point * slope)
        if turn != 0 and abs(np.imag(gain) / turn) < 1e-2:
            angle -= float(np.imag(gain) / turn)
    point = np.exp(1j * angle)
    return complex(point), float(np.real(inverse(point)[0]))


def _between(lo: float, hi: float) -> float:
    if np.isinf(hi):
        return 2 * lo + 1.0
    return hi / 2 if lo == 0.0 else np.sqrt(lo * hi)


def _radius(polynomial: np.ndarray) -> float:
    return float(np.abs(np.roots(polynomial)).max(initial=0.0))
