"""The central flow of any rule, from its own code: `central_flow_law`.

A rule with filter Q and preconditioner P stays at the edge H <= k* M, M = P/eta (`theory.edge`).  Its averaged motion
is w' = -Q(1) M^-1 [grad L + grad <H, Sigma>/2]; P moves as the rule's own second moments do
(`theory.averages.slow_state`). Sigma is what keeps the edge.  Time: one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from theory.averages.gradient_descent import gradient_sq, oscillation_share, sharpening, slope_sq, variance
from theory.averages.rmsprop import penalty, share_of_weight
from theory.averages.slow_state import G, SlowState, averaged_slow_state, by_terms, q
from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import z
from theory.errors import NoLinearEdge
from theory.simplify import readable, tidy
from theory.theorem import Theorem

still, moved = sp.symbols("m0 m1", real=True)
"""u^T M' u = m0 + m1 V: how the preconditioner moves along u, without and per unit of the oscillation's variance."""
mass = sp.Symbol("m", positive=True)
"""u^T M u."""
pull = sp.Symbol("dw", real=True)
"""<w, grad (u^T H u)>: decoupled weight decay lowers the critical curvature by this much per unit of decay."""
weight = sp.Symbol("wbar", real=True)
own = sp.Symbol("dL", real=True)
"""One weight's entry of grad L at the centre; with half the penalty it is the mean gradient."""


@dataclass(frozen=True)
class CentralFlow(Theorem):
    """The theorem on a rule's central flow; see `central_flow_law`.

    critical   k*, the edge of lambda(M^-1 H), M = P/eta
    speed      Q(1), the gain of the averaged motion;   decay: of a weight in a step, eta omega (0 if there is none)
    delay      -Q'(1)/Q(1), the steps by which the averaged motion lags behind the mean gradient
    variance   V in Sigma = V u u^T, one eigenvalue at the edge
    state      how the slow leaves move
    """

    name: str
    edge: Edge
    critical: sp.Expr
    speed: sp.Expr
    decay: sp.Expr
    delay: sp.Expr
    variance: sp.Expr
    state: SlowState


def central_flow_law(factory: Callable, **settings: Any) -> CentralFlow:
    """Derive the central flow of the rule made by ``factory``; arguments as for `theory.edge`.

    One weight: `w_rate` in its entries of grad L (`gradient`) and of grad <H, Sigma> (`penalty`), the `weight` itself
    and the slow leaves under their own names; in its mean gradient, gradient + penalty/2 (`mean_gradient`), and
    diag(H Sigma H) (`gradient_variance`) `LEAF_rate` for every slow leaf that has one, and `preconditioner_rate` = P';
    `gradient_variance_at_edge` = (k* P/eta)^2 Sigma_ii (`share`), since H u = k* M u; `rest_gradient`, the grad L at
    which the weight rests below the edge.  With coupled decay L stands for the loss plus its penalty on the weights.

    One eigenvalue, H u = k* M u, Sigma = V u u^T (u may have any length), d = grad (u^T H u) at fixed u:
    `variance` in `sharpening` = <-grad L, d> and `slope_sq` = |d|^2 in the metric M^-1, `still` + `moved` V = u^T M' u
    and, with decoupled decay, `pull` = <w, d>; `mean_loss_excess` = <H, Sigma>/2 = k* V `mass`/2, mass = u^T M u;
    `loss_rate` at any V (no decay), which is -|w'|_M^2/Q(1) - k* V (u^T M' u)/2 where the edge is kept: the loss falls
    for sure where P is constant or grows along u, but may rise where P shrinks.

    Several eigenvalues, with generalised eigenvectors U: the rate of k* M - H on U is A + B[X], Sigma = U X U^T, X >= 0
    and A + B[X] >= 0 complementary, the same formulas entry by entry; <H, Sigma> = k* tr(M Sigma).

    Source: derived here; for gradient descent and RMSProp Cohen, Damian et al. 2410.24206.
    Raises what `theory.edge` raises, and `NoLinearEdge` for a crossing that is not a flip, where averages do not follow
    the mean gradient (Q(1) not positive and finite, a structural root, decay inside the filter).

    Example:
        >>> import optax, theory
        >>> law = theory.central_flow_law(optax.sgd)
        >>> print(law.critical, law.speed, law.variance)
        2 1 2*gS/SS
    """
    return cached_central_flow(factory, tuple(settings.items()))


@lru_cache(maxsize=64)
def cached_central_flow(factory: Callable, settings: tuple[tuple[str, Any], ...] = ()) -> CentralFlow:
    """`central_flow_law`, kept."""
    theorem = cached_edge(factory, settings)
    require_central(theorem)
    state = averaged_slow_state(factory, theorem, **dict(settings))
    parameters = theorem.parameters
    eta, speed, decay = parameters.eta, theorem.gain_dc, tidy(theorem.loop.decay * parameters.eta)
    critical = readable(tidy(theorem.threshold * eta), parameters)
    share = oscillation_share()
    preconditioner = theorem.preconditioner
    p_rate = _preconditioner_rate(theorem, state)
    constant = not (preconditioner.free_symbols & set(theorem.slow))
    held, loss_rate = _balance(critical, speed, decay, constant)
    w_rate = -speed * eta / preconditioner * (own + share / variance * penalty) - decay * weight
    expressions: dict[str, sp.Expr | None] = {
        "critical": critical,
        "speed": speed,
        "delay": _delay(theorem),
        "w_rate": w_rate,
        "preconditioner_rate": p_rate,
        "gradient_variance_at_edge": (critical * preconditioner / eta) ** 2 * share_of_weight,
        "rest_gradient": sp.solve(w_rate.subs(penalty, 0), own)[0],
        "variance": held,
        "mean_loss_excess": critical * variance * mass / 2,
        "loss_rate": loss_rate,
        **{f"{leaf}_rate": rate for leaf, rate in state.rate.items()},
    }
    return CentralFlow(
        statement=f"{theorem.name} moves by w' = -Q(1) M^-1 [grad L + grad <H, Sigma>/2] at H <= k* M, k* = "
        f"{sp.sstr(critical)}, Q(1) = {sp.sstr(speed)}",
        assumptions=(*_assumptions(state, constant), *state.notes, *theorem.assumptions),
        source=theorem.source,
        expressions={name: e for name, e in expressions.items() if e is not None},
        arguments={
            **theorem.symbols,
            **{str(leaf): leaf for leaf in theorem.slow},
            "gradient": own,
            "mean_gradient": G,
            "gradient_variance": q,
            "penalty": penalty,
            "weight": weight,
            "share": share_of_weight,
            "sharpening": sharpening,
            "slope_sq": slope_sq,
            "gradient_sq": gradient_sq,
            "still": still,
            "moved": moved,
            "mass": mass,
            "pull": pull,
            "variance": variance,
        },
        name=theorem.name,
        edge=theorem,
        critical=critical,
        speed=speed,
        decay=decay,
        delay=_delay(theorem),
        variance=held,
        state=state,
    )


def require_central(theorem: Edge) -> None:
    """Raise `NoLinearEdge` where the average of the rule's motion is not that of a central flow."""
    if theorem.crossing != "flip" or theorem.threshold is None:
        raise NoLinearEdge(
            f"{theorem.name} does not cross its edge by a flip alone ({theorem.crossing})",
            "central flows are derived for an oscillation of period two",
        )
    if theorem.loop.structural:
        raise NoLinearEdge(f"{theorem.name} has a structural root: its average has a memory that never fades")
    if any("passes through the filter" in note for note in theorem.loop.notes):
        raise NoLinearEdge(
            f"the weight decay of {theorem.name} passes through its filter",
            "wrap the factory so that it has no weight decay",
        )
    gain = sp.N(theorem.gain_dc.xreplace(theorem.parameters.numbers()))
    if not (gain.is_finite and gain.is_positive):
        raise NoLinearEdge(
            f"the averaged steps of {theorem.name} do not follow the mean gradient: Q(1) = {theorem.gain_dc}"
        )


def _delay(theorem: Edge) -> sp.Expr:
    ratio, one = theorem.filter, {z: sp.Integer(1)}
    return readable(tidy(-sp.diff(ratio, z).xreplace(one) / ratio.xreplace(one)), theorem.parameters)


def _preconditioner_rate(theorem: Edge, state: SlowState) -> sp.Expr | None:
    """P' by the chain rule; None where a leaf of P has no averaged rate."""
    leaves = [leaf for leaf in theorem.slow if leaf in theorem.preconditioner.free_symbols]
    if any(leaf not in state.rate for leaf in leaves):
        return None
    return sp.Add(*(sp.diff(theorem.preconditioner, leaf) * state.rate[leaf] for leaf in leaves))


def _balance(critical: sp.Expr, speed: sp.Expr, decay: sp.Expr, constant: bool) -> tuple[sp.Expr, sp.Expr]:
    """V from d . w' = k* u^T M' u, and dL/dt, with w' = M^-1 (-Q(1) (grad L + (V/2) d)) - decay w."""
    share, p_motion = oscillation_share(), sp.Integer(0) if constant else still + moved * variance
    curvature_rate = -speed * (-sharpening + share * slope_sq) - decay * pull
    (held,) = sp.solve(sp.expand(curvature_rate - critical * p_motion), variance)
    loss_rate = -speed * (gradient_sq - share * sharpening)
    speed_sq = speed**2 * (gradient_sq - 2 * share * sharpening + share**2 * slope_sq)
    if decay == 0 and sp.expand(loss_rate + speed_sq / speed + share * curvature_rate) != 0:
        raise ArithmeticError("dL/dt is not -|w'|_M^2/Q(1) - (V/2) d . w'")
    return sp.collect(sp.numer(held), (sharpening, still, pull)) / sp.collect(sp.denom(held), moved), loss_rate


def _assumptions(state: SlowState, constant: bool) -> tuple[str, ...]:
    sentences = [
        "the critical eigenvalues cross at z = -1 and stay at the edge; V >= 0, else the edge is left",
        "the averaged motion is slow against the filter's memory: fails for a momentum b when the angular frequency at "
        "the edge, eta sqrt(2 alpha kappa Q(1)) per step, is not small against (1 - b); then only time means are meant",
        "terms of order |Sigma|^2 (fourth derivatives of L) are left out",
    ]
    if not constant:
        sentences.append(
            "the second moments average many periods of the oscillation: fails for small beta2 (sign descent at 0)"
        )
    if state.shared:
        sentences.append(f"{', '.join(map(str, state.shared))} is shared by weights: sum G^2 and q over them")
    return tuple(sentences)


def leaf_steps(state: SlowState) -> Mapping[str, sp.Expr]:
    """`LEAF_next` for every slow leaf whose averaged step is known."""
    return {f"{leaf}_next": by_terms(after, leaf) for leaf, after in state.after.items()}
