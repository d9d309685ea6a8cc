"""The centre manifold of the map (w, fast state) at a flip, and the motion on it: an independent road to the balance.

The held step of a rule on a scalar loss is X+ = M X + v f'(w) with M, v read off the rule's code.  At the edge one
direction u turns by -1 and all others contract, so small orbits live on a curve
    X(A) = A u + A^2 h2 + A^3 h3 + d A h,      A+ = -A + rate d A + cubic A^3,
parametrised so that A is the odd part of w and A+ has no even terms (a flip has no resonance there).  The invariance
X(A+) = M X(A) + v f'(w(A)) is solved order by order; its solution is put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from theory.edges.held_step import held_map
from theory.edges.linear_stability import cached_edge
from theory.losses.scalar_jet import ScalarJet, symbolic_jet
from theory.simplify import tidy
from theory.theorem import Theorem
from theory.two_cycles.bifurcation import NoFlip, flip_values
from theory.two_cycles.harmonic_balance import d


def reduced_map(factory: Callable, jet: ScalarJet | None = None, **settings: Any) -> Theorem:
    """The motion on the centre manifold of the rule made by ``factory`` on a scalar loss, from its held step.

    A+ = -A (1 - rate d - cubic A^2) with d = eta f''/(P k*) - 1; formulas ``rate``, ``cubic`` and ``bend``, the
    coefficient of A^2 in the mean of w (the centre of the oscillation).  Relative errors O(d), O(A^2).
    The edge comes from `theory.edge`; a minimum without gradient at w = 0 is assumed.  Raises as `period_two` does.
    """
    theorem = cached_edge(factory, tuple(sorted(settings.items())))
    gain, _, _ = flip_values(theorem)
    held = held_map(factory, **settings)
    jet = symbolic_jet() if jet is None else jet
    a, c3, c4, *_ = jet.derivatives
    eta = held.parameters.eta
    # f' enters as f'/P: with P f'/P the preconditioner drops out of all that the weight does
    drive = held.inject.applyfunc(lambda e: tidy(e * theorem.loop.preconditioner / eta))
    matrix, n = held.matrix, held.matrix.rows
    first = sp.eye(n)[:, 0].T
    linear = (matrix + drive * gain * first).applyfunc(tidy)  # eta a/P = k* at the edge
    # c3, c4 in units of a/k*, as eta enters through k* alone
    quadratic, third = gain * c3 / a, gain * c4 / a

    def solve(rows: sp.Matrix, right: sp.Matrix) -> sp.Matrix:
        try:
            return rows.LUsolve(right).applyfunc(tidy)
        except (ValueError, ZeroDivisionError) as error:
            raise NoFlip(f"the linear part of {theorem.name} is singular beside its flip") from error

    # unknowns: the vector without its weight component, and one number in its place
    def bordered(border: sp.Matrix) -> sp.Matrix:
        rows = linear + sp.eye(n)
        rows[:, 0] = border
        return rows

    u = sp.Matrix([1, *solve((linear + sp.eye(n))[1:, 1:], -(linear + sp.eye(n))[1:, :1])]) if n > 1 else sp.eye(1)
    h2 = solve(linear - sp.eye(n), -quadratic / 2 * drive)
    force = quadratic * h2[0] + third / 6
    cubic, *h3 = solve(bordered(-u), -force * drive)
    rate, *h = solve(bordered(-u), -gain * drive)
    _require_invariant(
        linear, drive, u, h2, sp.Matrix([0, *h3]), sp.Matrix([0, *h]), (rate, cubic), (gain, force, quadratic)
    )
    return Theorem(
        statement=f"at its flip {theorem.name} moves as A+ = -A (1 - rate d - cubic A^2), d = eta f''/(P k*) - 1",
        assumptions=("a scalar weight; the slow state is held", *jet.assumptions),
        source=f"invariance of the centre manifold of the held step of {theorem.source}; loss: {jet.source}",
        expressions={"rate": tidy(rate), "cubic": tidy(cubic), "bend": tidy(h2[0])},
        arguments={**jet.arguments, **theorem.symbols, "d": d},
    )


def _require_invariant(
    linear: sp.Matrix,
    drive: sp.Matrix,
    u: sp.Matrix,
    h2: sp.Matrix,
    h3: sp.Matrix,
    h: sp.Matrix,
    motion: tuple[sp.Expr, sp.Expr],
    forces: tuple[sp.Expr, sp.Expr, sp.Expr],
) -> None:
    """Put the curve back into the map and require that nothing is left at orders A, A^2, A^3 and d A."""
    rate, cubic = motion
    gain, force, quadratic = forces
    left = (
        linear * u + u,
        linear * h2 + quadratic / 2 * drive - h2,
        linear * h3 + force * drive - cubic * u + h3,
        linear * h + gain * drive - rate * u + h,
    )
    if any(tidy(e) != 0 for vector in left for e in vector):
        raise ArithmeticError("a check failed: the centre manifold is not invariant to the order stated")
