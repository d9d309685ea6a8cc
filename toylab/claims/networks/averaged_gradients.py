"""The gradient of a network averaged over an oscillation along its top eigenvector: what stabilizes it."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array

from theory.losses.mean_gradient import averaged_gradient
from theory.losses.taylor import x
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order
from toylab.experiments.averaged_gradients import Place, reached, remainders, turning_amplitudes, value

SOURCE = "theory.losses.mean_gradient; Cohen et al. 2022 (arXiv:2207.14484), Damian et al. (arXiv:2209.15594)"


def _draw(random: np.random.Generator, tier: str) -> Place:
    """Weights from training at which the sharpness is rising along -grad L."""
    count = {"quick": 3, "default": 8, "long": 64}[tier]
    kept: list[list[np.ndarray]] = []
    while len(kept) < count:
        places = reached(jax.vmap(jax.random.key)(jnp.asarray(random.integers(0, 2**31, 8))))
        rising = np.asarray(jnp.sum(places.gradient * places.sharpness_gradient, axis=1)) < 0
        kept += [[np.asarray(field[i]) for field in places] for i in np.flatnonzero(rising)]
    return Place(*(jnp.stack(fields) for fields in zip(*kept[:count], strict=True)))


@cache
def _next_power() -> int:
    """The lowest power of x beyond the second in the derived mean of the gradient."""
    theorem = averaged_gradient()
    series = [sp.Poly(e, x) for name, e in theorem.expressions.items() if name.startswith("mean")]
    return min(power for polynomial in series for (power,) in polynomial.monoms() if power > 2)


ORDER = Claim(
    id="networks/averaged_gradient",
    tier="quick",
    statement="on a network the mean of the gradient over w +- x u is grad L + (x^2/2) grad S up to a term of the "
    "derived order, x^4",
    source=SOURCE,
    comparison=order(
        0.01, "x from 0.02 to 0.16 against weights of order one: the next term, x^6, bends the slope by 1e-3"
    ),
    draw=_draw,
    predicted=lambda at: np.full(len(at.weights), float(_next_power())),
    errors=remainders,
)


@jax.jit
def _jets(at: Place) -> tuple[Array, Array, Array]:
    """grad L . v, d^3 L[u, u, v] and d^5 L[u, u, u, u, v] along v = grad S/|grad S|, each (members,)."""

    def one(place: Place) -> tuple[Array, Array, Array]:
        v = place.sharpness_gradient / jnp.linalg.norm(place.sharpness_gradient)

        def along(s: Array) -> Array:
            return jax.jvp(value, (place.weights + s * place.top,), (v,))[1]

        second = jax.jacfwd(jax.jacfwd(along))
        zero = jnp.zeros(())
        return along(zero), second(zero), jax.jacfwd(jax.jacfwd(second))(zero)

    return jax.vmap(one)(at)


def _predicted_turn(at: Place) -> np.ndarray:
    """The first positive zero of the derived mean of the gradient along grad S, with its term in x^4."""
    mean = averaged_gradient().expressions["mean_gradient_1"]
    coefficients = [sp.Poly(mean, x).coeff_monomial(x**power) for power in (4, 2, 0)]
    names = ("L_41", "L_21", "L_01")
    turns = []
    for first, third, fifth in zip(*(np.asarray(jet) for jet in _jets(at)), strict=True):
        values = dict(zip(map(sp.Symbol, names), (fifth, third, first), strict=True))
        numbers = [float(c.subs({s: values[sp.Symbol(s.name)] for s in c.free_symbols})) for c in coefficients]
        squares = [root.real for root in np.roots(numbers) if abs(root.imag) < 1e-12 and root.real > 0]
        turns.append(np.sqrt(min(squares)))
    return np.array(turns)


TURN = Claim(
    id="networks/averaged_gradient_turns",
    tier="default",
    statement="where the sharpness is rising, descent along the averaged gradient lowers it from that x on at which "
    "the derived grad L + (x^2/2) grad S, with the next term of the same derivation, is orthogonal to grad S",
    source=SOURCE,
    comparison=equality(
        1e-6, "the term after the next, x^6: relative to the first it is x^4 = 1e-5 times a small number"
    ),
    draw=_draw,
    predicted=_predicted_turn,
    measure=turning_amplitudes,
)


CLAIMS = [ORDER, TURN]
