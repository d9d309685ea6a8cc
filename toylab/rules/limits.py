"""The state of a rule after infinitely many steps: counters beyond every time constant, bias corrections exactly 1."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from toylab.rules.parities import Roles, classify

PyTree = Any

FAR = 1e300
"""The step count 'at its limit': far beyond every time constant, far below overflow (clipped to the dtype's range)."""


def limit_state(
    transform: optax.GradientTransformation, params: PyTree, roles: Roles | None = None, count: int | None = None
) -> PyTree:
    """The state of ``transform`` with its autonomous leaves at their limit, t -> infinity (or after ``count`` steps).

    A counter becomes a float far beyond every time constant, so that bias corrections are exactly 1; a constant
    (such as an injected hyperparameter) stays; a converging sequence is extrapolated; a growing one becomes huge.
    """
    state = transform.init(params)
    parts = classify(transform, state, params) if roles is None else roles
    leaves, tree = jax.tree.flatten(state)
    zeros = jax.tree.map(jnp.zeros_like, params)

    def autonomous(current: list) -> list:
        after = jax.tree.leaves(transform.update(zeros, jax.tree.unflatten(tree, current), params)[1])
        return [after[i] if i in parts.autonomous else leaf for i, leaf in enumerate(current)]

    if count is not None:
        return jax.tree.unflatten(tree, jax.lax.fori_loop(0, count, lambda _, current: autonomous(current), leaves))
    history = [autonomous(leaves)]
    for _ in range(2):
        history.append(autonomous(history[-1]))
    far = min(FAR, float(jnp.finfo(jnp.result_type(float)).max) ** 0.97)
    counters = list(history[-1])
    for i in parts.autonomous:
        first, second, third = (h[i] for h in history)
        dtype = jnp.result_type(first)
        if jnp.issubdtype(dtype, jnp.integer):  # a counter; an integer that stays put is a constant
            moving = third != second
            counters[i] = jnp.where(moving, far, third.astype(jnp.result_type(float)))
        elif jnp.issubdtype(dtype, jnp.floating):
            counters[i] = _extrapolate(first, second, third, far).astype(dtype)
    return jax.tree.unflatten(tree, counters)


def _extrapolate(first: jax.Array, second: jax.Array, third: jax.Array, far: float) -> jax.Array:
    """Limit of a scalar sequence with s_{n+1} = a s_n + b, from three consecutive terms."""
    before, after = second - first, third - second
    still = after == 0
    ratio = jnp.where(still, 0.0, after / jnp.where(before == 0, 1.0, before))
    grows = jnp.abs(ratio) > 1 - 1e-4
    limit = second + after / jnp.where(grows, 1.0, 1 - ratio)
    return jnp.where(still, third, jnp.where(grows, jnp.sign(after) * far, limit))
