"""What a rule feels of a Hessian: the decay that it adds to it, and the preconditioner that its own step shows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from toylab.rules import filter as filters
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any


def with_coupled_decay(hvp: Callable[[PyTree], PyTree], coupled: ArrayLike) -> Callable[[PyTree], PyTree]:
    """v -> (H + coupled I) v on pytrees, from `hvp` v -> H v: coupled weight decay is curvature to the rule."""

    def product(vector: PyTree) -> PyTree:
        return jax.tree.map(lambda h, v: h + jnp.asarray(coupled, v.dtype) * v, hvp(vector), vector)

    return product


def read_inverse_preconditioner(
    transform: optax.GradientTransformation,
    structure: RuleStructure,
    edge: EdgeData,
    gradient: PyTree,
    state: PyTree,
    params: PyTree,
) -> PyTree:
    """The diagonal of P^-1 in the step that the rule takes from `params` and `state` with this `gradient`, a pytree
    like the parameters; not finite where a coordinate is dead. See `toylab.filters.inverse_preconditioner`.
    """
    return filters.inverse_preconditioner(transform, structure.roles, edge.impulse, structure.delay)(
        gradient, state, params
    )
