"""A rule whose preconditioner stops adapting at a given step: up to there the rule itself, from there on held."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from toylab.rules.held import held_step
from toylab.rules.parities import Roles, spread_roles

PyTree = Any


def frozen(transform: optax.GradientTransformation, roles: Roles, at: ArrayLike) -> optax.GradientTransformation:
    """`transform` for its first `at` steps; from then on the same with its slow state held at the value it has by then.

    What Cohen et al. (arXiv:2207.14484) do to Adam, for any elementwise rule: the leaves of the state that are even in
    the gradient (second moments, running maxima) keep their value, while the fast ones (momentum) and the counters go
    on, so that the rule becomes a linear filter under a constant P. `roles` are those of a single weight,
    `toylab.filters.roles(transform, jnp.zeros(()))`, computed beforehand with plain numbers: here they may be traced.
    `at`, a count of steps, is data (an axis of a sweep, say): infinite, and the rule is never frozen; at 0 most rules
    are left with P = eps. Bias corrections go on counting, so P still drifts by what is left of them.
    State: (steps taken, the rule's own). Raises ValueError where the state is not shaped like that of a single weight.
    """

    def init(params: PyTree) -> tuple[jax.Array, PyTree]:
        return jnp.zeros((), jnp.int32), transform.init(params)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count, before = state
        parts = spread_roles(roles, transform, before)
        adapted = transform.update(updates, before, params)[1]
        both = [[jax.tree.leaves(one)[i] for i in parts.slow] for one in (adapted, before)]
        slow = [jnp.where(count < at, new, old) for new, old in zip(*both, strict=True)]
        step, after = held_step(transform, parts)(updates, before, params, slow)
        return step, (count + 1, after)

    return optax.GradientTransformation(init, update)
