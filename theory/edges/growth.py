"""How fast an oscillation grows or decays while its curvature is off the edge, and what that asks of time averages.

An oscillation along one eigenvector of P^-1 H, whose edge ratio r changes slowly against the rule's memory, is
multiplied by mu(r) a step, the largest root of the held rule's characteristic polynomial.  If it neither dies out nor
diverges, log|mu| must be 0 on average over time: the balance of growth.  That puts the *mean ratio* at 1 only as far
as log|mu| is linear in r.  With momentum it is not: just below the edge the critical root meets the memory's, and the
pair decays at the memory's own rate however low the curvature is, while above the edge growth is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import sympy as sp

from theory.edges.linear_stability import cached_edge
from theory.errors import NoLinearEdge
from theory.simplify import readable, tidy
from theory.theorem import Theorem


@lru_cache(maxsize=256)
def growth_law(factory: Callable) -> Theorem:
    """`slope`: d log|mu|/dr at the edge; `floor`: the fastest decay, log|mu| where the critical root and the memory's
    have met and form a pair; `meeting`: the edge ratio, below 1, where they do.

    Assumes two roots whose product does not change with the curvature: one leaf of memory, a filter without a zero
    (heavy ball, EMA momentum, Adam).  Raises `NoLinearEdge` for other rules and where the edge is no flip.

    Example:
        >>> import optax, theory
        >>> law = theory.growth_law(optax.adam)
        >>> print(law.expressions["slope"], "and", law.expressions["floor"])
        2*(beta1 + 1)/(1 - beta1) and log(beta1)/2
    """
    edge = cached_edge(factory)
    a, b = edge.loop.a, edge.loop.b
    if edge.crossing != "flip" or edge.threshold is None or edge.growth is None:
        raise NoLinearEdge(f"{edge.name} does not cross its edge by a flip, or only implicitly")
    if len(a) != 3 or b[0] != 0 or b[2] != 0:
        raise NoLinearEdge(f"{edge.name} has no second root that meets the critical one at a fixed product of both")
    critical = edge.threshold * edge.parameters.eta
    product = a[2]
    # z^2 + (a1 + k b1) z + product has a double root on the negative axis where a1 + k b1 = 2 sqrt(product)
    formulas = {
        "slope": tidy(edge.growth * critical),
        "floor": sp.log(product) / 2,
        "meeting": tidy((2 * sp.sqrt(product) - a[1]) / (critical * b[1])),
    }
    return Theorem(
        statement=f"an oscillation of {edge.name} grows by slope (r - 1) a step near the edge ratio r = 1 and decays "
        "by no more than the floor below it",
        assumptions=("the edge ratio changes slowly against the rule's memory", *edge.assumptions),
        source=edge.source,
        expressions={name: readable(formula, edge.parameters) for name, formula in formulas.items()},
        arguments=edge.arguments,
    )
