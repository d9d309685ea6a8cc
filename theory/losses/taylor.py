"""Local Taylor expansions of a loss around a point of the edge, from its JAX code or from a symbolic jet.

Coordinates: x along u, the top eigenvector of the Hessian; s along n = grad S_perp/|grad S_perp|, the direction in
which the sharpness S rises fastest among those orthogonal to u.  The deviation y = grad S_perp . (w - w_dagger) of
Damian, Nichani & Lee (2209.15594) is y = |grad S_perp| s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from theory.errors import Refusal
from theory.theorem import Theorem
from theory.tracing.interpreter import objects, symbolically

x = sp.Symbol("x", real=True)
s = sp.Symbol("s", real=True)
S, ALPHA, BETA = sp.symbols("S sharpening_rate grad_sharpness_sq", positive=True)
"""Sharpness; alpha = -grad L . grad S; beta = |grad S_perp|^2 (alpha and beta are names of hyperparameters too)."""
_T = sp.Symbol("_t", real=True)


class NoExpansion(Refusal):
    """A point or a frame at which the expansion asked for does not exist."""

    hint = "expand at a point where the loss is smooth, in directions that are not zero"


@dataclass(frozen=True)
class Expansion(Theorem):
    """A loss in the plane or space of ``coordinates`` around a point, up to total degree ``order``.

    The remainder of ``polynomial`` is O(|coordinates|^(order + 1)), that of its gradient one power less, wherever the
    loss has order + 1 continuous derivatives.
    """

    polynomial: sp.Expr
    coordinates: tuple[sp.Symbol, ...]
    order: int

    def derivative(self, *counts: int) -> sp.Expr:
        """The partial derivative at the point, ``counts[i]`` times in coordinate i; total degree up to ``order``."""
        if len(counts) != len(self.coordinates) or sum(counts) > self.order:
            raise NoExpansion(f"got derivative{counts}; {len(self.coordinates)} counts of sum <= {self.order} needed")
        coefficient = sp.Poly(self.polynomial, *self.coordinates).coeff_monomial(
            math.prod(c**n for c, n in zip(self.coordinates, counts, strict=True))
        )
        return coefficient * math.prod(map(math.factorial, counts))

    def gradient(self) -> tuple[sp.Expr, ...]:
        """The gradient in the coordinates' orthonormal frame, exact up to degree order - 1."""
        return tuple(sp.diff(self.polynomial, c) for c in self.coordinates)


def expand(
    loss: Callable, point: Sequence, directions: Sequence[Sequence], order: int, coordinates: Sequence = (x, s)
) -> Expansion:
    """Expand ``loss`` around ``point`` in the given directions, by tracing its JAX code.

    loss        a JAX function of one array (n,) that returns a scalar
    point       n numbers or SymPy expressions
    directions  for each coordinate a direction, n numbers or expressions (orthonormal, if gradients are wanted)
    order       total degree of the polynomial

    Numbers stay what they are: SymPy and integers exact, floats in double precision.  Source: the definition,
    L(w + t c) = sum_j t^j/j! d^j/dt^j L.  Raises `NoExpansion` for shapes that do not fit and where a derivative
    does not exist, `CannotTrace` for a loss that has no translation.
    """
    coordinates = tuple(coordinates[: len(directions)])
    start = [_exact(p) for p in point]
    if order < 1 or len(coordinates) != len(directions) or any(len(d) != len(start) for d in directions):
        raise NoExpansion(
            f"got a point of {len(start)} numbers, {len(directions)} directions for {len(coordinates)} coordinates and "
            f"order {order}; every direction needs {len(start)} numbers"
        )
    moved = [
        p + _T * sum(c * _exact(d[i]) for c, d in zip(coordinates, directions, strict=True))
        for i, p in enumerate(start)
    ]
    path = sp.sympify(_scalar(symbolically(loss)(objects(moved))))
    kinked = path.has(*_KINKED)
    polynomial = sp.Integer(0)
    for j in range(order + 1):
        term = sp.expand(path.xreplace({_T: sp.Integer(0)}))
        broken = term.has(sp.nan, sp.zoo, sp.oo, sp.DiracDelta) or not term.is_polynomial(*coordinates)
        if broken or (kinked and _jumps(path, term)):
            raise NoExpansion(f"the derivative of degree {j} of the loss does not exist at this point")
        polynomial += term / math.factorial(j)
        path = sp.diff(path, _T)
    return _expansion(polynomial, coordinates, order, "traced from the loss's own code")


_KINKED = (sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.Piecewise)
"""What SymPy differentiates on a kink as if it were smooth there: d|t|/dt is 0 at t = 0."""


def _jumps(path: sp.Expr, term: sp.Expr) -> bool:
    """Whether ``path`` is not continuous in t at 0, where it is ``term``, along one direction without symmetry."""
    names = sorted(path.free_symbols - {_T}, key=str)
    somewhere: dict[sp.Basic, sp.Expr] = {q: sp.Rational(7 + 3 * i, 11 + 2 * i) for i, q in enumerate(names)}
    here = complex(sp.N(term.xreplace(somewhere)))
    sides = (complex(sp.N(path.xreplace({**somewhere, _T: sign * sp.Rational(1, 10**12)}))) for sign in (1, -1))
    # a smooth path moves by 1e-12 times its slope
    return any(not abs(side - here) <= 1e-8 * (1 + abs(here)) for side in sides)


def _expansion(polynomial: sp.Expr, coordinates: tuple[sp.Symbol, ...], order: int, source: str) -> Expansion:
    return Expansion(
        statement=f"L = polynomial + O(|({', '.join(map(str, coordinates))})|^{order + 1})",
        assumptions=(f"the loss has {order + 1} continuous derivatives", "the directions are orthonormal"),
        source=source,
        expressions={"polynomial": polynomial},
        arguments={str(a): a for a in sorted(polynomial.atoms(sp.Symbol), key=str)},
        polynomial=polynomial,
        coordinates=coordinates,
        order=order,
    )


def _exact(value: Any) -> sp.Expr:
    return (
        value if isinstance(value, sp.Basic) else sp.Float(value, 17) if isinstance(value, float) else sp.sympify(value)
    )


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value


# ----------------------------------------------------------------------------------------------------------------
# The symbolic jet


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
        return _expansion(sp.sympify(polynomial), (x, s), order, "a jet with these derivatives")


def symbolic_jet() -> Jet:
    """The jet with a symbol for every derivative: S, sharpening_rate, grad_sharpness_sq, c3, c4, f, h, m, p."""
    return Jet(S, ALPHA, BETA, *sp.symbols("c3 c4 f h m p", real=True))


def local_jet(loss: Callable, point: Sequence[float]) -> Jet:
    """The jet of a traced loss at a point, in numbers: u and n are found from its own derivatives there.

    Assumes a simple top eigenvalue and grad S_perp != 0 (else `NoExpansion`).  All directions orthogonal to u and
    grad S_perp are left out, and so is any component of grad L in them; where grad S_perp has parts along stiff and
    along soft directions, the motion does not stay in the plane (see `theory.self_stabilization.drift.drift_law`).
    ``sharpness`` is lambda_max(H) at the point itself, so `Jet.tilt` is -grad L . u there.
    """
    names = sp.symbols(f"w:{len(point)}", real=True)
    value = sp.sympify(_scalar(symbolically(loss)(objects(list(names)))))
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
    found = sp.N(derivative, 17)
    if not (found.is_Number and found.is_finite):
        raise NoExpansion("a second or third derivative of the loss does not exist at this point")
    return float(found)


# ----------------------------------------------------------------------------------------------------------------
# What the oscillation adds to the gradient


def averaged_gradient(dimension: int = 2, order: int = 5) -> Theorem:
    """The mean of grad L over a symmetric oscillation w +- x u: grad L + (x^2/2) grad S + O(x^4), derived.

    From a generic jet of ``order`` in x and one transverse direction at a time (the others give the same formula):
    the odd part in x cancels; what is left at second order is d^3L[u, u, .], which first-order perturbation of the
    eigenvalue problem (H(w) - S(w)) u(w) = 0 shows to be grad S.  Hence, once x^2 > 2 |grad L|/|grad S|, descent
    along the averaged gradient is descent of the sharpness.  Source: Cohen et al. 2022; Damian et al. 2022
    """
    if dimension < 2 or order < 3:
        raise NoExpansion(f"got dimension {dimension} and order {order}; at least 2 and 3 are needed")
    c = (x, *sp.symbols(f"s1:{dimension}", real=True))
    counts = [n for n in itertools.product(range(order + 1), repeat=dimension) if 0 < sum(n) <= order]
    symbols: dict[tuple[int, ...], Any] = {n: sp.Symbol("L_" + "".join(map(str, n)), real=True) for n in counts}
    for i in range(1, dimension):  # u is an eigenvector: the Hessian does not mix it with the others
        symbols[tuple(int(j in (0, i)) for j in range(dimension))] = sp.Integer(0)
    loss = sum(v * math.prod(q**k / sp.factorial(k) for q, k in zip(c, n, strict=True)) for n, v in symbols.items())
    rest = dict.fromkeys(c[1:], sp.Integer(0))
    expressions: dict[str, Any] = {}
    for j, coordinate in enumerate(c):
        along = sp.expand(sp.diff(loss, coordinate).xreplace(rest))
        expressions[f"mean_gradient_{j}"] = sp.expand((along + along.xreplace({x: -x})) / 2)
        slope = _eigenvalue_slope(loss, c, j)
        if sp.expand(2 * expressions[f"mean_gradient_{j}"].coeff(x, 2) - slope) != 0:
            raise ArithmeticError("the second-order mean of the gradient is not the gradient of the sharpness")
        expressions[f"sharpness_slope_{j}"] = slope
    return Theorem(
        statement="the mean of grad L over w +- x u is grad L + (x^2/2) grad S + O(x^4)",
        assumptions=("u is the eigenvector of a simple top eigenvalue S of the Hessian at w", "L has 5 derivatives"),
        source="second-order Taylor expansion of grad L; Damian, Nichani & Lee 2209.15594",
        expressions=expressions,
        arguments={str(v): v for v in (x, *(v for v in symbols.values() if v != 0))},
    )


def _eigenvalue_slope(loss: sp.Expr, c: tuple[sp.Symbol, ...], j: int) -> sp.Expr:
    """dS/dc_j: the first-order term e1 of det(H(t) - S0 - t e1 - ...) = 0 along c_j = t."""
    t, slope = sp.symbols("t e1", real=True)
    at = {q: t if i == j else sp.Integer(0) for i, q in enumerate(c)}
    hessian = sp.hessian(loss, c).xreplace(at)
    shifted = hessian - (hessian[0, 0].xreplace({t: sp.Integer(0)}) + t * slope) * sp.eye(len(c))
    first = sp.expand(shifted.det(method="berkowitz")).coeff(t, 1)
    return sp.factor(sp.solve(first, slope)[0])
