"""Self-stabilization of any rule, from its own code: `stabilization` (leading order, lags and drift).

What the rule's filter contributes at a crossing z* of k(z) = (1 - z)/Q(z): kappa = Re 1/(z* k'(z*)) is how fast the
oscillation responds to the sharpness, Q(1) how fast the average moves; k''(-1) and Q'(1) are their lags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from theory.edges.filter_numbers import KAPPA, LAMBDA, FilterNumbers, K, filter_values, numbers_of
from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import z
from theory.edges.unit_circle import value
from theory.errors import NoLinearEdge
from theory.losses.plane_jet import ALPHA, BETA
from theory.self_stabilization.multiple_scales import cubic_motion
from theory.self_stabilization.multiple_scales import eta as _ETA
from theory.simplify import readable, tidy
from theory.theorem import Theorem


@dataclass(frozen=True)
class Stabilization(Theorem):
    """The theorem on a rule's self-stabilization: see `stabilization`; formulas are None where they do not exist.

    Example:
        >>> import optax, theory
        >>> law = theory.stabilization(optax.sgd, momentum=0.9)
        >>> print(law.kappa, "and", law.lag)
        1/(1 - beta1) and (beta1 + 1)/(1 - beta1)**2
        >>> round(law.at(learning_rate=0.1, momentum=0.5).lag, 6)
        6.0
    """

    name: str
    edge: Edge
    critical: sp.Expr | None
    kappa: sp.Expr | None
    gain: sp.Expr
    lag: sp.Expr | None
    frequency: sp.Expr | None
    drift: sp.Expr | None
    damping_curvature: sp.Expr | None

    def at(self, **numbers: float) -> FilterNumbers:
        """The numbers at these hyperparameters (those left out keep their reference value); as `Edge.at` refuses."""
        edge = self.edge.at(**numbers)
        values = {k: v for k, v in self.edge.parameters.numbers(**numbers).items() if str(k) != "omega"}
        q = _filter(self.edge).xreplace({k: sp.Float(v, 30) for k, v in values.items()})
        rate = self.edge.parameters.learning_rate
        eta = 1.0 if rate is None else float(values[self.edge.symbols[rate]])
        return numbers_of(q, eta, edge.threshold * eta, None if edge.crossing == "flip" else edge.angle)


def stabilization(factory: Callable, **settings: Any) -> Stabilization:
    """Derive how the rule made by ``factory`` stabilises itself at its edge; arguments as for `theory.edge`.

    On the cubic model the averaged motion is log|x|' = kappa eta y, y' = Q(1) eta (alpha - beta <x^2>/2): a centre for
    every rule, with

    frequency          eta sqrt(2 alpha kappa Q(1)) per step
    drift              c in dE/dn = c <y^2>, E = kappa y^2/2 + Q(1) (beta A^2/4 - alpha log A), in the pure cubic model
    lag                Lambda in drift = 2 alpha eta^2 kappa^2 Lambda; orbits spiral outwards where it is positive
    damping_curvature  the curvature along grad S_perp above which orbits are damped, 2 alpha eta kappa Lambda/Q(1)

    y is the excess of lambda_max(P^-1 H) over k*/eta, P held, in coordinates P^(1/2) w.  The drift and what follows
    from it exist for flips only.  Weight decay is left out (decoupled decay acts as a curvature
    omega/Q(1), beside moving k* and the point of rest).
    Source: derived here (`theory.self_stabilization.multiple_scales`); for gradient descent Damian et al. 2209.15594,
    Berthier 2026. Raises what `theory.edge` raises, and `NoLinearEdge` where Q(1) is zero, negative or infinite: then
    the average does not follow the mean gradient.

    Example:
        >>> import optax, theory
        >>> print(theory.stabilization(optax.sgd).frequency)
        sqrt(2)*eta*sqrt(sharpening_rate)
    """
    return stabilization_of(cached_edge(factory, tuple(settings.items())))


@lru_cache(maxsize=256)
def cached_stabilization(factory: Callable, settings: tuple[tuple[str, Any], ...] = ()) -> Stabilization:
    """`stabilization`, kept: for claims and figures that ask for the same theorem many times."""
    return stabilization(factory, **dict(settings))


def _filter(theorem: Edge) -> sp.Expr:
    ratio = value(theorem.loop.numerator, z) / value(theorem.loop.denominator, z)
    return ratio.xreplace({w: sp.Integer(0) for w in ratio.free_symbols if w.name == "omega"})


def stabilization_of(theorem: Edge) -> Stabilization:
    """`stabilization` of a rule whose edge is derived already."""
    parameters = theorem.parameters
    q = _filter(theorem)
    gain = tidy(q.xreplace({z: sp.Integer(1)}))
    sign = sp.N(gain.xreplace(parameters.numbers())) if gain.is_finite is not False else sp.nan
    if not (sign.is_finite and sign.is_positive):
        raise NoLinearEdge(
            f"the averaged steps of {theorem.name} do not follow the mean gradient: Q(1) = {gain}",
            "self-stabilization by averaging needs 0 < Q(1) < oo",
        )
    named = {"critical": None, "kappa": None, "lag": None, "frequency": None, "drift": None, "damping_curvature": None}
    results: dict[str, sp.Expr | None] = dict(named)
    if theorem.crossing == "flip":
        numbers = filter_values(q)
        critical, kappa, lag = numbers[K], numbers[KAPPA], numbers[LAMBDA]
        eta = parameters.eta
        results = {
            "critical": critical,
            "kappa": kappa,
            "lag": lag,
            "frequency": eta * sp.sqrt(2 * ALPHA * tidy(kappa * gain)),
            "drift": tidy(cubic_motion().drift.xreplace(numbers).xreplace({_ETA: eta})),
            "damping_curvature": tidy(2 * ALPHA * eta * kappa * lag / gain),
        }
    results = {name: readable(e, parameters) if e is not None else None for name, e in results.items()}
    return Stabilization(
        statement=f"{theorem.name} at its edge circles a state of <x^2> = 2 alpha/beta: a centre at leading order",
        assumptions=(
            "one eigenvalue at the edge; eta sqrt(alpha) small; P held",
            "weight decay left out",
            *theorem.assumptions,
        ),
        source=theorem.source,
        expressions={name: e for name, e in {**results, "gain": gain}.items() if e is not None},
        arguments={**theorem.symbols, "sharpening_rate": ALPHA, "grad_sharpness_sq": BETA},
        name=theorem.name,
        edge=theorem,
        gain=readable(gain, parameters),
        critical=results["critical"],
        kappa=results["kappa"],
        lag=results["lag"],
        frequency=results["frequency"],
        drift=results["drift"],
        damping_curvature=results["damping_curvature"],
    )


def stabilizations(rules: Mapping[str, Callable]) -> list[tuple[str, Stabilization | NoLinearEdge]]:
    """(name, `stabilization` of the rule, or the refusal that it raised) for each rule."""
    rows: list[tuple[str, Stabilization | NoLinearEdge]] = []
    for name, factory in rules.items():
        try:
            rows.append((name, cached_stabilization(factory)))
        except NoLinearEdge as refusal:
            rows.append((name, refusal))
    return rows
