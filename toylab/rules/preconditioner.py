"""What a rule does to a Hessian: the decay that it adds to it, and the preconditioner that its own step shows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from toylab.rules.edge import EdgeData, RuleStructure
from toylab.rules.held import held_step
from toylab.rules.parities import Roles

PyTree = Any


def inverse_preconditioner(
    transform: optax.GradientTransformation, parts: Roles, impulse: Any, delay: int = 0
) -> Callable:
    """``P^-1`` on any problem, read off the rule's own step.

    Returns ``diagonal(grads, state, params, slow=None) -> pytree like params``: the derivative of the step with respect
    to the gradient, with the updated slow leaves held where this very step puts them, or at ``slow`` (see `held_step`),
    divided by minus the first nonzero impulse coefficient of eta Q (``Filter.impulse``, ``delay`` steps late).
    ``parts`` are the `roles` for these params.  Not finite where a coordinate is dead.  Can be jitted and vmapped, also
    over ``impulse`` and over the hyperparameters inside ``transform``.  Assumes an elementwise rule (checked by
    `held_filter`); costs one step of the rule and its derivative.
    """
    step = held_step(transform, parts)

    def diagonal(grads: PyTree, state: PyTree, params: PyTree, slow: list | None = None) -> PyTree:
        def respond(g: PyTree) -> PyTree:
            update, new = step(g, state, params, slow)
            for _ in range(delay):
                leaves = jax.tree.leaves(new)
                slow_leaves = [jax.lax.stop_gradient(leaves[i]) for i in parts.slow] if slow is None else slow
                update, new = step(jax.tree.map(jnp.zeros_like, g), new, params, slow_leaves)
            return update

        slope = jax.jvp(respond, (grads,), (jax.tree.map(jnp.ones_like, grads),))[1]
        return jax.tree.map(lambda s: -s / impulse, slope)

    return diagonal


def read_inverse_preconditioner(
    transform: optax.GradientTransformation,
    structure: RuleStructure,
    edge: EdgeData,
    gradient: PyTree,
    state: PyTree,
    params: PyTree,
) -> PyTree:
    """The diagonal of P^-1 in the step that the rule takes from `params` and `state` with this `gradient`, a pytree
    like the parameters; not finite where a coordinate is dead. See `inverse_preconditioner`.
    """
    return inverse_preconditioner(transform, structure.roles, edge.impulse, structure.delay)(gradient, state, params)


def with_coupled_decay(hvp: Callable[[PyTree], PyTree], coupled: ArrayLike) -> Callable[[PyTree], PyTree]:
    """v -> (H + coupled I) v on pytrees, from `hvp` v -> H v: coupled weight decay is curvature to the rule."""

    def product(vector: PyTree) -> PyTree:
        return jax.tree.map(lambda h, v: h + jnp.asarray(coupled, v.dtype) * v, hvp(vector), vector)

    return product
