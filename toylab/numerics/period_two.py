"""Three consecutive iterates taken apart: what moves smoothly, and what oscillates with period two."""

from typing import Any

import jax

PyTree = Any


def midpoint(before: PyTree, now: PyTree, after: PyTree) -> PyTree:
    """(w_{t-1} + 2 w_t + w_{t+1})/4 of three pytrees: the smooth part of w_t, up to second differences of it."""
    return jax.tree.map(lambda a, b, c: (a + 2 * b + c) / 4, before, now, after)


def oscillation(before: PyTree, now: PyTree, after: PyTree) -> PyTree:
    """(w_{t-1} - 2 w_t + w_{t+1})/4 of three pytrees: minus the part of w_t that changes its sign at every step."""
    return jax.tree.map(lambda a, b, c: (a - 2 * b + c) / 4, before, now, after)
