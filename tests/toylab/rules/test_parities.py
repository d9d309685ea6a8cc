"""Which leaf of a state is what, and that the step with these parities flips along with the gradient's sign."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from toylab.rules.errors import NoLinearEdge
from toylab.rules.parities import Roles, roles, spread_roles

WEIGHT = jnp.zeros(())
RULES = {
    "adam": (optax.adam(0.1), ("count",), ("nu",), ("mu",)),
    "momentum": (optax.sgd(0.1, momentum=0.9), (), (), ("trace",)),
    "adagrad": (optax.adagrad(0.1), (), ("sum_of_squares",), ()),
}


@functools.cache
def found(rule):
    return roles(RULES[rule][0], WEIGHT)


def named(transform, indices):
    paths = jax.tree_util.tree_leaves_with_path(transform.init(WEIGHT))
    return tuple(paths[i][0][-1].name for i in indices)


@pytest.mark.parametrize("rule", RULES)
def test_roles_are_those_of_the_leaves_names(rule):
    transform, *expected = RULES[rule]
    assert [named(transform, indices) for indices in found(rule)] == expected


@pytest.mark.parametrize("rule", RULES)
def test_every_leaf_has_one_role(rule):
    leaves = jax.tree.leaves(RULES[rule][0].init(WEIGHT))
    assert sorted(sum(found(rule), ())) == list(range(len(leaves)))


def flips(transform, parts, gradient):
    """Whether the step from a state in motion flips along with gradient, weights and the fast leaves of `parts`."""
    weights = jnp.array([0.7, -0.4, 1.2])
    step = jax.jit(transform.update)
    state = step(0.3 * weights, transform.init(weights), weights)[1]
    leaves, tree = jax.tree.flatten(state)
    mirrored = [-leaf if i in parts.fast else leaf for i, leaf in enumerate(leaves)]
    update, after = step(gradient, state, weights)
    other, opposite = step(-gradient, jax.tree.unflatten(tree, mirrored), -weights)
    signs = [-1 if i in parts.fast else 1 for i in range(len(leaves))]
    pairs = zip(jax.tree.leaves(after), signs, jax.tree.leaves(opposite), strict=True)
    # a flip of sign commutes with every rounding
    return bool(jnp.array_equal(update, -other)) and all(bool(jnp.array_equal(a, s * b)) for a, s, b in pairs)


@pytest.mark.parametrize("rule", RULES)
def test_the_step_is_equivariant_with_these_roles_and_with_no_others(rule):
    transform, gradient = RULES[rule][0], jnp.array([0.5, -1.5, 0.2])
    parts = found(rule)
    assert flips(transform, parts, gradient)
    swapped = Roles(parts.autonomous, parts.fast, parts.slow)
    assert not flips(transform, swapped, gradient)


def test_roles_of_one_weight_are_spread_to_all_leaves():
    params = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    spread = spread_roles(found("adam"), RULES["adam"][0], RULES["adam"][0].init(params))
    assert spread == Roles(autonomous=(0,), slow=(3, 4), fast=(1, 2))  # count, mu of a and b, nu of a and b


def test_a_rule_that_treats_the_signs_differently_is_refused():
    uphill_faster = optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: jnp.where(g > 0, -0.1, -0.2) * g, updates)
    )
    with pytest.raises(NoLinearEdge, match="not odd in the gradient"):
        roles(uphill_faster, WEIGHT)
    even_handed = optax.stateless(lambda updates, _: jax.tree.map(lambda g: -0.1 * g, updates))
    assert roles(even_handed, WEIGHT) == Roles((), (), ())


def test_a_rule_that_needs_more_than_a_gradient_is_refused():
    def update(updates, state, params=None, *, value):
        return jax.tree.map(lambda g: -value * g, updates), state

    with pytest.raises(NoLinearEdge, match="gradient alone"):
        roles(optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update), WEIGHT)
