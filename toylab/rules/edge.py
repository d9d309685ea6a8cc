"""What a rule's edge ratio is measured against: prepared on the host before a run, passed into it as data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from toylab.rules.errors import NoLinearEdge
from toylab.rules.filter import Filter, analyse, held_filter
from toylab.rules.limits import limit_state
from toylab.rules.matrices import StateSpace, state_space
from toylab.rules.parities import Roles, roles

PyTree = Any


class RuleStructure(NamedTuple):
    """The discrete part, which runs that share a compiled program have in common: hashable, static under jit.

    `unaveraged`: why the rule's oscillation at its edge is not one of period two around a mean that follows the mean
    gradient, as all central models assume; empty where it is.
    """

    roles: Roles
    delay: int
    unaveraged: str = ""


class EdgeData(NamedTuple):
    """The numbers: `threshold` of lambda_max(P^-1 (H + coupled I)), the first nonzero `impulse` coefficient of eta Q,
    the `coupled` weight decay, the `gain` eta Q(1) and what the rule takes off a unit weight by itself in one step, the
    `decay` eta omega; both decays are 0 for most rules.
    """

    threshold: ArrayLike
    impulse: ArrayLike
    coupled: ArrayLike
    gain: ArrayLike = jnp.nan
    decay: ArrayLike = 0.0


def numbers(found: Filter) -> EdgeData:
    """The edge of an analysed rule."""
    return EdgeData(found.threshold, found.impulse, found.coupled, found.gain_dc, found.decay)


def edge_data(transform: optax.GradientTransformation, params: PyTree) -> tuple[RuleStructure, EdgeData]:
    """RuleStructure and numbers of one built rule on parameters like `params`. Raises NoLinearEdge with the reason."""
    found = held_filter(transform)
    return RuleStructure(leaf_roles(transform, params), found.delay, _unaveraged(found)), numbers(found)


def _unaveraged(found: Filter) -> str:
    if found.crossing == "neimark_sacker":
        return f"it crosses its edge as a complex pair, at the angle {found.angle:.3g}, not by a flip"
    if found.structural:
        return "a mode of its own memory never fades"
    if not (np.isfinite(found.gain_dc) and found.gain_dc > 0):
        return f"its averaged steps do not follow the mean gradient: eta Q(1) = {found.gain_dc:.3g}"
    return ""


def edge_data_of_runs(
    factory: Callable[..., optax.GradientTransformation], members: dict[str, np.ndarray], params: PyTree
) -> tuple[RuleStructure, EdgeData]:
    """As `edge` for many members at once: `members` maps hyperparameters to arrays (m,), and so are the
    numbers.

    The held step is differentiated for all members in one program; only the roots are found one by one. A
    member without a stable window gets NaN. Raises NoLinearEdge if the first member has none, ValueError if
    delays differ.
    """
    first = factory(**{name: values[0] for name, values in members.items()})
    structure, _ = edge_data(first, params)
    weight = jnp.zeros(())
    parts = roles(first, weight)

    def space(member: dict[str, ArrayLike]) -> StateSpace:
        transform = factory(**member)
        return state_space(transform, parts, limit_state(transform, weight, parts))

    spaces = jax.tree.map(np.asarray, jax.jit(jax.vmap(space))(members))
    rows = []
    for index in range(len(spaces.inject)):
        try:
            found = analyse(jax.tree.map(lambda leaf, index=index: leaf[index], spaces))
        except NoLinearEdge:
            rows.append((np.nan,) * len(EdgeData._fields))
            continue
        if found.delay != structure.delay:
            raise ValueError(
                f"sweep: the gradient acts after {structure.delay} steps in one member and after {found.delay} in "
                "another: sweep them apart"
            )
        rows.append(numbers(found))
    return structure, EdgeData(*np.array(rows).T)


def leaf_roles(transform: optax.GradientTransformation, params: PyTree) -> Roles:
    """Roles of the state leaves for `params`, found on a single weight and copied to every leaf that mirrors
    it.

    The roles of an elementwise rule do not depend on the parameters, and probing them anew costs 2^leaves.
    Where the state is not shaped that way (masks, partitions), they are probed.
    """
    weight = jnp.zeros(())
    found = roles(transform, weight)
    small, full = transform.init(weight), jax.eval_shape(transform.init, params)
    labels = [""] * len(jax.tree.leaves(small))
    for role, indices in found._asdict().items():
        for index in indices:
            labels[index] = role
    try:
        labelled = jax.tree.unflatten(jax.tree.structure(small), labels)
        spread = jax.tree.map(lambda label, part: jax.tree.map(lambda leaf: label, part), labelled, full)
    except ValueError:
        return roles(transform, params)
    flat = jax.tree.leaves(spread)
    return Roles(**{role: tuple(i for i, label in enumerate(flat) if label == role) for role in Roles._fields})
