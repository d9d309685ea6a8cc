"""An explicit step for stiff equations whose stiff directions decay without turning, as under gradient flow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

PyTree = Any

DAMPING = 2 / 13
"""What is stiff loses at least about a third of this, 5 per cent, in a step, and mostly much more."""

REACH = 2 / 3 * (1 - 2 / 15 * DAMPING)
"""n stages are stable up to h lambda = REACH (n^2 - 1)."""


class Polynomials(NamedTuple):
    """A Chebyshev polynomial at a point, its first and its second derivative."""

    value: Array
    slope: Array
    bend: Array


def most_stages(dtype: Any) -> int:
    """Beyond these the rounding of the recurrences, eps stages^2, is no longer small against the damping."""
    return min(1_000, int((2e-3 / float(jnp.finfo(dtype).eps)) ** 0.5))


def stages_for(rate: Array) -> Array:
    """The least number of stages that is stable up to h lambda = `rate`, at least 2."""
    rate = jnp.maximum(rate, 0)
    return jnp.clip(jnp.ceil(jnp.sqrt(1 + rate / REACH)), 2, most_stages(rate.dtype)).astype(jnp.int32)


def chebyshev_step(
    velocity: Callable[[PyTree], PyTree], point: PyTree, time_step: Array | float, stages: Array
) -> PyTree:
    """One step of the Runge-Kutta-Chebyshev method of order 2 with this many `stages` (at least 2, may be traced).

    Stable for real eigenvalues down to -REACH (stages^2 - 1)/time_step.  What is kept is the distance from the point,
    so that rounding does not grow with the size of the point.
    Source: Sommeijer, Shampine & Verwer 1997 (RKC), equations 2.1 to 2.6.
    """
    slope = velocity(point)
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
    lowest = Polynomials(w0, one, zero), Polynomials(one, zero, zero)
    end, _ = lax.fori_loop(1, stages, lambda _, pair: (polynomials(*pair), pair[0]), lowest)
    w1 = end.slope / end.bend

    def weight(of: Polynomials) -> Array:
        return of.bend / of.slope**2

    second = polynomials(*lowest)
    b2 = weight(second)

    def combined(*parts: tuple[Array, PyTree]) -> PyTree:
        factors, trees = zip(*parts, strict=True)

        def summed(*leaves: Array) -> Array:
            return sum(factor.astype(leaf.dtype) * leaf for factor, leaf in zip(factors, leaves, strict=True))

        return jax.tree.map(summed, *trees)

    nothing = jax.tree.map(jnp.zeros_like, point)
    first = combined((time_step * b2 * w1, slope))

    def stage(_: int, carry: tuple) -> tuple:
        last, before, at, behind, b1, b0 = carry
        ahead = polynomials(at, behind)
        b = weight(ahead)
        mu, nu = 2 * b * w0 / b1, -b / b0
        push = 2 * b * w1 / b1 * time_step
        back = (b1 * at.value - 1) * push
        reached = velocity(jax.tree.map(jnp.add, point, last))
        return combined((mu, last), (nu, before), (push, reached), (back, slope)), last, ahead, at, b, b1

    moved = lax.fori_loop(1, stages, stage, (first, nothing, *lowest, b2, b2))[0]
    return jax.tree.map(jnp.add, point, moved)
