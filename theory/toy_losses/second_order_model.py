"""Gradient descent on the second-order regression model in two dimensions, f = (t1^2 - epsilon t2^2)/2 - E, L = f^2/2.

Agarwala, Pedregosa & Pennington (2210.04860): the tangent kernel T = |grad f|^2 sharpens and settles slightly below
2/eta.  In the residual f and R = T - 2 f, the kernel at the minimum with the same t2, gradient descent is a closed
map; two steps of it near R = 2/eta, with f of order sqrt(epsilon) and R - 2/eta of order epsilon, are the linear
equation of `theory.self_stabilization.settling`, which gives the constant in front of epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array

from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

eta, epsilon = sp.symbols("eta epsilon", positive=True)
target, residual, kernel = sp.symbols("E f R", real=True)
scaled_residual, scaled_excess = sp.symbols("Z y", real=True)


@dataclass(frozen=True)
class SecondOrderModel(Theorem):
    """The derived map and what it settles at.  Z = f/sqrt(epsilon), y = (R - 2/eta)/epsilon; rates are per *two* steps.

    next_residual, next_kernel   the exact map (f, R) -> (f+, R+)
    growth, saturation, drift    (log |Z|)' = growth y + saturation Z^2,  y' = drift Z^2, to leading order
    slow_line                    Z^2 as a function of y on the line that far starts are drawn to
    coefficient                  C: Y = C (R - 2/eta) obeys the law of `theory.self_stabilization.settling`
    gap                          limit of (final sharpness - 2/eta)/epsilon from a far start
    """

    next_residual: sp.Expr
    next_kernel: sp.Expr
    growth: sp.Expr
    saturation: sp.Expr
    drift: sp.Expr
    slow_line: sp.Expr
    coefficient: sp.Expr
    gap: sp.Expr


def model(weights: Array, curvature: Array, goal: Array) -> Array:
    """f = (t1^2 - curvature t2^2)/2 - goal (2210.04860, section 3), in JAX; the derivation traces it."""
    return 0.5 * (weights[0] ** 2 - curvature * weights[1] ** 2) - goal


def _step(weights: Array, curvature: Array, goal: Array, rate: Array) -> tuple[Array, Array, Array]:
    """f, the next weights under gradient descent on f^2/2, and grad f."""
    value, slope = jax.value_and_grad(model)(weights, curvature, goal)
    down = jax.grad(lambda w: 0.5 * jnp.square(model(w, curvature, goal)))(weights)
    return value, weights - rate * down, slope


@lru_cache(maxsize=1)
def second_order_settling() -> SecondOrderModel:
    """Derive the closed map, its two-step dynamics near the edge, the slow line and the gap; about half a second."""
    t = sp.symbols("t1 t2", positive=True)
    squares = sp.symbols("s1 s2", positive=True)
    value, after, slope = symbolically(_step)(np.array(t, dtype=object), epsilon, target, eta)
    roots: dict[Any, Any] = {w: sp.sqrt(s) for w, s in zip(t, squares, strict=True)}
    f, tangent = (sp.expand(e.subs(roots)) for e in (value, sp.Add(*(g**2 for g in slope))))
    at: Any = sp.solve([f - residual, tangent - 2 * f - kernel], squares, dict=True)[0]

    def closed(e: Any) -> sp.Expr:
        return sp.factor(sp.expand(sp.expand(e.subs(roots)).subs(at)))

    afterwards: dict[Any, Any] = {s: sp.expand(w**2) for s, w in zip(squares, after, strict=True)}
    next_residual = closed(f.subs(afterwards, simultaneous=True))
    next_kernel = closed((tangent - 2 * f).subs(afterwards, simultaneous=True))
    edge = sp.solve(sp.diff(next_residual, residual).subs(residual, 0) + 1, kernel)[0]  # the multiplier is -1

    small = sp.Symbol("small", positive=True)  # sqrt(epsilon)
    start: dict[Any, Any] = {residual: small * scaled_residual, kernel: edge + small**2 * scaled_excess}

    def stepped(at: dict[Any, Any]) -> dict[Any, Any]:
        after = zip((residual, kernel), (next_residual, next_kernel), strict=True)
        return {name: _truncated(e.subs(at, simultaneous=True).subs(epsilon, small**2), small, 4) for name, e in after}

    moved = list(stepped(stepped(start)).values())
    change = [sp.expand(moved[0] - start[residual]), sp.expand(moved[1] - start[kernel])]
    low = [change[0].coeff(small, n) for n in (0, 1, 2)] + [change[1].coeff(small, n) for n in (0, 1, 2, 3)]
    if any(sp.expand(c) != 0 for c in low):
        raise AssertionError("two steps are not close to the identity at the edge: the scaling of the ansatz is wrong")
    rate = sp.expand(change[0].coeff(small, 3) / scaled_residual)
    growth = sp.factor(rate.coeff(scaled_excess, 1))
    saturation = sp.factor(rate.coeff(scaled_residual, 2))
    drift = sp.factor(sp.expand(change[1].coeff(small, 4)).coeff(scaled_residual, 2))
    coefficient = tidy(2 * saturation / drift)  # Y = coefficient y, as in theory.self_stabilization.settling
    line = tidy(-(growth / saturation) * (scaled_excess + 1 / coefficient))
    expressions = {
        "next_residual": next_residual,
        "next_kernel": next_kernel,
        "growth": growth,
        "saturation": saturation,
        "drift": drift,
        "slow_line": line,
        "coefficient": tidy(coefficient / epsilon),
        "gap": tidy(-1 / coefficient),
    }
    return SecondOrderModel(
        statement="started far above the edge, the model settles at sharpness 2/eta - (epsilon/2)(1/eta - E) + "
        "O(epsilon^2)",
        assumptions=("gradient descent; E < 1/eta, so that the edge is reached at t2^2 of order 1/epsilon",),
        source="traced from the model of Agarwala et al. (2210.04860), section 3",
        expressions=expressions,
        arguments={
            "learning_rate": eta,
            "epsilon": epsilon,
            "target": target,
            "residual": residual,
            "kernel": kernel,
            "scaled_excess": scaled_excess,
        },
        **expressions,
    )


def _truncated(e: sp.Expr, small: sp.Symbol, order: int) -> sp.Expr:
    """A polynomial in ``small`` without its powers beyond ``order``."""
    terms = sp.Poly(e, small).terms()
    return sp.Add(*(sp.expand(c) * small**n for (n,), c in terms if n <= order))
