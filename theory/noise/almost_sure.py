"""Two edges under mini-batch noise: where second moments grow, and where almost every single run grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import sympy as sp

from theory.edges.filter_numbers import at_flip, envelope_growth, loop_inverse
from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import k
from theory.errors import NoLinearEdge
from theory.noise.mean_square import c, mean_square_edge
from theory.simplify import readable, tidy
from theory.theorem import Theorem


def envelope_rate(edge: Edge) -> sp.Expr:
    """kappa = -1/k'(-1) of a rule's loop: how fast the flip's multiplier moves, dz/dk = -kappa.

    Defined in `theory.edges.filter_numbers`; decoupled weight decay included.

    Near the flip the closed loop from gradient to weight is the single pole -kappa/(z - z_0): a gradient noise xi
    enters the oscillation as -eta kappa xi.  1 for gradient descent and averages, 1/(1 - beta1) for heavy ball.
    Raises `NoLinearEdge` where the rule does not lose stability by a flip.
    """
    if edge.crossing != "flip":
        raise NoLinearEdge(f"{edge.name} crosses {edge.crossing}, an envelope rate belongs to a flip")
    return envelope_growth(loop_inverse(edge.loop))


@lru_cache(maxsize=256)
def edge_splitting(factory: Callable) -> Theorem:
    """Noise splits an edge that is crossed by a flip, symmetrically to first order in c = v/a^2.

        mean-square edge  k* (1 - c kappa k*/2),   almost-sure edge  k* (1 + c kappa k*/2),   kappa: `envelope_rate`.

    Near the flip x+ = (z_0 - kappa k* e_t) x with e_t of variance c, independent from step to step: E[x^2] grows where
    z_0^2 + (kappa k*)^2 c >= 1, |x| itself where log|z_0| - (kappa k*)^2 c/2 >= 0 (E of the logarithm; a product of
    independent matrices has no other term of that order).  Between the two almost every run decays while the second
    moment explodes.  The first is checked against the pole of the exact noise gain, where that is written out.
    Expressions: ``envelope_rate``; ``mean_square``, ``almost_sure``: relative shifts of k; ``exponent`` at k*.
    """
    edge = cached_edge(factory)
    kappa = envelope_rate(edge)
    critical = at_flip(loop_inverse(edge.loop))
    shift, push = sp.symbols("d q", positive=True)  # d: relative distance of k below k*; q = kappa k*
    pole, noise = -1 + push * shift, push**2 * c  # dz/dk = -kappa
    below = _first_order_root(pole**2 + noise - 1, shift)
    above = _first_order_root(sp.log(-pole) - noise / 2, shift)
    if "noise_gain" in mean_square_edge(factory).expressions:
        exact = mean_square_edge(factory).expressions["noise_gain"]
        residue = tidy(sp.cancel(sp.together((critical - k) * exact)).subs(k, critical))
        if sp.factor(residue - kappa / 2) != 0:
            raise AssertionError(f"the noise gain of {edge.name} has another pole at the edge: {residue}")
    at = {push: kappa * critical}
    expressions = {
        "envelope_rate": kappa,
        "mean_square": -below.subs(at),
        "almost_sure": -above.subs(at),
        "exponent": -(noise / 2).subs(at),
    }
    return Theorem(
        statement=f"noise moves the mean-square edge of {edge.name} down and its almost-sure edge up by as much",
        assumptions=(*edge.assumptions, "first order in c = v/a^2", "an edge that is crossed by a flip"),
        source=edge.source,
        expressions={name: readable(sp.factor(e), edge.parameters) for name, e in expressions.items()},
        arguments={**edge.arguments, "relative_variance": c},
    )


def _first_order_root(expression: sp.Expr, shift: sp.Symbol) -> sp.Expr:
    """The root near 0 to first order in the noise: -f(0)/f'(0)."""
    return sp.cancel(-expression.subs(shift, 0) / sp.diff(expression, shift).subs(shift, 0))


@lru_cache
def gradient_descent_exponent() -> Theorem:
    """E log|1 - k (1 + sqrt(c) e)|: the exact Lyapunov exponent of gradient descent in one dimension, expanded.

    e has mean 0, variance 1, third and fourth moments m3, m4; k = 2 (1 + d).  ``exponent`` to order c^2;
    ``almost_sure``, the d where it vanishes, to first order in c.
    """
    root, e, d = sp.Symbol("r", positive=True), sp.Symbol("e", real=True), sp.Symbol("d", real=True)
    third, fourth = sp.symbols("m3 m4", real=True)
    inside = 2 * (1 + d) * (1 + root * e) - 1
    moments = (1, 0, 1, third, fourth)
    averaged = sp.Integer(0)
    term = sp.log(inside)
    for i, moment in enumerate(moments):  # Taylor in r: every order brings one e
        averaged += sp.factor(term.subs(root, 0) / e**i) * moment * sp.sqrt(c) ** i / sp.factorial(i)
        term = sp.diff(term, root)
    second = averaged.subs({third: 0, fourth: 0}).subs(d, 0) / (-sp.diff(averaged, d).subs({d: 0, c: 0}))
    return Theorem(
        statement="the almost-sure edge of gradient descent lies above 2/eta, at k = 2 (1 + c) to first order",
        assumptions=("one dimension", "relative deviations of the batch curvature below 1/2"),
        source="E log|1 - eta h_B|, expanded",
        expressions={"exponent": averaged, "almost_sure": sp.factor(second)},
        arguments={"relative_variance": c, "excess": d, "third_moment": third, "fourth_moment": fourth},
    )
