"""A rule's step as averaged models need it: on flat weights, with its slow state given."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.rules.errors import NoLinearEdge
from toylab.rules.held import held_step
from toylab.rules.preconditioner import inverse_preconditioner

PyTree = Any


class MeanStep(NamedTuple):
    """One rule on one kind of parameters; vectors are flat (p,) in the order of `ravel_pytree`, `slow` lists the leaves
    of the state that are even in the gradient, as their updated values.
    """

    transform: optax.GradientTransformation
    structure: RuleStructure
    edge: EdgeData
    like: PyTree

    def flat(self, tree: PyTree) -> Array:
        """The leaves of a pytree like the parameters as one vector."""
        return ravel_pytree(tree)[0]

    def tree(self, vector: Array) -> PyTree:
        """The vector as a pytree like the parameters."""
        return ravel_pytree(self.like)[1](vector)

    def updated(self, gradient: Array, state: PyTree, weights: Array) -> list[Array]:
        """The slow leaves as the rule's own step with this gradient leaves them."""
        after = self.transform.update(self.tree(gradient), state, self.tree(weights))[1]
        return self.slow(after)

    def slow(self, state: PyTree) -> list[Array]:
        """The slow leaves of a state."""
        leaves = jax.tree.leaves(state)
        return [leaves[i] for i in self.structure.roles.slow]

    def with_slow(self, state: PyTree, slow: list[Array]) -> PyTree:
        """The state with its slow leaves replaced."""
        leaves, tree = jax.tree.flatten(state)
        for i, leaf in zip(self.structure.roles.slow, slow, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(tree, leaves)

    def step(self, gradient: Array, state: PyTree, weights: Array, slow: list[Array]) -> tuple[Array, PyTree]:
        """The rule's own step, cut at the updated slow leaves, which are `slow`: displacement and new state."""
        held = held_step(self.transform, self.structure.roles)
        update, after = held(self.tree(gradient), state, self.tree(weights), slow)
        return self.flat(update), after

    def inverse(self, gradient: Array, state: PyTree, weights: Array, slow: list[Array]) -> Array:
        """The diagonal of P^-1 at these slow leaves; 0 where it is not a positive number (dead coordinates)."""
        read = inverse_preconditioner(self.transform, self.structure.roles, self.edge.impulse, self.structure.delay)
        diagonal = self.flat(read(self.tree(gradient), state, self.tree(weights), slow)).astype(weights.dtype)
        positive = jnp.isfinite(diagonal) & (diagonal > 0)
        return jnp.where(positive, diagonal, 0)

    def edge_like(self, vector: Array) -> Any:
        """The rule's numbers, a `EdgeData` of arrays in the precision of `vector`."""
        return EdgeData(*(jnp.asarray(number, vector.dtype) for number in self.edge))

    def drive(self, gradient: Array, weights: Array, preconditioner: Array) -> Array:
        """eta Q(1) (g + coupled w) + decay P w: the mean force, which P^-1 turns into the displacement of one step at
        rest, with the opposite sign."""
        edge = self.edge_like(weights)
        return edge.gain * (gradient + edge.coupled * weights) + edge.decay * preconditioner * weights


def averaged_rule(
    transform: optax.GradientTransformation, params: PyTree, known: tuple[RuleStructure, EdgeData] | None, name: str
) -> MeanStep:
    """The rule as a model of its average needs it; `name` is the model's.

    Raises NoLinearEdge for a rule without an edge, and for one whose oscillation there is not of period two around a
    mean that follows the mean gradient: a crossing by a complex pair, a memory that never fades.
    """
    structure, numbers = edge_data(transform, params) if known is None else known
    if structure.no_average_because:
        raise NoLinearEdge(
            f"{name} does not cover this rule: {structure.no_average_because}", "see toylab derive for its edge"
        )
    return MeanStep(transform, structure, numbers, params)


def plain_learning_rate(
    transform: optax.GradientTransformation, params: PyTree, known: tuple[RuleStructure, EdgeData] | None, name: str
) -> Any:
    """The learning rate of plain gradient descent; `name` is the model's.

    Raises ValueError for every other rule, weight decay included; NaN for a weight decay that is not known yet, under a
    trace.
    """
    structure, numbers = edge_data(transform, params) if known is None else known
    memory = structure.roles.slow or structure.roles.fast or structure.delay
    decays = numbers.coupled, numbers.decay
    if not memory and any(isinstance(decay, Tracer) for decay in decays):
        return jnp.where((jnp.asarray(decays[0]) == 0) & (jnp.asarray(decays[1]) == 0), numbers.impulse, jnp.nan)
    if memory or np.any(np.asarray(decays)):
        raise ValueError(
            f"{name}: got a rule with memory, a preconditioner or weight decay, needs plain gradient descent: "
            "try central_map, central_flow or rod_flow"
        )
    return numbers.impulse
