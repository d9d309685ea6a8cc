"""Self-stabilization of gradient descent in the cubic model: map, 2-cycle, averaged motion, conserved quantity.

Derived from the loss expanded to third order at a point of the edge, S = 2/eta (Damian, Nichani & Lee 2209.15594).
Other rules: `theory.self_stabilization.any_rule`; closed orbits and their periods:
`theory.self_stabilization.orbits`; the next order: `theory.self_stabilization.multiple_scales`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

from theory.losses.plane_jet import ALPHA, BETA, Jet
from theory.losses.taylor import s, x
from theory.theorem import Theorem

eta = sp.Symbol("eta", positive=True)
y = sp.Symbol("y", real=True)
DELTA_SQ = 2 * ALPHA / BETA
"""delta^2, the square of x on the 2-cycle."""


@lru_cache(maxsize=1)
def cubic_map() -> Theorem:
    """One step of gradient descent in (x, y), y = |grad S_perp| s: x+ = -(1 + eta y) x, y+ = y + eta (alpha - beta
    x^2/2); its exact 2-cycle, and the Jacobian of (log|x|, y) there, whose determinant exceeds 1: orbits spiral out.

    **Expressions**: `x_next`, `y_next`; `cycle_x_sq` (at y = 0); `determinant`, `trace` of the Jacobian; `multipliers`
    exp(rate +- i frequency) through `rate` = log(determinant)/2 and `frequency` = acos(trace/(2 sqrt(determinant))).
    """
    gx, gs = Jet(2 / eta, ALPHA, BETA).expansion(3).gradient()
    level = {s: y / sp.sqrt(BETA)}
    after_x = sp.factor((x - eta * gx).xreplace(level))
    after_y = sp.expand(y - eta * sp.sqrt(BETA) * gs.xreplace(level))
    # on a 2-cycle the pair repeats after two steps; with y = 0 already x changes its sign only
    square = sp.solve(after_y.xreplace({y: sp.Integer(0)}), x**2)[0]
    again = after_x.xreplace({y: sp.Integer(0)})
    if sp.expand(again + x) != 0:
        raise ArithmeticError("x does not alternate at y = 0")
    logarithm = sp.Symbol("l", real=True)
    growth = logarithm + sp.log(sp.cancel(-after_x / x))
    drift = after_y.subs(x**2, square * sp.exp(2 * logarithm))
    jacobian = sp.Matrix([growth, drift]).jacobian([logarithm, y])
    at_cycle = jacobian.xreplace({logarithm: sp.Integer(0), y: sp.Integer(0)}).applyfunc(sp.cancel)
    determinant, trace = sp.expand(at_cycle.det()), sp.expand(at_cycle.trace())
    return Theorem(
        statement="x+ = -(1 + eta y) x, y+ = y + eta (alpha - beta x^2/2) has an unstable 2-cycle, x^2 = 2 alpha/beta",
        assumptions=("the loss is its cubic Taylor polynomial with grad L . u = 0", "S = 2/eta at the point"),
        source="Damian, Nichani & Lee 2209.15594; determinant derived",
        expressions={
            "x_next": after_x,
            "y_next": after_y,
            "cycle_x_sq": square,
            "determinant": determinant,
            "trace": trace,
            "rate": sp.log(determinant) / 2,
            "frequency": sp.acos(trace / (2 * sp.sqrt(determinant))),
        },
        arguments={"x": x, "y": y, "learning_rate": eta, "sharpening_rate": ALPHA, "grad_sharpness_sq": BETA},
    )


@lru_cache(maxsize=1)
def averaged_motion() -> Theorem:
    """The averaged motion of the cubic map, |x|' = eta |x| y, y' = eta alpha (1 - x^2/delta^2), and what it keeps.

    Obtained from the map at lowest order in y; `conserved` = g(|x|/delta) + y^2/alpha, g(q) = q^2 - log q^2 - 1, is
    shown constant along it symbolically.  `frequency` is that of small orbits, `highest_y` the largest |y| on the orbit
    of a level of the conserved quantity.  The map itself makes it drift: `theory.self_stabilization.multiple_scales`.
    """
    the_map: Mapping[str, Any] = cubic_map().expressions
    rate_x = sp.cancel(-the_map["x_next"] / x) - 1  # log(1 + rate) to first order
    rate_y = sp.expand(the_map["y_next"] - y)
    q = sp.Symbol("q", positive=True)
    conserved = q**2 - sp.log(q**2) - 1 + y**2 / ALPHA
    rates = {q: sp.expand(q * rate_x), y: rate_y.subs(x**2, q**2 * DELTA_SQ)}
    along = sum(sp.diff(conserved, v) * rate for v, rate in rates.items())
    if sp.expand(sp.expand_log(along)) != 0:
        raise ArithmeticError("g(|x|/delta) + y^2/alpha is not conserved by the averaged motion")
    linear = sp.Matrix(list(rates.values())).jacobian(list(rates)).xreplace({q: sp.Integer(1), y: sp.Integer(0)})
    return Theorem(
        statement="|x|' = eta x y, y' = eta alpha (1 - x^2/delta^2) conserves g(|x|/delta) + y^2/alpha",
        assumptions=("eta y and eta sqrt(alpha) small: one step changes log|x| and y little",),
        source="Damian, Nichani & Lee 2209.15594",
        expressions={
            "log_x_rate": rate_x,
            "y_rate": rate_y,
            "conserved": conserved.xreplace({q: sp.Abs(x) / sp.sqrt(DELTA_SQ)}),
            "frequency": sp.sqrt(sp.factor(linear.det())),
            "highest_y": sp.sqrt(ALPHA * sp.Symbol("level", positive=True)),
            "delta_sq": DELTA_SQ,
        },
        arguments={
            "x": x,
            "y": y,
            "learning_rate": eta,
            "sharpening_rate": ALPHA,
            "grad_sharpness_sq": BETA,
            "level": sp.Symbol("level", positive=True),
        },
    )
