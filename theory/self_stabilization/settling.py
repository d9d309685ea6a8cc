"""Where a rule settles on a curve of minima when nothing pushes along it (alpha = -grad L . grad S = 0).

A run that starts beside a minimum sharper than the edge oscillates across the valley, slides along it towards smaller
sharpness, and comes to rest at a minimum below the edge.  For any rule with a filter Q whose edge is a flip, write
z = e^D with D = d/dt and k(z) = (1 - z)/Q(z): then k(z) w = eta grad L(w), and the ansatz "mean plus (-1)^t times
envelope" balances mean and oscillation separately.  In y = S - k*/eta and X = (envelope)^2 the orbits solve a *linear*
equation dX/dy, so the final excess follows from the starting one in closed form:

    Y - log(1 + Y) is the same at the end as at the start,  Y = C y,

the two branches of Lambert's W.  Near start (|Y| << 1): reflection, Y_f = -Y_0 + (2/3) Y_0^2.  Far start: Y_f = -1,
the fixed gap -1/C whatever the start.  C < 0 (subcritical): a start beyond y_0 = -1/C never comes to rest nearby.

How exact.  For small y_0 the error is O(y_0^4), not O(y_0^3): start and end lie on one orbit, so the true map from y_0
to y_f is its own inverse, as Lambert's is, and two such maps with the same second derivative share the third.  For Y_0
of any size the relative error is of the order of 1/(C k*/eta).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array

from theory.edges.linear_stability import Edge
from theory.errors import NoLinearEdge, Refusal
from theory.self_stabilization.multiple_scales import BEND, KAPPA, LAG, Q1, filter_values
from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

HALF = sp.Rational(1, 2)

cubic, quartic = sp.symbols("c3 c4", real=True)
grad_sharpness_sq = sp.Symbol("beta", positive=True)
sharpness_curvature = sp.Symbol("S2", real=True)
excess, envelope_sq = sp.symbols("y X", real=True)

LOCAL = {
    "cubic": cubic,
    "quartic": quartic,
    "grad_sharpness_sq": grad_sharpness_sq,
    "sharpness_curvature": sharpness_curvature,
}
"""What the law needs of the loss at the edge minimum; see `curve_of_minima`."""

_rate = sp.Symbol("eta", positive=True)
_a, _b21, _b12, _b22 = sp.symbols("a b21 b12 b22", real=True)
_envelope, _along = sp.symbols("A t", real=True)


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


@dataclass(frozen=True)
class Balance:
    """Averaged motion beside a curve of minima, per step, of the envelope A and of y, to second order in (A, y):

    (log A)' = growth y + growth2 y^2 + saturation A^2,   y' = A^2 (-slide + slide2 y).
    """

    growth: sp.Expr
    growth2: sp.Expr
    saturation: sp.Expr
    slide: sp.Expr
    slide2: sp.Expr


def _loss() -> tuple[sp.Expr, sp.Symbol, sp.Symbol]:
    """The loss to fourth order at a point of a curve of minima: x across (Hessian a), t along its tangent.

    That the loss is constant along the curve fixes L_ttt = 0 and L_tttt = 3 L_xtt^2/a.
    """
    x, t = sp.symbols("x_ t_")
    terms = {
        (2, 0): _a,
        (3, 0): cubic,
        (4, 0): quartic,
        (2, 1): _b21,
        (1, 2): _b12,
        (2, 2): _b22,
        (3, 1): sp.Symbol("b31"),
        (1, 3): sp.Symbol("b13"),
        (0, 4): 3 * _b12**2 / _a,
    }
    return sp.Add(*(c * x**i * t**j / sp.factorial(i) / sp.factorial(j) for (i, j), c in terms.items())), x, t


@lru_cache(maxsize=1)
def _balance() -> Balance:
    """Mean plus oscillation, order by order: A, t and D are of first order, mean of x and oscillation of t of second.

    Near z = -1: k(-e^D) = k* + (D + D^2/2)/kappa + (k2/2) D^2; near z = 1: k(e^D) = -(D + (1/2 - q1) D^2)/Q(1).
    """
    size, sign, mean, shake = sp.symbols("size sign mean shake")
    loss, x, t = _loss()
    ansatz = {x: size * sign * _envelope + size**2 * mean, t: size * _along + size**2 * sign * shake}

    def parts(force: sp.Expr) -> tuple[dict[int, sp.Expr], dict[int, sp.Expr]]:
        """Oscillating and mean part (sign^2 = 1), order -> coefficient."""
        found: tuple[dict[int, sp.Expr], dict[int, sp.Expr]] = ({}, {})
        for (odd, order), c in sp.Poly(sp.expand(force.xreplace(ansatz)), sign, size).terms():
            found[1 - odd % 2][order] = found[1 - odd % 2].get(order, sp.Integer(0)) + c
        return found

    (x_odd, x_mean), (t_odd, t_mean) = parts(sp.diff(loss, x)), parts(sp.diff(loss, t))
    second = {mean: sp.solve(x_mean[2], mean)[0], shake: t_odd[2] / _a}
    rate = KAPPA * _rate * x_odd[2].xreplace(second) / _envelope
    slide = -Q1 * _rate * t_mean[2].xreplace(second)

    def moved(f: sp.Expr) -> sp.Expr:
        return sp.diff(f, _envelope) * _envelope * rate + sp.diff(f, _along) * slide

    inertia = (HALF + KAPPA * BEND / 2) * moved(_envelope * rate)
    rate2 = sp.expand((KAPPA * _rate * x_odd[3].xreplace(second) - inertia) / _envelope)
    slide2 = sp.expand(-Q1 * _rate * t_mean[3].xreplace(second) - (HALF - LAG) * moved(slide))
    # the sharpness along the curve is what the oscillation feels at zero envelope
    bend = sp.expand(x_odd[3].xreplace(second) / _envelope).coeff(_envelope, 0).coeff(_along, 2)
    where = excess / _b21 - bend * excess**2 / _b21**3
    log_rate = sp.expand(rate.xreplace({_along: where}) + rate2.xreplace({_along: excess / _b21}))
    lead = sp.expand(slide / _envelope**2)
    return Balance(
        growth=sp.factor(log_rate.coeff(excess, 1).coeff(_envelope, 0)),
        growth2=sp.factor(log_rate.coeff(excess, 2)),
        saturation=sp.factor(log_rate.coeff(_envelope, 2).coeff(excess, 0)),
        slide=sp.factor(-_b21 * lead),
        slide2=sp.factor(sp.expand(slide2.coeff(_along, 1) / _envelope**2 + 2 * bend * lead / _b21)),
    )


def _coefficient(m: Balance) -> sp.Expr:
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


def _invariant(m: Balance) -> sp.Expr:
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
    moved = _balance()
    curvature = sp.solve(_a * sharpness_curvature - (_a * _b22 + 2 * _b12**2 - _b12 * cubic), _b22)[0]
    local = {_b21: sp.sqrt(grad_sharpness_sq)}
    whole = sp.expand(sp.expand(_coefficient(moved)).subs(_b22, curvature).subs(local))
    if whole.has(_b12):
        raise AssertionError("C depends on more than the derivatives in LOCAL: the derivation is wrong")
    along = whole.coeff(sharpness_curvature, 1) * sharpness_curvature
    lag = whole.xreplace(dict.fromkeys((cubic, quartic, sharpness_curvature), sp.Integer(0)))
    across = sp.factor(sp.expand(whole - along - lag))
    return (across, along, sp.factor(lag)), _invariant(moved).subs(local)


def settling_law(rule: Edge) -> Settling:
    """The law of settling of a rule without second moments, from its derived filter.

    Source: our own derivation; the setting is the minimalist example of Zhu et al. (2210.03294).
    Raises `NoLinearEdge` where the rule has a slow state or weight decay, or its edge is not a flip.
    """
    if rule.slow or rule.loop.decay != 0 or rule.loop.coupled != 0 or rule.crossing != "flip" or rule.threshold is None:
        raise NoLinearEdge(
            f"{rule.name} has no law of settling: it needs a flip, no second moments and no weight decay",
            "use a rule such as gradient descent, heavy ball or Nesterov",
        )
    eta = rule.parameters.eta
    sharp = tidy(rule.threshold)
    numbers = {
        **filter_values(rule.filter),
        _rate: eta,
        _a: sharp,
    }
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


def curve_of_minima(loss: Callable, point: tuple, parameters: tuple[sp.Symbol, ...] = ()) -> Theorem:
    """What `settling_law` needs of a loss of two weights at ``point``, on a curve of minima, by tracing the loss.

    loss        JAX function of an array of two weights;  point: its coordinates, SymPy expressions
    parameters  the symbols in ``point``, which become the arguments by their names

    Expressions: sharpness a; cubic, quartic: derivatives of the loss along the top eigenvector u;
    grad_sharpness_sq = (d^3 L[u, u, v])^2 and sharpness_curvature, the first (squared) and second derivative of the
    sharpness with respect to arc length along the curve.
    Raises `Refusal` where the point is not on a curve of minima.
    """
    w = sp.symbols("w0 w1", real=True)
    traced = symbolically(loss)(np.array(w, dtype=object))
    here = dict(zip(w, point, strict=True))

    def derivative(i: int, j: int) -> sp.Expr:
        return sp.cancel(sp.together(sp.diff(traced, w[0], i, w[1], j).subs(here)))

    tensors = {n: [derivative(n - j, j) for j in range(n + 1)] for n in (1, 2, 3, 4)}
    h00, h01, h11 = tensors[2]
    a = sp.cancel(h00 + h11)
    if any(g != 0 for g in tensors[1]) or sp.cancel(h00 * h11 - h01**2) != 0 or a == 0:
        raise Refusal("the point is not on a curve of minima: gradient or Hessian do not fit", "give a point on it")
    length = sp.sqrt(h00**2 + h01**2) if h00 != 0 else sp.sqrt(h11**2)
    u = (h00 / length, h01 / length) if h00 != 0 else (sp.Integer(0), sp.Integer(1))
    v = (-u[1], u[0])

    def along(i: int, j: int) -> sp.Expr:
        """The derivative i times along u and j times along v."""
        n, p = i + j, sp.Symbol("p")
        # the coefficient of p^m in (u0 + u1 p)^i (v0 + v1 p)^j counts the ways to take w1 m times
        ways = sp.Poly(sp.expand((u[0] + u[1] * p) ** i * (v[0] + v[1] * p) ** j), p).all_coeffs()[::-1]
        ways += [sp.Integer(0)] * (n + 1 - len(ways))
        return sp.Add(*(c * d for c, d in zip(ways, tensors[n], strict=True)))

    b12 = along(1, 2)
    if tidy(sp.expand(along(0, 3))) != 0 or tidy(sp.expand(along(0, 4) - 3 * b12**2 / a)) != 0:
        raise Refusal("the loss is not constant along a curve through the point", "give a point on a curve of minima")
    bend = (a * along(2, 2) + 2 * b12**2 - b12 * along(3, 0)) / a
    expressions = {
        "sharpness": a,
        "cubic": along(3, 0),
        "quartic": along(4, 0),
        "grad_sharpness_sq": along(2, 1) ** 2,
        "sharpness_curvature": bend,
    }
    return Theorem(
        statement="the loss beside a minimum, across and along its curve of minima",
        assumptions=("the Hessian has one positive eigenvalue and one zero, the loss is constant along the curve",),
        source="derivatives of the traced loss",
        expressions={name: tidy(sp.together(sp.expand(e))) for name, e in expressions.items()},
        arguments={str(s): s for s in parameters},
    )


def settled(scaled: Array) -> Array:
    """Y_f from Y_0, elementwise, in JAX: the other root of Y - log(1 + Y) = Y_0 - log(1 + Y_0).

    With v = log(1 + Y) the invariant is h(v) = e^v - 1 - v, convex with its minimum at 0: the other root has the other
    sign, and Newton's method started outside of it converges monotonically.  Y_f = 0 for Y_0 = 0; nan for Y_0 <= -1,
    from where nothing settles nearby.
    """
    start = jnp.log1p(scaled)
    level = _height(start)
    outside = jnp.where(start > 0, -level - jnp.minimum(1.0, jnp.sqrt(2 * level) + level), jnp.sqrt(2 * level))

    def newton(_: int, v: Array) -> Array:
        slope = jnp.expm1(v)
        return v - jnp.where(slope == 0, 0.0, (_height(v) - level) / jnp.where(slope == 0, 1.0, slope))

    return jnp.expm1(jax.lax.fori_loop(0, 60, newton, outside))


def _height(v: Array) -> Array:
    """e^v - 1 - v without cancellation."""
    series = jnp.zeros_like(v)
    for n in range(14, 1, -1):
        series = (1.0 + series) * v / n
    return jnp.where(jnp.abs(v) < 0.3, series * v, jnp.expm1(v) - v)
