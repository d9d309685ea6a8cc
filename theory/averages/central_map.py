"""The central map of any rule: its own step, with the oscillation at the edge averaged out (`central_map_law`).

Write x_n = mean_n + (-1)^n a_n.  The held step is linear in the weights' motion and its fast state, so the mean takes
*the rule's own step* on the mean gradient, with its own fast state: nothing is to be integrated.  Along a critical
direction k = k* and the polynomial z - 1 + k* Q(z) has the root -1, which is the oscillation itself.  The rest of the
motion follows the minimum of the mean force, x_min, through

    G(z) = k* b(z)/((z + 1) r(z)),      z - 1 + k* Q(z) = (z + 1) r(z)/(denominator of Q),   b its numerator.

A map that stepped through G would keep its own undamped root at -1.  With that root moved to 0, (z + 1) -> 2z, the map
is stable and still exact for a minimum that stands; for gradient descent this is the Newton step 1/lambda.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from theory.averages.any_rule import leaf_steps, own, require_central
from theory.averages.gradient_descent import oscillation_share, variance
from theory.averages.rmsprop import penalty
from theory.averages.slow_state import G, SlowState, averaged_slow_state, held_matrix, q
from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import z
from theory.errors import NoLinearEdge
from theory.simplify import readable, tidy
from theory.theorem import Theorem


@dataclass(frozen=True)
class CentralMap(Theorem):
    """The theorem on a rule's central map; see `central_map_law`.

    rest        r(z): the modes of the critical direction beside the oscillation, all inside the unit circle
    response    G(z), from the minimum of the mean force to the rule's mean (with its pole at -1)
    map_response   the same with the pole at 0
    gain        G(1): 1, or what decoupled weight decay leaves of it
    lag         the rule's mean stands at G(1) x_min - lag (x_min moved in one step)
    map_lag     of the map's critical coordinate;  lag_error = map_lag - lag
    """

    name: str
    edge: Edge
    rest: sp.Expr
    response: sp.Expr
    map_response: sp.Expr
    gain: sp.Expr
    lag: sp.Expr
    map_lag: sp.Expr
    lag_error: sp.Expr
    state: SlowState


def central_map_law(factory: Callable, **settings: Any) -> CentralMap:
    """Derive the central map of the rule made by ``factory``; arguments as for `theory.edge`.

    **Expressions.**  Off the critical subspace, one weight: `w_next` and `FAST_next` for every fast leaf, the held step
    on the mean gradient: grad L (`gradient`) and half of grad <H, Sigma> (`penalty`); `LEAF_next` for every slow leaf,
    in this mean gradient as a whole (`mean_gradient`) and `gradient_variance` = diag(H Sigma H).  The slow leaves step
    first, then P is formed of them.  With coupled decay L stands for the loss plus its penalty on the weights.
    Along a critical direction: the fields of `CentralMap`, and `newton_lag_error` = 1 - lag, that of the plain
    Newton step mean+ = x_min.

    Order: for a minimum that moves by v per step the map errs by lag_error v; `lag_error` = G(1)/2 for every rule, and
    it is no error at all when the mean of the map's positions at n and n + 1 is compared with the rule's mean at n,
    since the second-order midpoint of the rule is (z + 1)^2 G/(4 z) = (z + 1)/2 times the map's response, exactly.

    The rule's own lag is 1/(k* Q(1)) steps (without decay), 1/2 for gradient descent.
    Source: derived here.  Raises what `theory.averages.any_rule.central_flow_law` raises.

    Example:
        >>> import optax, theory
        >>> print(theory.central_map_law(optax.sgd).map_response)  # a Newton step: the minimum itself, one step later
        1/z
        >>> print(theory.central_map_law(optax.sgd, momentum=0.9).lag)
        (1 - beta1)/(2*(beta1 + 1))
    """
    return cached_central_map(factory, tuple(settings.items()))


@lru_cache(maxsize=64)
def cached_central_map(factory: Callable, settings: tuple[tuple[str, Any], ...] = ()) -> CentralMap:
    """`central_map_law`, kept."""
    theorem = cached_edge(factory, settings)
    require_central(theorem)
    state = averaged_slow_state(factory, theorem, **dict(settings))
    parameters = theorem.parameters
    numerator, rest = _without_oscillation(theorem)
    response, map_response = numerator / ((z + 1) * rest), numerator / (2 * z * rest)
    gain, lag = _at_rest(numerator, (z + 1) * rest)
    kept, map_lag = _at_rest(numerator, 2 * z * rest)
    if tidy(kept - gain) != 0:
        raise ArithmeticError("moving the root changed where the mean stands")
    error = tidy(map_lag - lag)
    numbers = {
        "rest": rest,
        "response": response,
        "map_response": map_response,
        "gain": gain,
        "lag": lag,
        "map_lag": map_lag,
        "lag_error": error,
        "newton_lag_error": tidy(gain - lag),
    }
    numbers = {name: readable(e, parameters) if z not in e.free_symbols else e for name, e in numbers.items()}
    return CentralMap(
        statement=f"the mean of {theorem.name} takes its own step on grad L + grad <H, Sigma>/2; along a critical "
        f"direction it follows the minimum of the mean force with a lag of {sp.sstr(numbers['lag'])} steps",
        assumptions=(
            "the oscillation has period two and its amplitude changes little in a step",
            "P is that of the averaged slow state; terms of order |Sigma|^2 are left out",
            "the modes of r(z) have died out",
            *state.notes,
            *theorem.assumptions,
        ),
        source=theorem.source,
        expressions={**numbers, **_own_step(theorem), **leaf_steps(state)},
        arguments={
            **theorem.symbols,
            **{str(leaf): leaf for leaf in (*theorem.slow, *theorem.step_map)},
            "gradient": own,
            "mean_gradient": G,
            "penalty": penalty,
            "gradient_variance": q,
            "z": z,
        },
        name=theorem.name,
        edge=theorem,
        rest=rest,
        response=response,
        map_response=map_response,
        gain=numbers["gain"],
        lag=numbers["lag"],
        map_lag=numbers["map_lag"],
        lag_error=numbers["lag_error"],
        state=state,
    )


def _without_oscillation(theorem: Edge) -> tuple[sp.Expr, sp.Expr]:
    """k* b(z), and r(z) = (a(z) + k* b(z))/(z + 1) by Horner's rule, at the edge."""
    critical = tidy(theorem.threshold * theorem.parameters.eta)
    drive = [tidy(critical * b) for b in theorem.loop.b]
    carry, quotient = sp.Integer(0), []
    for a, b in zip(theorem.loop.a, drive, strict=True):
        carry = tidy(a + b - carry)
        quotient.append(carry)
    if quotient.pop() != 0:
        raise NoLinearEdge(f"{theorem.name} has no root at z = -1 at its threshold")
    return sp.Add(*(b * z**n for n, b in enumerate(reversed(drive)))), sp.Add(
        *(c * z**n for n, c in enumerate(reversed(quotient)))
    )


def _at_rest(numerator: sp.Expr, denominator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Value and minus the slope at z = 1 of numerator/denominator."""
    one = {z: sp.Integer(1)}
    above, below = (tidy(e.xreplace(one)) for e in (numerator, denominator))
    slopes = [tidy(sp.diff(e, z).xreplace(one)) for e in (numerator, denominator)]
    return tidy(above / below), tidy((above * slopes[1] - slopes[0] * below) / below**2)


def _own_step(theorem: Edge) -> dict[str, sp.Expr]:
    matrix, inject = held_matrix(theorem)
    matrix[:, 0] -= theorem.loop.coupled * inject
    names = list(theorem.step_map)
    mean = own + oscillation_share() / variance * penalty
    return {
        f"{leaf}_next": sp.Add(*(matrix[i, j] * other for j, other in enumerate(names)), inject[i] * mean)
        for i, leaf in enumerate(names)
    }
