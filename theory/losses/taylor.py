"""The Taylor expansion of a loss around a point, from its JAX code (`expand`)."""

from __future__ import annotations

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
"""The coordinates along u and along n of `theory.losses.plane_jet`."""

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

    Example:
        >>> import jax.numpy as jnp, theory
        >>> loss = lambda w: jnp.cos(w[0]) * w[1]
        >>> expansion = theory.expand(loss, [0, 1], [(1, 0), (0, 1)], order=3)
        >>> print(expansion.polynomial)
        -s*x**2/2 + s - x**2/2 + 1
        >>> print(expansion.derivative(2, 1))
        -1
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
    path = sp.sympify(scalar_of(symbolically(loss)(objects(moved))))
    kinked = path.has(*_KINKED)
    polynomial = sp.Integer(0)
    for j in range(order + 1):
        term = sp.expand(path.xreplace({_T: sp.Integer(0)}))
        broken = term.has(sp.nan, sp.zoo, sp.oo, sp.DiracDelta) or not term.is_polynomial(*coordinates)
        if broken or (kinked and _jumps(path, term)):
            raise NoExpansion(f"the derivative of degree {j} of the loss does not exist at this point")
        polynomial += term / math.factorial(j)
        path = sp.diff(path, _T)
    return expansion_of(polynomial, coordinates, order, "traced from the loss's own code")


_KINKED = (sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.Piecewise)
"""Functions that SymPy differentiates at their kink as if they were smooth there: it gives d|t|/dt = 0 at t = 0."""


def _jumps(path: sp.Expr, term: sp.Expr) -> bool:
    """Whether ``path`` is not continuous in t at 0, where it is ``term``, along one direction without symmetry."""
    names = sorted(path.free_symbols - {_T}, key=str)
    somewhere: dict[sp.Basic, sp.Expr] = {q: sp.Rational(7 + 3 * i, 11 + 2 * i) for i, q in enumerate(names)}
    value = complex(sp.N(term.xreplace(somewhere)))
    sides = (complex(sp.N(path.xreplace({**somewhere, _T: sign * sp.Rational(1, 10**12)}))) for sign in (1, -1))
    # a smooth path moves by 1e-12 times its slope
    return any(not abs(side - value) <= 1e-8 * (1 + abs(value)) for side in sides)


def expansion_of(polynomial: sp.Expr, coordinates: tuple[sp.Symbol, ...], order: int, source: str) -> Expansion:
    """The `Expansion` with this polynomial; ``source`` says where its coefficients come from."""
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


def scalar_of(value: Any) -> Any:
    """The entry of an object array of one entry; anything else as it is."""
    return value.item() if isinstance(value, np.ndarray) else value
