"""The held step on one eigendirection, as matrices, by differentiation: pure JAX, for all hyperparameters at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.rules.held import held_step
from toylab.rules.parities import Roles

PyTree = Any


class StateSpace(NamedTuple):
    """The held step on one eigendirection, as arrays (leading axes allowed: everything vmaps).

    matrix  (n+1, n+1)  one step of (w, fast state) without gradient (weight decay included)
    inject  (n+1,)      what a unit gradient adds to it
    coupled ()          coupled weight decay, taken out of ``matrix``: H is replaced by H + coupled I
    power   ()          P ~ slow^power for large slow leaves (1/2 for second moments, 1 for running maxima)
    The values are those for P = 1 and eps = 0.
    """

    matrix: Any
    inject: Any
    coupled: Any
    power: Any


SCALES = (2.0**96, 2.0**100)
"""Values at which slow leaves are held: eps is lost beside them, their powers are exact, float32 holds them."""


def state_space(transform: optax.GradientTransformation, roles: Roles, state: PyTree) -> StateSpace:
    """Matrices of the held step for a scalar weight, by differentiation; pure JAX, so it vmaps over hyperparameters.

    ``state`` is the state for a weight of shape () from `limit_state`.  Assumes linearity (checked by `held_filter`).
    """
    step, size = eigendirection_step(transform, roles, state)

    def jacobian(scale: float) -> jax.Array:
        return jax.jacfwd(lambda x: step(x, scale))(jnp.zeros(size, jnp.result_type(float)))

    low, high = (jacobian(scale) for scale in SCALES)
    coupled = coupled_decay(low, high, bool(roles.slow))
    matrix = high[:, :-1].at[:, 0].add(-coupled * high[:, -1])
    if not roles.slow:
        return StateSpace(matrix, high[:, -1], coupled, jnp.zeros((), high.dtype))
    # P ~ slow^power, read off how the gradient reaches the weight; half-integers cover roots, maxima and ratios
    ratio = jnp.abs(first_impulse(low) / first_impulse(high))
    power = jnp.round(2 * jnp.log2(ratio) / np.log2(SCALES[1] / SCALES[0])) / 2
    # Put P = 1: the loop gain is what P divides, wherever the rule applies it, so undo it on the gradient.
    return StateSpace(matrix, high[:, -1] * SCALES[1] ** power, coupled, power)


def coupled_decay(low: jax.Array, high: jax.Array, adaptive: bool) -> jax.Array:
    """Coupled decay: the weight enters as the gradient does, times a constant that the slow state does not change.

    Without fast state, coupled and decoupled decay only differ in whether P divides the decay.
    """

    def ratio(jacobian: jax.Array) -> tuple[jax.Array | float, jax.Array]:
        if jacobian.shape[0] == 1:
            column, drive = jacobian[:, 0] - 1, jacobian[:, -1]
        else:
            column, drive = jacobian[1:, 0], jacobian[1:, -1]
        driven = drive != 0
        ratios = jnp.where(driven, column / jnp.where(driven, drive, 1.0), jnp.nan)
        value = jnp.nanmean(ratios) if ratios.size else jnp.nan
        close = jnp.all(jnp.where(driven, jnp.abs(ratios - value) <= 1e-5 * jnp.abs(value), column == 0))
        return value, close

    if low.shape[0] == 1 and not adaptive:
        return jnp.zeros((), low.dtype)
    (first, one), (second, other) = ratio(low), ratio(high)
    same = one & other & (jnp.abs(first - second) <= 1e-5 * jnp.abs(second))  # eps beside 2^96 leaves no trace
    return jnp.where(same, second, 0.0).astype(low.dtype)


def eigendirection_step(transform: optax.GradientTransformation, roles: Roles, state: PyTree) -> tuple[Callable, int]:
    """``step(x, scale)``: x = (w, fast..., g) -> (w, fast...), slow leaves held at ``scale``; and the length of x."""
    held = held_step(transform, roles)
    leaves, tree = jax.tree.flatten(state)
    ends = np.cumsum([1, *(leaves[i].size for i in roles.fast)])

    def step(x: jax.Array, scale: float) -> jax.Array:
        given = list(leaves)
        for i, part in zip(roles.fast, jnp.split(x[:-1], ends[:-1])[1:], strict=True):
            given[i] = part.reshape(leaves[i].shape).astype(leaves[i].dtype)
        slow = [jnp.full(leaves[i].shape, scale, leaves[i].dtype) for i in roles.slow]
        for i, value in zip(roles.slow, slow, strict=True):
            given[i] = value
        update, new = held(x[-1], jax.tree.unflatten(tree, given), x[0], slow)
        new_leaves = jax.tree.leaves(new)
        return jnp.concatenate([(x[0] + update)[None], *(new_leaves[i].ravel() for i in roles.fast)])

    return step, int(ends[-1]) + 1


def first_impulse(jacobian: jax.Array) -> jax.Array:
    """First nonzero impulse coefficient from gradient to weight, pure JAX."""
    carry, out = jacobian[:, -1], jacobian[0, -1]
    for _ in range(jacobian.shape[0]):
        carry = jacobian[:, :-1] @ carry.at[0].set(0.0)
        out = jnp.where(out == 0, carry[0], out)
    return out
