"""The flip bifurcation of a rule: the orbit of period 2 at its edge, for any rule that crosses it by a flip.

`period_two` joins the rule's numbers k*, k(1), k'(-1), k''(-1), k'(1) (`theory.edges.filter_numbers`), the laws of the
orbit (`theory.two_cycles.normal_form`) and the polynomial of its multipliers (`theory.two_cycles.multipliers`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from theory.edges.filter_numbers import at_flip, at_one, envelope_growth, loop_inverse
from theory.edges.linear_stability import Edge, cached_edge
from theory.errors import Refusal
from theory.losses.scalar_jet import ScalarJet, symbolic_jet
from theory.simplify import tidy
from theory.theorem import Theorem, as_jax
from theory.two_cycles.harmonic_balance import d
from theory.two_cycles.multipliers import Z, k_minus, k_plus, two_step_polynomials
from theory.two_cycles.normal_form import BEND, GROWTH, SIGMA, SLOPE, laws_of


class NoFlip(Refusal):
    """The rule does not lose stability by a flip, so no orbit of period 2 is born at its edge."""

    hint = "only rules whose critical multiplier is z = -1 have one; see the crossing in `toylab derive`"


@dataclass(frozen=True)
class PeriodTwo(Theorem):
    """The orbit of period 2 that a rule has near its edge on a scalar loss; d = eta f''/(P k*) - 1.

    kind          "supercritical" (a stable orbit just above the edge), "subcritical" (an unstable one just below,
                  which bounds the basin of the minimum), or "depends" on the sign of ``criterion``
    jet           the derivatives of the loss, symbols or read off its code
    polynomial    coefficients in Z, highest first, of which the multipliers of two steps are the roots, for gains
                  k_plus, k_minus = eta P^-1 f'' at the two points; exact at any amplitude
    spectators    multipliers of two steps of the modes that the gradient does not reach

    Formulas: ``critical_gain`` k*; ``drag`` rho = k(1)/k* (0 without decay); ``criterion`` (> 0: supercritical);
    ``amplitude_sq`` and ``centre`` of the orbit to O(d^3), their coefficients ``amplitude_sq_1``, ...;
    ``growth`` and ``landau`` of the amplitude equation A_{n+1} - A_n = growth d A - landau A^3 (unit: one step),
    to relative O(d); ``multiplier`` of two steps along it to O(d^3).
    """

    name: str
    kind: str
    jet: ScalarJet
    polynomial: tuple[sp.Expr, ...]
    spectators: tuple[sp.Expr, ...]

    def polynomial_at(self, **numbers: Any) -> np.ndarray:
        """Coefficients (..., n + 1) in Z of the multipliers' polynomial, the spectators' included, highest first.

        ``numbers``: k_plus, k_minus and the hyperparameters, numbers or arrays of one shape.
        """
        shape = np.broadcast_shapes(*(np.shape(v) for v in numbers.values()))
        rows = [
            np.stack([np.broadcast_to(as_jax(c, self.arguments)(**numbers), shape) for c in row], axis=-1)
            for row in (self.polynomial, self.spectators)
        ]
        own, others = (row.reshape(-1, row.shape[-1]) for row in rows)
        product = np.stack([np.polymul(x, y) for x, y in zip(own, others, strict=True)])
        return product.reshape(*shape, product.shape[-1])

    def multipliers(self, **numbers: float) -> np.ndarray:
        """The multipliers of two steps, complex, the spectators' included, at these gains and hyperparameters."""
        return np.roots(self.polynomial_at(**numbers))


def period_two(factory: Callable, jet: ScalarJet | None = None, **settings: Any) -> PeriodTwo:
    """The theorem on the orbit of period 2 of the rule made by ``factory`` (see `theory.edge`) on a scalar loss.

    ``jet``: of the loss, by default symbolic; `theory.losses.scalar_jet.loss_jet` reads it off a loss's code.
    Held slow state, a scalar weight.  Raises `NoFlip` for rules that cross as a complex pair or not at all, and
    whatever `theory.edge` raises.

    Example:
        >>> import optax, theory
        >>> law = theory.period_two(optax.sgd)
        >>> print(law.kind, law.expressions["criterion"])
        depends -a*c4 + 3*c3**2
    """
    theorem = cached_edge(factory, tuple(sorted(settings.items())))
    gain, drag, numbers = flip_values(theorem)
    jet = symbolic_jet() if jet is None else jet
    formulas: dict[str, Any] = laws_of(jet, numbers)
    polynomial, spectators = two_step_polynomials(theorem.loop)
    formulas |= {"critical_gain": gain, "drag": drag}
    for name, order in (("amplitude_sq", 2), ("centre", 2), ("multiplier", 2)):
        formulas[name] = sum(
            (formulas[f"{name}_{j}"] * d**j for j in range(1, order + 1)), sp.Integer(name == "multiplier")
        )
    formulas["multiplier_polynomial"] = sp.Add(*(c * Z**i for i, c in enumerate(reversed(polynomial))))
    criterion = formulas["criterion"]
    kind = "supercritical" if criterion.is_positive else "subcritical" if criterion.is_negative else "depends"
    where = {"depends": f"exists above the edge, stable, where {sp.sstr(criterion)} > 0; below it, unstable, where < 0"}
    where |= {"supercritical": "is born above the edge, stable", "subcritical": "dies below the edge, unstable"}
    return PeriodTwo(
        statement=f"with {theorem.name} a small orbit of period 2 {where[kind]}; its amplitude^2 is "
        f"({sp.sstr(formulas['amplitude_sq_1'])}) d + O(d^2), d = eta f''/(P k*) - 1",
        assumptions=(
            "a scalar weight; P is held" if theorem.slow else "a scalar weight",
            *jet.assumptions,
            *theorem.assumptions[1:],
            *((f"a flip comes first: {sp.sstr(theorem.conditions[0])} > 0",) if theorem.crossing == "depends" else ()),
        ),
        source=f"harmonic balance with k(z) from {theorem.source}; loss: {jet.source}",
        expressions=formulas,
        arguments={**jet.arguments, **theorem.symbols, "d": d, "Z": Z, "k_plus": k_plus, "k_minus": k_minus},
        name=theorem.name,
        kind=kind,
        jet=jet,
        polynomial=polynomial,
        spectators=spectators,
    )


def flip_values(edge: Edge) -> tuple[sp.Expr, sp.Expr, dict[sp.Symbol, sp.Expr]]:
    """k*, the drag rho = k(1)/k*, and the values that the laws need of k(z)/k*; `NoFlip` if no root leaves at -1."""
    if edge.crossing == "neimark_sacker":
        raise NoFlip(f"{edge.name} leaves the edge as a complex pair: its small orbits are no 2-cycles")
    k = loop_inverse(edge.loop)
    critical = at_flip(k)
    if critical in (0, sp.zoo, sp.oo, sp.nan) or edge.threshold == sp.oo:
        raise NoFlip(f"{edge.name} never loses stability by a flip")
    drag = tidy(at_one(k) / critical)
    values = {
        SIGMA: tidy(1 / (1 - drag)),
        GROWTH: tidy(critical * envelope_growth(k)),
        BEND: tidy(at_flip(k, 2) / critical),
        SLOPE: tidy(at_one(k, 1) / critical),
    }
    return critical, drag, values
