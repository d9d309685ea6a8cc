"""Where the exact toy of self-stabilization stands: f = (y + zeta x) x^2/2 - eps (x + y) under gradient descent.

The toy is Berthier's (2026).  Its 2-cycle and the point of rest of its central flow are derived here; and what a
central flow leaves out at a flip in one dimension.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

from theory.averages.gradient_descent import eta, oscillation_share, variance
from theory.theorem import Theorem

x, y = sp.symbols("x y", real=True)
zeta = sp.Symbol("zeta", real=True)
eps = sp.Symbol("eps", positive=True)
LOSS = (y + zeta * x) * x**2 / 2 - eps * (x + y)


@lru_cache(maxsize=1)
def toy_centre() -> Theorem:
    """The mean of the 2-cycle, and the central flow's point of rest.

    The cycle is (X + a, Y + c), (X - a, Y - c).  Exact: `mean_square_x` = <x^2> = 2 eps, that is 2 alpha/beta with the
    toy's alpha = eps and beta = 1; `cubic` = 0 for X; Y = `cycle_y`, a^2 = `amplitude_sq` and c/a = `ripple` in X (the
    argument `x`).  To first order in eps: `mean_x` = eta (1 - 3 zeta) eps/2 and `mean_y` = 2/eta - (3/2) zeta (1 - 3
    zeta) eta eps.  To that order the central flow's point of rest is `flow_x`, `flow_y`, `flow_variance`, the same; in
    fact it is the cycle's centre to all orders, since on a cubic loss the mean gradient is grad L + d^3 L[a, a]/2 and
    the oscillation a an eigenvector of the Hessian there, without remainder.

    The origin 2/eta - (3/2) zeta eta eps from which the slow motion of the toy counts y is not this centre: it leaves
    out (9/2) zeta^2 eta eps, the part of the mean offset of x that is due to the oscillation itself.

    Example:
        >>> import theory
        >>> law = theory.toy_centre()
        >>> print(law.expressions["mean_square_x"], "and", law.expressions["mean_x"])
        2*eps and -eps*eta*(3*zeta - 1)/2
    """
    a, ripple, height = sp.symbols("a c Y", real=True)
    means, alternating = [], []
    for slope in (sp.diff(LOSS, x), sp.diff(LOSS, y)):
        ends = [slope.xreplace({x: x + s * a, y: height + s * ripple}) for s in (1, -1)]
        means.append(sp.expand((ends[0] + ends[1]) / 2))
        alternating.append(sp.expand((ends[0] - ends[1]) / 2))
    # a cycle: the mean gradient vanishes, the alternating part turns the oscillation round, a -> -a
    (per_a,) = sp.solve(alternating[1] / a - 2 * ripple / (eta * a), ripple)
    per_a = sp.cancel(per_a / a)
    turned = [sp.expand(e.xreplace({ripple: per_a * a})) for e in (alternating[0] - 2 * a / eta, means[0])]
    (square,) = sp.solve(means[1].xreplace({a: sp.sqrt(variance)}), variance)
    (cycle_y,) = sp.solve(sp.cancel(turned[0] / a), height)
    cubic = sp.expand(turned[1].subs(a**2, square).subs(height, cycle_y))
    order = sp.Symbol("x1", real=True)
    (first,) = sp.solve(sp.expand(cubic.xreplace({x: order * eps})).coeff(eps, 1), order)
    centre = _first_order(cycle_y.xreplace({x: first * eps}))
    rest = _point_of_rest()
    return Theorem(
        statement="the 2-cycle has <x^2> = 2 eps and stands at y = 2/eta - (3/2) zeta (1 - 3 zeta) eta eps + O(eps^2)",
        assumptions=("gradient descent", "first order in eps, except for the exact relations of the cycle"),
        source="the equations of the 2-cycle, and of rest of theory.averages.gradient_descent, eliminated",
        expressions={
            "cubic": cubic,
            "cycle_y": sp.expand(cycle_y),
            "amplitude_sq": square,
            "ripple": per_a,
            "mean_square_x": sp.expand(x**2 + square),
            "mean_x": sp.factor(first) * eps,
            "mean_y": centre,
            **rest,
        },
        arguments={"learning_rate": eta, "zeta": zeta, "eps": eps, "x": x},
    )


def _first_order(expr: sp.Expr) -> sp.Expr:
    expanded = sp.expand(expr)
    return expanded.coeff(eps, 0) + eps * sp.factor(expanded.coeff(eps, 1))


def _point_of_rest() -> dict[str, sp.Expr]:
    """Zero mean gradient, grad L + (V/2) grad S = 0, with S = 2/eta, to first order in eps."""
    sharpness = sp.Symbol("S", positive=True)
    eigenvalue = (sp.hessian(LOSS, (x, y)) - sharpness * sp.eye(2)).det()
    names = sp.symbols("x1 y1 V1", real=True)
    small = {x: names[0] * eps, y: 2 / eta + names[1] * eps, variance: names[2] * eps}
    conditions = [
        sp.diff(LOSS, v)
        - oscillation_share() * sp.diff(eigenvalue, v) / sp.diff(eigenvalue, sharpness)  # dS/dv, implicitly
        for v in (x, y)
    ]
    leading = []
    for condition in (*conditions, eigenvalue):
        at = sp.numer(sp.together(condition.xreplace({sharpness: 2 / eta}).xreplace(small)))
        leading.append(sp.expand(at).coeff(eps, 1))
    (corrections,) = sp.solve(leading, names, dict=True)
    return {
        "flow_x": sp.factor(corrections[names[0]]) * eps,
        "flow_y": 2 / eta + eps * sp.factor(corrections[names[1]]),
        "flow_variance": corrections[names[2]] * eps,
    }


@lru_cache(maxsize=1)
def flip_variance() -> Theorem:
    """The variance at a supercritical flip in one dimension, of gradient descent's 2-cycle and of its central flow.

    The loss is f = a x^2/2 + c3 x^3/6 + c4 x^4/24 and a stands `excess` above the edge 2/eta.  To first order in the
    excess the cycle X ± A has A^2 = `cycle_variance`, the flow's point of rest the variance `flow_variance`, which is
    `share` of it: a flow that stops at third derivatives of the loss leaves out what c4 adds to the curvature that a
    oscillation of finite length sees.

    Example:
        >>> import theory
        >>> print(theory.flip_variance().expressions["share"])
        -a*c4/(3*c3**2) + 1
    """
    a, c3, c4, w = sp.symbols("a c3 c4 w", real=True)
    excess = sp.Symbol("delta", positive=True)
    size, middle = sp.symbols("V m", real=True)  # of the variance and of the mean, over the excess
    loss = a * w**2 / 2 + c3 * w**3 / 6 + c4 * w**4 / 24
    slope, curvature = sp.diff(loss, w), sp.diff(loss, w, 2)
    mean, half = middle * excess, sp.sqrt(size * excess)
    up, down = (sp.expand(slope.subs(w, mean + sign * half)) for sign in (1, -1))
    cycle = [(up - down) / (2 * half) - (a - excess), (up + down) / 2]
    pushed = slope + oscillation_share().subs(variance, size * excess) * sp.diff(curvature, w)
    flow = [e.subs(w, mean) for e in (curvature - (a - excess), pushed)]
    sizes = []
    for conditions in (cycle, flow):
        leading = [sp.expand(e).coeff(excess, 1) for e in conditions]
        (rest,) = sp.solve(leading, [size, middle], dict=True)
        sizes.append(sp.factor(rest[size]))
    share = sp.expand(sp.cancel(sizes[1] / sizes[0]))
    return Theorem(
        statement=f"at a flip the central flow has {sp.sstr(share)} of the variance of the 2-cycle",
        assumptions=(
            "gradient descent, one weight",
            "3 c3^2 > a c4: the flip is supercritical",
            "first order in delta",
        ),
        source="the equations of the 2-cycle, and of rest of theory.averages.gradient_descent",
        expressions={"cycle_variance": sizes[0] * excess, "flow_variance": sizes[1] * excess, "share": share},
        arguments={"a": a, "c3": c3, "c4": c4, "excess": excess},
    )
