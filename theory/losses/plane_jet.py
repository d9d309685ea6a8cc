"""The derivatives of a loss, up to the fourth, in the plane where self-stabilization happens: symbols or numbers.

The plane is spanned by u, the top eigenvector of the Hessian, and by n = grad S_perp/|grad S_perp|, the direction in
which the sharpness S rises fastest among those orthogonal to u; x and s are the coordinates along them.  The deviation
y = grad S_perp . (w - w_dagger) of Damian, Nichani & Lee (2209.15594) is y = |grad S_perp| s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from theory.losses.taylor import Expansion, NoExpansion, expand, expansion_of, s, scalar_of, x
from theory.tracing.interpreter import objects, symbolically

S, ALPHA, BETA = sp.symbols("S sharpening_rate grad_sharpness_sq", positive=True)
"""Sharpness; alpha = -grad L . grad S; beta = |grad S_perp|^2 (alpha and beta are names of hyperparameters too)."""


@dataclass(frozen=True)
class Jet:
    """Derivatives of a loss at a point of the edge, in the frame (u, n): symbols, numbers or expressions.

    sharpness            S = d2L/dx2, at the edge k*/eta
    sharpening_rate      alpha = -grad L . grad S_perp = -sqrt(beta) dL/ds; -grad L . grad S where the tilt is zero
    grad_sharpness_sq    beta = |grad S_perp|^2, so d3L/dx2 ds = sqrt(beta)
    third, fourth        c3 = d3L/dx3 = u . grad S, c4 = d4L/dx4
    tilt                 -dL/dx; zero at w_dagger itself, where grad L . u = 0
    transverse           h = d2L/ds2, the curvature along grad S_perp
    bend                 m = d3L/dx ds2: the valley of small gradients curves towards x = -m s^2/(2 S)
    quartic_mixed        p = d4L/dx2 ds2
    """

    sharpness: Any
    sharpening_rate: Any
    grad_sharpness_sq: Any
    third: Any = 0
    fourth: Any = 0
    tilt: Any = 0
    transverse: Any = 0
    bend: Any = 0
    quartic_mixed: Any = 0

    def expansion(self, order: int = 4) -> Expansion:
        """The loss with these derivatives, to degree 3 or 4; all others are zero, but for the d4L/ds4 = 3 m^2/S that
        keeps the floor of a bent valley level.
        """
        root = sp.sqrt(self.grad_sharpness_sq)
        known = {
            (1, 0): -self.tilt,
            (0, 1): -self.sharpening_rate / root,
            (2, 0): self.sharpness,
            (0, 2): self.transverse,
            (3, 0): self.third,
            (2, 1): root,
            (1, 2): self.bend,
            (4, 0): self.fourth,
            (2, 2): self.quartic_mixed,
            (0, 4): 3 * sp.sympify(self.bend) ** 2 / self.sharpness,
        }
        polynomial = sum(
            sp.sympify(value) * x**i * s**j / (math.factorial(i) * math.factorial(j))
            for (i, j), value in known.items()
            if i + j <= order
        )
        return expansion_of(sp.sympify(polynomial), (x, s), order, "a jet with these derivatives")


def symbolic_jet() -> Jet:
    """The jet with a symbol for every derivative: S, sharpening_rate, grad_sharpness_sq, c3, c4, f, h, m, p."""
    return Jet(S, ALPHA, BETA, *sp.symbols("c3 c4 f h m p", real=True))


def local_jet(loss: Callable, point: Sequence[float]) -> Jet:
    """The jet of a traced loss at a point, in numbers: u and n are found from its own derivatives there.

    Assumes a simple top eigenvalue and grad S_perp != 0 (else `NoExpansion`).  All directions orthogonal to u and
    grad S_perp are left out, and so is any component of grad L in them; where grad S_perp has parts along stiff and
    along soft directions, the motion does not stay in the plane (see `theory.self_stabilization.drift.drift_law`).
    ``sharpness`` is lambda_max(H) at the point itself, so `Jet.tilt` is -grad L . u there.

    Example:
        >>> import theory
        >>> jet = theory.local_jet(lambda w: w[1] * w[0] ** 2 / 2 - 0.25 * w[1], [0.0, 2.0])
        >>> round(float(jet.sharpness), 6), round(float(jet.sharpening_rate), 6), round(jet.grad_sharpness_sq, 6)
        (2.0, 0.25, 1.0)
    """
    names = sp.symbols(f"w:{len(point)}", real=True)
    value = sp.sympify(scalar_of(symbolically(loss)(objects(list(names)))))
    at = {w: sp.Float(float(p), 17) for w, p in zip(names, point, strict=True)}
    hessian = np.array([[_number(e.xreplace(at)) for e in row] for row in sp.hessian(value, names).tolist()])
    values, vectors = np.linalg.eigh(hessian)
    if len(point) < 2 or values[-1] - values[-2] < 1e-9 * abs(values[-1]):  # rounding of double precision, squared
        raise NoExpansion(
            f"got a top eigenvalue that is not simple (the two largest: {values[-2:]}), needed a simple one"
        )
    u = vectors[:, -1]
    along = [sum(sp.Float(c, 17) * sp.diff(value, w) for c, w in zip(u, names, strict=True))]
    along.append(sum(sp.Float(c, 17) * sp.diff(along[0], w) for c, w in zip(u, names, strict=True)))
    slope = np.array([_number(sp.diff(along[1], w).xreplace(at)) for w in names])
    across = slope - (slope @ u) * u
    size = float(np.linalg.norm(across))
    if size <= 1e-12 * max(1.0, abs(values[-1])):
        raise NoExpansion("the gradient of the sharpness has no part orthogonal to u: nothing stabilises at this point")
    local = expand(loss, list(map(float, point)), [u.tolist(), (across / size).tolist()], 4)
    d = local.derivative
    return Jet(
        d(2, 0), -size * d(0, 1), size**2, d(3, 0), d(4, 0), -d(1, 0), d(0, 2), d(1, 2), d(2, 2)
    )  # fmt: skip


def _number(derivative: sp.Expr) -> float:
    number = sp.N(derivative, 17)
    if not (number.is_Number and number.is_finite):
        raise NoExpansion("a second or third derivative of the loss does not exist at this point")
    return float(number)
