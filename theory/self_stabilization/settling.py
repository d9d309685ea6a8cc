"""Where a rule settles on a curve of minima when nothing pushes along it (alpha = -grad L . grad S = 0).

A run that starts beside a minimum sharper than the edge oscillates across the valley, slides along it towards smaller
sharpness, and comes to rest at a minimum below the edge.  The averaged motion of any rule whose edge is a flip is that
of `theory.self_stabilization.valley_motion`.  In y = S - k*/eta and X = (envelope)^2 its orbits solve a *linear*
equation dX/dy, so the final excess follows from the starting one in closed form:

    Y - log(1 + Y) is the same at the end as at the start,  Y = C y,

the two branches of Lambert's W (`theory.self_stabilization.reflection`).  Near start (|Y| << 1): reflection,
Y_f = -Y_0 + (2/3) Y_0^2.  Far start: Y_f = -1, the fixed gap -1/C whatever the start.  C < 0 (subcritical): a start
beyond y_0 = -1/C never comes to rest nearby.

How exact.  For small y_0 the error is O(y_0^4), not O(y_0^3): start and end lie on one orbit, so the true map from y_0
to y_f is its own inverse, as Lambert's is, and two such maps with the same second derivative share the third.  For Y_0
of any size the relative error is of the order of 1/(C k*/eta).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from theory.edges.filter_numbers import KAPPA, filter_values
from theory.edges.linear_stability import Edge
from theory.errors import NoLinearEdge
from theory.self_stabilization.minima_curves import (
    LOCAL,
    cubic,
    grad_sharpness_sq,
    quartic,
    sharpness_curvature,
)
from theory.self_stabilization.valley_motion import (
    ValleyMotion,
    a,
    b12,
    b21,
    b22,
    envelope_sq,
    eta,
    excess,
    motion_beside_minima,
)
from theory.simplify import tidy
from theory.theorem import Theorem


@dataclass(frozen=True)
class Settling(Theorem):
    """The law of one rule.  ``arguments``: its hyperparameters and those of `LOCAL`.

    coefficient   C, in 1/sharpness: Y = C y; the sum of
    parts         what the valley's cross-section, the bend of the sharpness along the curve and the rule's lag give
    speed         kappa = -1/k'(-1): the envelope grows by kappa eta y a step
    threshold     k*/eta, from which y is counted
    invariant     constant along the averaged orbits in (y, X), to leading order
    """

    coefficient: sp.Expr
    parts: tuple[sp.Expr, sp.Expr, sp.Expr]
    speed: sp.Expr
    threshold: sp.Expr
    invariant: sp.Expr


def _coefficient(m: ValleyMotion) -> sp.Expr:
    """C such that Y = C y reflects correctly to second order and carries the whole Lambert law to leading order.

    The reflection is solved here: X(y) from dX/dy to second order, vanishing at both ends.
    """
    start, small, bend = sp.symbols("y0 small bend")
    steep = [2 * m.growth * excess, (2 * m.growth2 + 2 * m.growth * m.slide2 / m.slide) * excess**2]
    first = sp.integrate(-steep[0] / m.slide, excess)
    first = first - first.subs(excess, start)
    rest = -(steep[1] + 2 * m.saturation * first) / m.slide
    orbit = first + small * (sp.integrate(rest, excess) - sp.integrate(rest, excess).subs(excess, start))
    end = sp.expand(orbit.subs(excess, -start + small * bend * start**2))
    quadratic = sp.solve(end.coeff(small, 1), bend)[0]
    return sp.Rational(3, 2) * quadratic  # Lambert's own reflection is -Y0 + (2/3) Y0^2


def _invariant(m: ValleyMotion) -> sp.Expr:
    """(1 + Y - lift X) e^(-Y) with Y = -2 r y/b: checked here to be constant along dX/dy = -2 (p y + r X)/b."""
    ratio = -2 * m.saturation / m.slide
    inside = 1 + ratio * excess - 2 * m.saturation**2 / (m.growth * m.slide) * envelope_sq
    kept = inside * sp.exp(-ratio * excess)
    flow = -2 * (m.growth * excess + m.saturation * envelope_sq) / m.slide
    if sp.simplify((sp.diff(kept, excess) + sp.diff(kept, envelope_sq) * flow) * sp.exp(ratio * excess)) != 0:
        raise AssertionError("the invariant of the averaged motion is not constant: the derivation is wrong")
    return kept


@lru_cache(maxsize=1)
def _general() -> tuple[tuple[sp.Expr, sp.Expr, sp.Expr], sp.Expr]:
    """C for any filter as (valley across, curvature along, lag of the rule), and the invariant; in c3, c4, beta, S2."""
    moved = motion_beside_minima()
    curvature = sp.solve(a * sharpness_curvature - (a * b22 + 2 * b12**2 - b12 * cubic), b22)[0]
    local = {b21: sp.sqrt(grad_sharpness_sq)}
    total = sp.expand(sp.expand(_coefficient(moved)).subs(b22, curvature).subs(local))
    if total.has(b12):
        raise AssertionError("C depends on more than the derivatives in LOCAL: the derivation is wrong")
    along = total.coeff(sharpness_curvature, 1) * sharpness_curvature
    lag = total.xreplace(dict.fromkeys((cubic, quartic, sharpness_curvature), sp.Integer(0)))
    across = sp.factor(sp.expand(total - along - lag))
    return (across, along, sp.factor(lag)), _invariant(moved).subs(local)


def settling_law(rule: Edge) -> Settling:
    """The law of settling of a rule without second moments, from its derived filter.

    Source: our own derivation; the setting is the minimalist example of Zhu et al. (2210.03294).
    Raises `NoLinearEdge` where the rule has a slow state or weight decay, or its edge is not a flip.

    Example:
        >>> import optax, theory
        >>> law = theory.settling_law(theory.edge(optax.sgd))
        >>> print(law.expressions["lag"], law.speed, law.threshold)
        -3*eta/2 1 2/eta
    """
    if rule.slow or rule.loop.decay != 0 or rule.loop.coupled != 0 or rule.crossing != "flip" or rule.threshold is None:
        raise NoLinearEdge(
            f"{rule.name} has no law of settling: it needs a flip, no second moments and no weight decay",
            "use a rule such as gradient descent, heavy ball or Nesterov",
        )
    sharp = tidy(rule.threshold)
    numbers = {**filter_values(rule.filter), eta: rule.parameters.eta, a: sharp}
    general, kept = _general()
    across, along, lag = (tidy(part.xreplace(numbers)) for part in general)
    coefficient, speed = across + along + lag, numbers[KAPPA]
    invariant = kept.xreplace(numbers)
    expressions = {
        "coefficient": coefficient,
        "across": across,
        "along": along,
        "lag": lag,
        "far_gap": -1 / coefficient,
        "reflection": sp.Rational(2, 3) * coefficient,
        "speed": speed,
        "threshold": sharp,
        "invariant": invariant,
    }
    return Settling(
        statement=f"{rule.name}, started beside a minimum of sharpness k*/eta + y_0, rests at k*/eta + y_f with "
        "Y - log(1 + Y) unchanged, Y = C y: reflection for small Y, the fixed gap -1/C for large",
        assumptions=(
            "a curve of minima (one flat direction), no force along it; started close to the curve",
            "error O(y_0^4) for small y_0; for Y_0 of any size a relative error O(1/(C k*/eta))",
            *rule.assumptions,
        ),
        source=rule.source,
        expressions=expressions,
        arguments={**rule.arguments, **LOCAL},
        coefficient=coefficient,
        parts=(across, along, lag),
        speed=speed,
        threshold=sharp,
        invariant=invariant,
    )
