"""The catapult: gradient descent on the two-layer linear net, exactly (`catapult_map`, `catapult_window`).

With a = eta lambda and c = eta^2 f^2/n the net of every width is one map of the plane,

    a+ = a + c (a - 4),   c+ = c (1 - a + c)^2,   on the feasible wedge 0 <= c <= a^2/4

(Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari 2020, arXiv:2003.02218, eqs. 7-8).  What follows from it, with no
width, limit or approximation, for weights that never hit f = 0 exactly (a set of starts of measure zero):

* a < 4: lambda falls at every step, and sum_t c_t (4 - a_t) = a_0 - a_oo is finite: so c_t -> 0.  The loss goes to zero
  from *every* feasible start.  If a_t stayed above 2 then c_t >= small would have to grow (|1 - a + c| > 1 as c -> 0),
  and at a_oo = 2 the sum gives a_t - 2 >= c_t, hence c never falls: so a_oo < 2 strictly.
* a > 4: lambda rises at every step; a finite limit would need c -> 0, which |1 - a| > 3 forbids: divergence.
* a = 4: a stays, and eta f/sqrt(n) = 2 cos(theta) moves by theta -> 3 theta: chaos, neither convergence nor divergence.
* a step lowers the loss iff a - c < 2: the edge of a large output is 2 + c, not 2.
Neither a small output nor a wide net is needed.  On infeasible pairs (a, c), which no weights have, all of it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import sympy as sp

from theory.errors import CannotTrace, NoLinearEdge
from theory.theorem import Theorem
from theory.toy_losses.gram import curvature, f, gram_map, n, y

a, c = sp.symbols("a c", positive=True)
"""eta lambda and eta^2 f^2/n: the two numbers that a net of any width is."""

phi, theta = sp.symbols("phi theta", real=True)
delta = sp.Symbol("delta", real=True)
"""phi = eta f/sqrt(n), so c = phi^2; delta = a - 2, the excess over the edge."""


def catapult_map(loss: Callable, rule: Callable) -> Theorem:
    """The exact map (f, lambda) -> (f_next, lambda_next) of one example with label y, and (a, c) of y = 0.

    loss   of a two-layer linear net, traced (see `theory.toy_losses.gram.output_slope`);  rule: a factory with no state
    at all, such as optax.sgd.  Time: one step.  Source: derived; Lewkowycz et al. 2020, eqs. 7-8, for y = 0.
    Raises `NoLinearEdge` for a rule with state: its map is `gram_map`.

    Example:
        >>> import jax.numpy as jnp, optax, theory
        >>> def loss(weights, data):
        ...     (u, v), (inputs, labels) = weights, data
        ...     return jnp.mean((inputs * (u @ v) / jnp.sqrt(u.size) - labels) ** 2) / 2
        >>> law = theory.catapult_map(loss, optax.sgd)
        >>> print(law.expressions["a_next"])
        a*c + a - 4*c
        >>> round(float(law.numeric("c_next")(a=3.0, c=0.1)), 4)  # c (1 - a + c)^2
        0.361
    """
    gram = gram_map(loss, rule)
    if gram.sums.rows > 1:
        raise NoLinearEdge(
            "the rule has memory: (f, lambda) alone is not closed", "use theory.toy_losses.gram.gram_map"
        )
    eta = gram.symbols["learning_rate"]
    p, q = gram.sums[0, 0], gram.differences[0, 0]
    weights = {p: curvature + 2 * f / sp.sqrt(n), q: curvature - 2 * f / sp.sqrt(n)}
    if sp.expand(gram.output.subs(weights) - f) != 0 or sp.expand(gram.curvature.subs(weights) - curvature) != 0:
        raise CannotTrace("f and lambda do not determine |u + v| and |u - v|")
    p_next, q_next = (sp.expand(gram.step[e].subs(weights)) for e in (p, q))
    f_next = sp.expand(sp.sqrt(n) * (p_next - q_next) / 4)
    kernel_next = sp.expand((p_next + q_next) / 2)
    scaled = {y: 0, curvature: a / eta, f: sp.sqrt(n) * phi / eta}
    a_next = sp.factor((eta * kernel_next).subs(scaled).expand().subs(phi**2, c))
    phi_next = sp.factor((eta * f_next / sp.sqrt(n)).subs(scaled))
    c_next = sp.factor(sp.expand(phi_next**2 / phi**2).subs(phi, sp.sqrt(c)) * c)
    feasible = sp.factor((eta**2 * (curvature**2 - 4 * f**2 / n)).subs({curvature: gram.curvature, f: gram.output}))
    if feasible != eta**2 * p * q:
        raise CannotTrace("(eta lambda)^2 - 4 eta^2 f^2/n is not eta^2 |p|^2 |q|^2/n^2")
    return Theorem(
        statement="f and lambda = (|u|^2 + |v|^2)/n of a two-layer linear net form a closed map under gradient "
        "descent; with y = 0 it depends on a = eta lambda and c = eta^2 f^2/n alone, and weights exist iff c <= a^2/4",
        assumptions=("one example with input 1 and half the squared error", "full batch, any width and any weights"),
        source=f"{gram.source}; Lewkowycz et al. 2020, arXiv:2003.02218, eqs. 7-8",
        expressions={
            "f_next": sp.collect(f_next, f),
            "curvature_next": sp.collect(kernel_next, eta),
            "a_next": a_next,
            "c_next": c_next,
            "phi_next": phi_next,
            "c_feasible": a**2 / 4,
        },
        arguments={"f": f, "lambda_": curvature, "n": n, "y": y, "learning_rate": eta, "a": a, "c": c, "phi": phi},
    )


def catapult_window(loss: Callable, rule: Callable) -> Theorem:
    """Where the two-layer linear net (y = 0) falls at once, is catapulted, or diverges: exact (proof: module).

    Expressions, in a and c:
    curvature_change   a+ - a;  upper_edge: where it changes sign, for every c
    loss_ratio         c+/c;  edge: the a at which a step keeps the loss;  lower_edge: its limit c -> 0
    balance_ratio      ((a+)^2 - 4 c+)/(a^2 - 4 c): what gradient flow conserves shrinks by this, so weights stay
                       feasible and a_oo^2 = (a_0^2 - 4 c_0) prod_t (1 - c_t)^2
    loss_budget        bound on sum_t c_t/(a_0 - a_oo) from above, at a = a_0, and from below, at a = 0
    monotone_edge      below this a, a start with c >= a - 2 never sees its loss rise: a root of monotone_polynomial
    chaos              phi+ at the upper edge, for phi = 2 cos(theta): 2 cos(3 theta)
    Raises `CannotTrace` where a step of the proof does not check.
    """
    law = catapult_map(loss, rule)
    expressions: Mapping[str, Any] = law.expressions
    a_next, c_next = expressions["a_next"], expressions["c_next"]
    change = sp.factor(a_next - a)
    ratio = sp.factor(c_next / c)
    (upper,) = sp.solve(change / c, a)
    falls = sp.factor(1 - ratio)  # a product of the two margins 1 -+ (1 - a + c)
    edges = [root for root in sp.solve(falls, a) if root.subs(c, 0) > 0]
    if len(edges) != 1:
        raise CannotTrace(f"the loss has {len(edges)} edges where one was expected: {edges}")
    (edge,) = edges
    balance = sp.factor(sp.cancel((a_next**2 - 4 * c_next) / (a**2 - 4 * c)))
    if sp.sqrt(balance).is_real is False or sp.diff(balance, a) != 0:
        raise CannotTrace(f"the balance ratio {balance} is not a square in c alone: feasibility is not preserved")
    monotone = _monotone_edge(a_next, c_next, edge)
    at_upper = expressions["phi_next"].subs(a, upper).subs(phi, 2 * sp.cos(theta))
    chaos = 2 * sp.cos(3 * theta)
    if sp.expand(sp.expand_trig(chaos) - sp.expand(at_upper)) != 0:
        raise CannotTrace("the map at the upper edge is not the Chebyshev polynomial of degree 3")
    return Theorem(
        statement=f"every feasible start with eta lambda < {upper} converges to zero loss with lambda falling at every "
        f"step and final eta lambda < {edge.subs(c, 0)}; every one above {upper} diverges; at {upper} the output is "
        f"chaotic; a step lowers the loss iff eta lambda < {edge}",
        assumptions=(*law.assumptions, "no iterate hits f = 0 exactly (measure zero)"),
        source=law.source,
        expressions={
            "curvature_change": change,
            "upper_edge": upper,
            "loss_ratio": ratio,
            "edge": edge,
            "lower_edge": edge.subs(c, 0),
            "balance_ratio": balance,
            "loss_budget": sp.cancel(-c / change),
            "monotone_edge": monotone.evalf(20),
            "monotone_polynomial": monotone.poly.as_expr().subs(monotone.poly.gen, a),
            "chaos": chaos,
        },
        arguments={"a": a, "c": c, "theta": theta},
    )


def _monotone_edge(a_next: sp.Expr, c_next: sp.Expr, edge: sp.Expr) -> sp.CRootOf:
    """The largest a such that one step keeps {falling loss, a' <= a} to itself: a root of a discriminant.

    With g = edge - a >= 0 the margin and c = g + a - 2, the next margin is a cubic in g; as a only falls, the region is
    kept if the cubic is not negative, and it first is where a double root g > 0 appears.
    """
    g = sp.Symbol("g", real=True)
    (height,) = sp.solve(edge - a - g, c)
    margin = sp.expand((edge.subs(c, c_next) - a_next).subs(c, height))
    candidates = []
    for factor, _ in sp.factor_list(sp.discriminant(margin, g), a)[1]:
        for root in sp.Poly(factor, a).real_roots():
            if not 2 < root.evalf() < 4:
                continue
            touching = [r for r in sp.Poly(margin.subs(a, root.evalf(40)), g).nroots(n=15) if abs(sp.im(r)) < 1e-6]
            double = [r for r, other in pairwise(touching) if abs(r - other) < 1e-5]
            if any(0 < sp.re(r) < 1 + (root.evalf() - 2) ** 2 / 4 for r in double):  # feasible: c <= a^2/4
                candidates.append(root)
    if not candidates:
        raise CannotTrace("no learning rate at which a falling loss may rise again was found")
    return min(candidates, key=lambda root: root.evalf())


def reflection(loss: Callable, rule: Callable, order: int = 5) -> Theorem:
    """Where a catapult lands: near the edge it reflects the excess, a_oo = 2 - delta - (2/3) delta^2 - ...

    Weigh delta = a - 2 by one and c by two.  Close to the edge the map moves slowly, and has a formal first integral
    E(delta, c) = c + delta^2/2 + ..., found here term by term from E(next) = E (to ``order`` + 1 in the weights, so
    that the leftover has weight order + 2; checked).  An orbit that begins and ends at c = 0 obeys E(delta_0, 0) =
    E(delta_oo, 0): at leading order a mirror image, the self-stabilization of a minimum that nothing pushes
    (alpha = 0), without dependence on where the orbit began or on the width.

    Expressions: integral (E in delta and c); landing (a_oo in a, error O((a - 2)^(order + 1)), c_0 -> 0); coefficients
    of delta^2, delta^3, ... as landing_2, landing_3, ...; peak (largest c of the orbit, error O(delta^4): the highest
    loss is n peak/(2 eta^2)).  Time: none; t enters only through the orbit.
    """
    if order < 2:
        raise CannotTrace(f"got order {order}, at least 2 was needed")
    law = catapult_map(loss, rule)
    expressions: Mapping[str, Any] = law.expressions
    size = sp.Symbol("varepsilon", positive=True)
    weighed = {delta: size * delta, c: size**2 * c}
    move = {
        delta: sp.expand(expressions["a_next"].subs(a, 2 + delta) - 2),
        c: sp.expand(expressions["c_next"].subs(a, 2 + delta)),
    }
    unknown: list[sp.Symbol] = []
    integral: Any = c + delta**2 / 2
    for weight in range(3, order + 2):
        for power in range(weight // 2 + 1):
            if (
                weight > 2 * power
            ):  # pure powers of c: a function of E is an integral too, which is fixed by E(0, c) = c
                unknown.append(sp.Dummy())
                integral += unknown[-1] * delta ** (weight - 2 * power) * c**power

    def leftover(e: sp.Expr) -> sp.Poly:
        return sp.Poly(sp.expand((e.subs(move, simultaneous=True) - e).subs(weighed, simultaneous=True)), size)

    rest = leftover(integral)
    low = [term for (power,), term in rest.terms() if power <= order + 2]
    conditions = [e for term in low for e in sp.Poly(term, delta, c).coeffs()]
    (solution,) = sp.solve(conditions, unknown, dict=True)
    integral = integral.subs(solution)
    if integral.free_symbols - {delta, c} or any(power <= order + 2 for (power,), _ in leftover(integral).terms()):
        raise CannotTrace("the first integral is not determined to the order asked for")
    ends = sp.Poly(integral.subs(c, 0), delta)
    landing, coefficients = -delta, {}
    for power in range(2, order + 1):
        unknown_one = sp.Dummy()
        trial = landing + unknown_one * delta**power
        mismatch = sp.expand(ends.as_expr().subs(delta, trial) - ends.as_expr()).coeff(delta, power + 1)
        (value,) = sp.solve(mismatch, unknown_one)
        coefficients[f"landing_{power}"] = value
        landing = landing + value * delta**power
    peak = ends.as_expr().series(delta, 0, 4).removeO()  # dE/d(delta) vanishes at delta = O(c^2) on top of the orbit
    return Theorem(
        statement="a catapult from eta lambda = 2 + delta and a small output lands at 2 - delta - O(delta^2), after "
        "its loss has peaked at n delta^2/(4 eta^2)",
        assumptions=(*law.assumptions, "eta^2 f_0^2/n far below delta^2; delta small (an asymptotic series)"),
        source=law.source,
        expressions={
            "integral": integral,
            "landing": 2 + landing.subs(delta, a - 2),
            "peak": peak.subs(delta, a - 2),
            **coefficients,
        },
        arguments={"a": a, "c": c, "delta": delta},
    )
