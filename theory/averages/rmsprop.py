"""The central flows of scalar RMSProp and of RMSProp, and the preconditioner at which RMSProp comes to rest.

Second moments are updated before they are used, nu_n = beta2 nu_{n-1} + (1 - beta2) g_n^2, so that nu' is a backward
difference (`theory.averages.slow_state.backward_rate`).  Time: one step.  Source of the statements: Cohen, Damian et
al. 2410.24206; derived here.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

from theory.averages.gradient_descent import (
    eta,
    gradient_sq,
    mean_excess,
    oscillation_share,
    sharpening,
    slope_sq,
    variance,
)
from theory.averages.slow_state import G, backward_rate, q
from theory.losses.plane_jet import S
from theory.theorem import Theorem

beta2 = sp.Symbol("beta2", positive=True)
nu = sp.Symbol("nu", positive=True)


def _moment_rate(mean_square: sp.Expr) -> sp.Expr:
    rate = backward_rate(beta2 * nu + (1 - beta2) * mean_square, nu)
    if rate is None:
        raise ArithmeticError("the second moment is not an affine recursion")
    return rate


@lru_cache(maxsize=1)
def central_flow_scalar_rmsprop() -> Theorem:
    """One eigenvalue at S = 2 sqrt(nu)/eta, nu+ = beta2 nu + (1 - beta2) |g|^2 with the norm of the whole gradient.

    **Expressions** in the arguments of `central_flow_gd`, `sharpness` S, `b2` and `nu`: `nu_rate`; `edge_nu` =
    eta^2 S^2/4 and `effective_step` 2/S; `variance`, which is the mean of `variance_by_curvature` (gradient descent's,
    the limit beta2 -> 1) and `variance_by_adaptation` (beta2 -> 0) with the weights `curvature_weight` and
    `adaptation_weight`; a negative value means that the edge is left, V = 0.  `loss_rate` at any V.

    The mean of |g|^2 is taken as |grad L|^2 + V S^2: what is left out, V <grad L, grad S> + V^2 |grad S|^2/4, is
    smaller by |S'|/S, the relative change of the sharpness in a step.

    Example:
        >>> import theory
        >>> law = theory.central_flow_scalar_rmsprop()
        >>> print(law.expressions["edge_nu"], "and", law.expressions["effective_step"])
        S**2*eta**2/4 and 2/S
    """
    nu_rate = _moment_rate(gradient_sq + mean_excess()[1])
    # inner products with w' = -(eta/sqrt(nu)) (grad L + (V/2) grad S)
    step = eta / sp.sqrt(nu)
    share = oscillation_share()
    sharpness_rate = -step * (-sharpening + share * slope_sq)
    loss_rate = -step * (gradient_sq - share * sharpening)
    edge = 2 * sp.sqrt(nu) / eta
    (edge_nu,) = sp.solve(edge - S, nu)
    excess = (sp.diff(edge, nu) * nu_rate - sharpness_rate).subs(nu, edge_nu)
    # positive multiples change nothing where the rate of the excess vanishes
    excess = sp.expand(excess * beta2 * S / 2)
    weight = excess.coeff(variance, 1)
    held = sp.factor(sp.cancel(-excess.coeff(variance, 0) / weight))
    by_curvature, by_adaptation = (held.subs(beta2, end) for end in (1, 0))
    curvature = weight.coeff(slope_sq, 1) * slope_sq
    adaptation = sp.factor(weight - curvature)
    mixed = curvature * by_curvature + adaptation * by_adaptation
    if sp.cancel(held - mixed / (curvature + adaptation)) != 0:
        raise ArithmeticError("the variance is not the weighted mean of its limits")
    return Theorem(
        statement="at S = 2 sqrt(nu)/eta scalar RMSProp steps by 2/S whatever eta is; V is the weighted mean of "
        "gradient descent's variance and of the one that holds nu at eta^2 S^2/4",
        assumptions=(
            "one simple eigenvalue at the edge; eps = 0",
            "the mean of |g|^2 is |grad L|^2 + V S^2: S changes little in a step",
            "V >= 0, else the flow leaves the edge",
        ),
        source="Cohen, Damian et al. 2410.24206 (statement); averaged here with the backward difference of nu",
        expressions={
            "nu_rate": nu_rate,
            "edge_nu": edge_nu,
            "effective_step": sp.powdenest((eta / sp.sqrt(nu)).subs(nu, edge_nu), force=True),
            "variance": held,
            "variance_by_curvature": sp.expand(by_curvature),
            "variance_by_adaptation": sp.expand(by_adaptation),
            "curvature_weight": curvature,
            "adaptation_weight": adaptation,
            "loss_rate": loss_rate,
        },
        arguments={
            "learning_rate": eta,
            "b2": beta2,
            "nu": nu,
            "sharpness": S,
            "sharpening": sharpening,
            "slope_sq": slope_sq,
            "gradient_sq": gradient_sq,
            "variance": variance,
        },
    )


M = sp.Symbol("M", positive=True)
share_of_weight = sp.Symbol("Sigma_ii", nonnegative=True)
multiplier = sp.Symbol("Z_ii", nonnegative=True)
penalty = sp.Symbol("cbar", real=True)
k = sp.Symbol("k", positive=True)
"""The edge in units of M: eta times the threshold of P^-1 H."""


@lru_cache(maxsize=1)
def moments_at_rest() -> Theorem:
    """Where the second moments of any rule with P = sqrt(nu) and its edge at H <= k M, M = sqrt(nu)/eta, come to rest:

        minimise tr M + |grad L|^2_(M^-1)/eta^2  over diagonal M >= 0  subject to  H <= k M,

    the programme of RMSProp, k = 2, with the rule's own k: for Adam 2 (1 + beta1)/(1 - beta1).  Beyond what is assumed
    for RMSProp the oscillation must rest, which with momentum it need not (`theory.balance_law`).

    **Expressions**, one weight's: `nu_rate` in the mean gradient; `nu_rate_at_edge`, where Sigma stands on the kernel
    of k M - H, so that (H Sigma H)_ii = k^2 M_ii^2 Sigma_ii (`gradient_variance_at_edge`).  `lagrangian_slope` =
    d/dM_ii of the `objective` less <Z, k M - H>; with Z = k Sigma/eta^2 (`multiplier`) it is -eta^2 beta2/(1 - beta2)
    times nu_rate_at_edge/(eta^2 M^2): the points of rest are the programme's Karush-Kuhn-Tucker points.  The objective
    is convex in M, so there is one minimum.

    Example:
        >>> import theory
        >>> law = theory.moments_at_rest()
        >>> print(law.expressions["objective"], "with multiplier", law.expressions["multiplier"])
        M + gbar**2/(M*eta**2) with multiplier Sigma_ii*k/eta**2
    """
    nu_rate = _moment_rate(G**2 + q)
    at_edge = _variance_on_kernel()
    nu_rate_at_edge = nu_rate.xreplace({q: at_edge, nu: eta**2 * M**2})
    objective = M + G**2 / (eta**2 * M)
    slope = sp.diff(objective - multiplier * k * M, M)
    # the multiplier for which rest and stationarity are the same equation
    roots = sp.solve(slope.subs(G**2, sp.solve(nu_rate_at_edge, G**2)[0]), multiplier)
    if len(roots) != 1 or roots[0].has(M, G):
        raise ArithmeticError("the points of rest of nu are not stationary points of the programme")
    kept = slope.subs(multiplier, roots[0])
    if sp.cancel(kept + nu_rate_at_edge * beta2 / ((1 - beta2) * eta**2 * M**2)) != 0:
        raise ArithmeticError("nu' is not a multiple of the Lagrangian's slope")
    if sp.diff(slope, M).subs(G, 1).subs(M, 1).is_positive is not True:
        raise ArithmeticError("the objective is not convex in M")
    return Theorem(
        statement="second moments rest where tr M + |grad L|^2_(M^-1)/eta^2 is least subject to H <= k M; the "
        "constraint's multiplier is k Sigma/eta^2",
        assumptions=(
            "P = sqrt(nu), and the edge of P^-1 H is k/eta",
            "grad L (the time mean) and H do not move, and the oscillation rests; eps = 0",
            "Sigma >= 0 stands on the kernel of k M - H >= 0",
            "the mean square of a gradient's entry is G^2 + (H Sigma H)_ii",
        ),
        source="for k = 2 Cohen, Damian et al. 2410.24206; for any k here, Karush-Kuhn-Tucker conditions compared",
        expressions={
            "nu_rate": nu_rate,
            "gradient_variance_at_edge": at_edge,
            "nu_rate_at_edge": nu_rate_at_edge,
            "objective": objective,
            "lagrangian_slope": slope,
            "multiplier": roots[0],
        },
        arguments={
            "learning_rate": eta,
            "b2": beta2,
            "nu": nu,
            "mean_gradient": G,
            "gradient_variance": q,
            "preconditioner": M,
            "share": share_of_weight,
            "multiplier": multiplier,
            "edge": k,
        },
    )


@lru_cache(maxsize=1)
def central_flow_rmsprop() -> Theorem:
    """RMSProp weight by weight, and where its preconditioner M = sqrt(nu)/eta comes to rest: a convex programme,

        minimise tr M + |grad L|^2_(M^-1)/eta^2  over diagonal M >= 0  subject to  H <= 2 M.

    **Expressions**, one weight's: `w_rate` with `penalty` = d<H, Sigma>/dw_i, and those of `moments_at_rest` at k = 2.

    Example:
        >>> import theory
        >>> print(theory.central_flow_rmsprop().expressions["w_rate"])
        -eta*(cbar/2 + gbar)/sqrt(nu)
    """
    rest = moments_at_rest()
    return Theorem(
        statement="RMSProp's M = sqrt(nu)/eta rests where tr M + |grad L|^2_(M^-1)/eta^2 is least subject to H <= 2M; "
        "the constraint's multiplier is 2 Sigma/eta^2",
        assumptions=(
            "grad L (the time mean) and H do not move; eps = 0",
            "Sigma >= 0 stands on the kernel of 2M - H >= 0",
            "the mean square of a gradient's entry is G^2 + (H Sigma H)_ii",
        ),
        source="Cohen, Damian et al. 2410.24206 (statement); Karush-Kuhn-Tucker conditions compared here",
        expressions={
            "w_rate": -eta / sp.sqrt(nu) * (G + penalty / 2),
            **{name: expression.subs(k, 2) for name, expression in rest.expressions.items()},
        },
        arguments={
            "penalty": penalty,
            **{name: symbol for name, symbol in rest.arguments.items() if symbol != k},
        },
    )


def _variance_on_kernel() -> sp.Expr:
    """(H Sigma H)_11 where (k M - H) Sigma = 0, from a general 2 x 2 block: Sigma = s s^T, H = k M - r r^T, r.s = 0."""
    m1, m2, s1, s2, t = sp.symbols("m1 m2 s1 s2 t", positive=True)
    oscillation, stiff = sp.Matrix([s1, s2]), t * sp.Matrix([-s2, s1])
    hessian = k * sp.diag(m1, m2) - stiff * stiff.T
    square = (hessian * oscillation * oscillation.T * hessian).applyfunc(sp.expand)
    entry = square[0, 0]
    if entry.has(t) or sp.expand(entry / s1**2).has(s1, s2):
        raise ArithmeticError("diag(H Sigma H) depends on more than M and diag(Sigma)")
    return sp.expand(entry / s1**2).subs(m1, M) * share_of_weight
