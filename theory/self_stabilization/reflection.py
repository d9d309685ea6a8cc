"""Where a start above the edge comes to rest: the other branch of Lambert's W, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def settled(scaled: Array) -> Array:
    """Y_f from Y_0, elementwise, in JAX: the other root of Y - log(1 + Y) = Y_0 - log(1 + Y_0).

    With v = log(1 + Y) the invariant is h(v) = e^v - 1 - v, convex with its minimum at 0: the other root has the other
    sign, and Newton's method started outside of it converges monotonically.  Y_f = 0 for Y_0 = 0; nan for Y_0 <= -1,
    from where nothing settles nearby.
    """
    start = jnp.log1p(scaled)
    level = _height(start)
    outside = jnp.where(start > 0, -level - jnp.minimum(1.0, jnp.sqrt(2 * level) + level), jnp.sqrt(2 * level))

    def newton(_: int, v: Array) -> Array:
        slope = jnp.expm1(v)
        return v - jnp.where(slope == 0, 0.0, (_height(v) - level) / jnp.where(slope == 0, 1.0, slope))

    return jnp.expm1(jax.lax.fori_loop(0, 60, newton, outside))


def _height(v: Array) -> Array:
    """e^v - 1 - v without cancellation."""
    series = jnp.zeros_like(v)
    for n in range(14, 1, -1):
        series = (1.0 + series) * v / n
    return jnp.where(jnp.abs(v) < 0.3, series * v, jnp.expm1(v) - v)
