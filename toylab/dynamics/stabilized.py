"""An explicit step for stiff equations whose stiff directions decay without turning, as under gradient flow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

PyTree = Any

DAMPING = 2 / 13
"""What a stiff direction decays by in a substep is about a third of this."""

MOST = 1_000
"""Stages of one substep at most: what a sharpness that runs away cannot exceed."""


class Polynomials(NamedTuple):
    """A Chebyshev polynomial at a point, its first and its second derivative."""

    value: Array
    slope: Array
    bend: Array


def stages_for(rate: Array) -> Array:
    """The least number of stages whose interval of stability reaches to h lambda = `rate`."""
    reach = 2 / 3 * (1 - 2 / 15 * DAMPING)
    return jnp.clip(jnp.ceil(jnp.sqrt(1 + rate / reach)), 2, MOST).astype(jnp.int32)


def chebyshev_step(velocity: Callable[[PyTree], PyTree], point: PyTree, time_step: float, stages: Array) -> PyTree:
    """One step of the Runge-Kutta-Chebyshev method of order 2 with this many `stages` (at least 2, may be traced).

    Stable for real eigenvalues down to about -(2/3)(stages^2 - 1)/time_step.
    Source: Sommeijer, Shampine & Verwer 1997 (RKC), equations 2.1 to 2.6.
    """
    here = velocity(point)
    real = jnp.result_type(*jax.tree.leaves(point))
    w0 = 1 + jnp.asarray(DAMPING, real) / stages**2

    def polynomials(last: Polynomials, before: Polynomials) -> Polynomials:
        """The next Chebyshev polynomial at w0, with its first two derivatives."""
        return Polynomials(
            2 * w0 * last.value - before.value,
            2 * last.value + 2 * w0 * last.slope - before.slope,
            4 * last.slope + 2 * w0 * last.bend - before.bend,
        )

    one, zero = jnp.ones((), real), jnp.zeros((), real)
    begun = Polynomials(w0, one, zero), Polynomials(one, zero, zero)
    end, _ = lax.fori_loop(1, stages, lambda _, pair: (polynomials(*pair), pair[0]), begun)
    w1 = end.slope / end.bend

    def weight(now: Polynomials) -> Array:
        return now.bend / now.slope**2

    second = polynomials(*begun)
    b2 = weight(second)

    def combined(*parts: tuple[Array, PyTree]) -> PyTree:
        factors, trees = zip(*parts, strict=True)

        def summed(*leaves: Array) -> Array:
            return sum(factor.astype(leaf.dtype) * leaf for factor, leaf in zip(factors, leaves, strict=True))

        return jax.tree.map(summed, *trees)

    first = combined((one, point), (time_step * b2 * w1, here))

    def stage(_: int, now: tuple) -> tuple:
        last, before, at, behind, b1, b0 = now
        ahead = polynomials(at, behind)
        b = weight(ahead)
        mu, nu = 2 * b * w0 / b1, -b / b0
        push = 2 * b * w1 / b1 * time_step
        back = (b1 * at.value - 1) * push
        following = combined((1 - mu - nu, point), (mu, last), (nu, before), (push, velocity(last)), (back, here))
        return following, last, ahead, at, b, b1

    return lax.fori_loop(1, stages, stage, (first, point, *begun, b2, b2))[0]
