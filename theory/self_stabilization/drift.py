"""When self-stabilization is damped, for any rule and any loss: the drift in terms of the valley's geometry.

Over one orbit the energy E of the averaged motion changes at the mean rate dE/dn = c <y^2> per step.  What
`theory.self_stabilization.multiple_scales` gives for c in partial derivatives is rewritten here in terms of the
sharpness S(s) and the loss L(s) on the floor of the valley of small gradients, s its arclength: how the valley bends no
longer matters.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

from theory.edges.filter_numbers import ADVANCE, BEND, KAPPA, LAMBDA, Q1, K, total_lag
from theory.losses.plane_jet import ALPHA, BETA, S, symbolic_jet
from theory.losses.taylor import s, x
from theory.self_stabilization.multiple_scales import eta, general_motion
from theory.theorem import Theorem

FLOOR_S, FLOOR_L = sp.symbols("floor_sharpness floor_loss", real=True)
"""d2S/ds2 and d2L/ds2 along the floor of the valley."""

_C3, _C4 = sp.symbols("c3 c4", real=True)


@lru_cache(maxsize=1)
def drift_law() -> Theorem:
    """The drift coefficient c, shown equal to that of `theory.self_stabilization.multiple_scales.general_motion`:

        c = eta kappa [2 eta kappa alpha Lambda - (2 kappa alpha/(3 beta S)) (3 c3^2 - S c4)
                       + Q(1) (beta/2) d(delta^2)/dS],

    d(delta^2)/dS = -(2/beta)(L'' + (alpha/beta) S''), the rate at which the amplitude delta^2 = -2 L'/S' that balances
    the push changes along the floor of the valley.  Damped where c < 0.  The three parts: the lags of the rule; the
    period-2 bifurcation along u (3 c3^2 > S c4: supercritical, damping); the valley (damping if a sharper place needs
    a smaller oscillation).

    Over a closed orbit the mean of y = grad S_perp . (w - w_dagger) is `excess` + `excess_slope` <y^2>: zero at leading
    order.  The sharpness on the floor exceeds the edge by y + S'' y^2/(2 beta), in the mean by that much more.

    **Expressions**: `drift`, `excess`, `excess_slope`; `floor_sharpness`, `floor_loss` by the jet's h, m, p, f, c3.
    Assumptions: one critical eigenvalue crossing at z = -1, codimension one, L' and L'' = O(eps).  Everything happens
    in the plane of u and grad S_perp.  Of other directions q: a stiff one (curvature l = O(1), b = d3L/dx2 dq) counts
    as c4 - 3 b^2/l in the place of c4, grad S_perp and beta being without it; a gradient along a soft one, on which
    alpha depends, makes y grow as alpha^(1/4) besides, an adiabatic change of the same order.
    Source: derived; the first two parts for gradient descent and L'' = S'' = 0 are in Berthier 2026.

    Example:
        >>> import theory
        >>> print(theory.drift_law().statement)
        dE/dn = c <y^2>: lags of the rule, period-2 bifurcation along u, change of delta^2 along the valley
    """
    geometric = (
        eta
        * KAPPA
        * (
            2 * eta * KAPPA * ALPHA * LAMBDA
            - 2 * KAPPA * ALPHA * (3 * _C3**2 - S * _C4) / (3 * BETA * S)
            - Q1 * (FLOOR_L + ALPHA * FLOOR_S / BETA)
        )
    )
    floor_sharpness, floor_loss = _floor()
    values = {
        LAMBDA: total_lag(Q1, ADVANCE, KAPPA, BEND),
        FLOOR_S: floor_sharpness,
        FLOOR_L: floor_loss,
    }
    difference = (geometric.xreplace(values) - general_motion().drift).xreplace({S: K / eta})
    if sp.expand(difference) != 0:
        raise ArithmeticError("the geometric form of the drift is not that of the expansion")
    at_edge = {K: eta * S}
    return Theorem(
        statement="dE/dn = c <y^2>: lags of the rule, period-2 bifurcation along u, change of delta^2 along the valley",
        assumptions=(
            "one eigenvalue at the edge, crossing at z = -1",
            "the loss changes slowly along the valley",
            "no motion, and no part of grad S, outside the plane of u and grad S_perp's soft part",
        ),
        source="derived by multiple scales; Berthier 2026 for gradient descent on a straight valley",
        expressions={
            "drift": geometric,
            "excess": sp.factor(general_motion().lift[0].xreplace(at_edge)),
            "excess_slope": sp.factor(general_motion().lift[1].xreplace(at_edge)),
            "floor_sharpness": floor_sharpness,
            "floor_loss": floor_loss,
        },
        arguments={
            "learning_rate": eta,
            "kappa": KAPPA,
            "gain": Q1,
            "lag": LAMBDA,
            "bend": BEND,
            "sharpness": S,
            "sharpening_rate": ALPHA,
            "grad_sharpness_sq": BETA,
            "third": _C3,
            "fourth": _C4,
            "floor_sharpness": FLOOR_S,
            "floor_loss": FLOOR_L,
            **{str(c): c for c in sp.symbols("f h m p", real=True)},
        },
    )


@lru_cache(maxsize=1)
def stiff_directions() -> Theorem:
    """Directions q of curvature l = O(1) in which the sharpness changes, b = d3L/dx2 dq, act as c4 -> c4 - 3 b^2/l.

    The mean of x^2 = A^2 holds q at the minimum of l q^2/2 + b A^2 q/2, at the order at which x has its offset; what
    q then does to the sharpness is cubic in A, as a fourth derivative along u is.  It lowers c4 whatever the sign of b:
    stiff directions always damp.  grad_sharpness_sq is then that of the soft directions alone, and several stiff
    directions add up.  Source: derived; assumes l > 0 of order one, L' = O(eps) in the soft direction only.

    **Expressions**: `displacement` of q; `fourth`, to be added to c4.
    """
    q, a, b, stiffness, c4 = sp.symbols("q A b l c4", real=True)
    extra = b * x**2 * q / 2 + stiffness * q**2 / 2
    mean_force = sp.expand(sum(sp.diff(extra, q).xreplace({x: sign * a}) for sign in (1, -1)) / 2)
    displacement = sp.solve(mean_force, q)[0]
    along = sp.diff(extra, x).xreplace({q: displacement, x: a})
    equal = sp.diff(c4 * x**4 / 24, x).xreplace({x: a})
    fourth = sp.solve(sp.expand(along - equal), c4)[0]
    return Theorem(
        statement="a stiff direction of curvature l along which the sharpness has slope b acts as c4 -> c4 - 3 b^2/l",
        assumptions=("l > 0 of order one", "the push acts in soft directions only"),
        source="derived from the balance of the mean force along the stiff direction",
        expressions={"displacement": displacement, "fourth": fourth},
        arguments={"amplitude": a, "slope": b, "stiffness": stiffness},
    )


def _floor() -> tuple[sp.Expr, sp.Expr]:
    """d2S/ds2 and d2L/ds2 along the curve on which the strong part of dL/dx vanishes, at leading order in eps."""
    loss = symbolic_jet().expansion().polynomial
    weak = {c: sp.Integer(0) for c in (ALPHA, *sp.symbols("f h", real=True))}
    strong = loss.subs(weak)
    bend = sp.Symbol("bend")
    floor = {x: bend * s**2}
    along = sp.expand(sp.diff(strong, x).xreplace(floor)).coeff(s, 2)
    floor = {x: sp.solve(along, bend)[0] * s**2}
    # the top eigenvalue to second order in s: (L_xx - S - e)(L_ss - S - e) = L_xs^2
    e1, e2 = sp.symbols("e1 e2")
    hessian = sp.hessian(strong, (x, s)).xreplace(floor)
    shifted = hessian - (S + e1 * s + e2 * s**2) * sp.eye(2)
    det = sp.expand(shifted.det(method="berkowitz"))
    first = sp.solve(det.coeff(s, 1), e1)[0]
    second = sp.solve(det.coeff(s, 2).xreplace({e1: first}), e2)[0]
    slow = sp.expand((loss - strong).xreplace(floor)).coeff(s, 2)
    return sp.factor(2 * second), sp.factor(2 * slow)
