"""Whether second moments settle at the edge: the balanced 2-cycle of an adaptive rule on a quadratic, its stability.

A rule with one second moment, adaptive (not frozen), has a 2-cycle x_n = (-1)^n X on S x^2/2 with eps = 0, on which
the second moment stands still and S is at the edge: this is where a central flow puts it.  Turned with the cycle, the
rule's step on (w, fast, slow) has a fixed point there; its Jacobian tells whether the rule stays or circles the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from theory.averages.any_rule import require_central
from theory.averages.slow_state import G, averaged_slow_state, held_matrix, limit_of, q, uncut_step
from theory.edges.linear_stability import cached_edge
from theory.edges.transfer import z
from theory.edges.unit_circle import jury_conditions
from theory.errors import NoLinearEdge
from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.factory_step import g, w


def balance_law(factory: Callable, **settings: Any) -> Theorem:
    """The multipliers of the balanced 2-cycle of the rule made by ``factory``, from its own uncut step.

    **Expressions**: `polynomial` in z, whose roots are the multipliers of one step (turned by -1); `condition_0`, ...,
    all positive exactly where the cycle is stable (Schur-Cohn in Jury's form).  They depend on the averaging constants
    alone: neither on eta nor on S.  RMSProp's cycle is always stable.  Adam's is where beta1^2 beta2 - 3 beta1 (1 +
    beta2) + 1 > 0, for beta2 -> 1 where beta1 < 3 - 2 sqrt 2 = 0.17; beyond, it circles the edge for ever, and the
    means that a central flow predicts are met only roughly.  AdaBelief's never is, NAdam's for every beta1 if
    beta2 > 0.6.

    Assumes one weight, eps = 0, no decay, t -> infinity.  Raises what `theory.edge` raises, and `NoLinearEdge` for
    rules without exactly one second moment that comes to rest.

    Example:
        >>> import optax, theory
        >>> print(theory.balance_law(optax.rmsprop).expressions["polynomial"])
        beta2 + z**2 + z*(1 - 3*beta2)
    """
    theorem = cached_edge(factory, tuple(settings.items()))
    require_central(theorem)
    state = averaged_slow_state(factory, theorem, **settings)
    if len(theorem.slow) != 1 or set(state.rate) != set(theorem.slow):
        raise NoLinearEdge(f"{theorem.name} has no single second moment that averages its gradient")
    (leaf,) = theorem.slow
    off = dict.fromkeys(theorem.parameters.eps, sp.Integer(0))
    off |= {s: sp.Integer(0) for s in theorem.symbols.values() if s.name == "omega"}
    # S = 1 and X = 1: only eta sets the scale
    resting = sp.solve(state.rate[leaf].xreplace({**off, G: sp.Integer(0), q: sp.Integer(1)}), leaf)
    if len(resting) != 1:
        raise NoLinearEdge(f"the second moment of {theorem.name} does not come to rest under a steady oscillation")
    eta = theorem.parameters.eta
    preconditioner = theorem.preconditioner.xreplace({**off, leaf: resting[0]})
    at_edge = {eta: tidy((theorem.threshold * eta).xreplace(off) * preconditioner)}
    step = uncut_step(factory, theorem, **settings)
    fast = list(theorem.step_map)[1:]
    matrix, inject = held_matrix(theorem)
    oscillation = (
        (-sp.eye(len(fast)) - matrix[1:, 1:]).applyfunc(tidy).LUsolve(inject[1:, :]) if fast else inject[1:, :]
    )
    point = {w: sp.Integer(1), leaf: resting[0], **dict(zip(fast, oscillation, strict=True))}
    variables = [w, *fast, leaf]
    moved = [-(w + step.update), *(-step.after[f] for f in fast), step.after[leaf]]
    jacobian = sp.Matrix(
        [[_entry(e.xreplace({**off, g: w}), v, point, at_edge, theorem) for v in variables] for e in moved]
    )
    polynomial = sp.Poly(jacobian.charpoly(z).as_expr(), z)
    conditions = [sp.factor(tidy(c)) for c in jury_conditions([tidy(c) for c in polynomial.all_coeffs()])]
    return Theorem(
        statement=f"the second moment of {theorem.name} settles at the edge where all conditions are positive",
        assumptions=("one weight on a quadratic; eps = 0, no weight decay, t -> infinity", *theorem.assumptions),
        source=theorem.source,
        expressions={
            "polynomial": sp.Add(*(tidy(c) * z**n for n, c in enumerate(reversed(polynomial.all_coeffs())))),
            **{f"condition_{n}": c for n, c in enumerate(conditions)},
        },
        arguments={**theorem.symbols, "z": z},
    )


def _entry(after: sp.Expr, by: sp.Symbol, point: dict, at_edge: dict, theorem: Any) -> sp.Expr:
    slope = sp.diff(after, by).xreplace(point).xreplace(at_edge)
    return tidy(limit_of(slope, theorem))
