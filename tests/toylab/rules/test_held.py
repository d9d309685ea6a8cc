"""Held, a rule is linear in gradient and fast state, and cut off from what the gradient does to the slow state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toylab.rules.held import held_step
from toylab.rules.parities import roles

WEIGHTS = jnp.zeros(3)
RULES = {
    "adam": optax.adam(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "rmsprop with momentum": optax.rmsprop(0.1, momentum=0.5),
}


SECOND_MOMENT = 0.25
"""The value at which the slow leaves are held."""


@functools.cache
def held(name):
    """(gradient (3,), fast state, slow values or None) -> update and fast state; compiled once."""
    transform = RULES[name]
    parts = roles(transform, WEIGHTS)
    step = held_step(transform, parts)
    leaves, tree = jax.tree.flatten(transform.init(WEIGHTS))
    values = [jnp.full(leaves[i].shape, SECOND_MOMENT) for i in parts.slow]

    def run(gradient, fast, slow):
        state = list(leaves)
        for i, leaf in zip(parts.fast, fast, strict=True):
            state[i] = leaf
        for i, leaf in zip(parts.slow, values, strict=True):
            state[i] = leaf
        update, after = step(gradient, jax.tree.unflatten(tree, state), WEIGHTS, slow)
        return update, [jax.tree.leaves(after)[i] for i in parts.fast]

    return jax.jit(run), parts, values


def drawn(rng, count):
    return jnp.asarray(rng.normal(size=3)), [jnp.asarray(rng.normal(size=3)) for _ in range(count)]


def superposed(run, slow, first, second, a, b):
    """The step on a first + b second, and a times the one on the first plus b times the one on the second."""
    together = jax.tree.map(lambda x, y: a * x + b * y, first, second)
    apart = jax.tree.map(lambda x, y: a * x + b * y, run(*first, slow), run(*second, slow))
    return jax.tree.leaves(run(*together, slow)), jax.tree.leaves(apart)


@pytest.mark.parametrize("name", RULES)
def test_what_held_steps_do_adds_up(name):
    run, parts, values = held(name)
    rng = np.random.default_rng(3)
    first, second = drawn(rng, len(parts.fast)), drawn(rng, len(parts.fast))
    for got, expected in zip(*superposed(run, values, first, second, 2.0, -0.7), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)  # a dozen roundings of numbers of order one


@pytest.mark.parametrize("name", ["adam", "rmsprop with momentum"])
def test_the_whole_step_does_not_add_up(name):
    """Held at the values that this very step computes, the step is the rule's own, and that is not linear."""
    run, parts, _ = held(name)
    rng = np.random.default_rng(3)
    first, second = drawn(rng, len(parts.fast)), drawn(rng, len(parts.fast))
    got, expected = superposed(run, None, first, second, 2.0, -0.7)
    assert max(float(jnp.max(jnp.abs(a - b) / jnp.abs(b))) for a, b in zip(got, expected, strict=True)) > 1e-3


def test_adam_held_at_a_second_moment_divides_by_its_root():
    nu, eta, b1, b2, eps = SECOND_MOMENT, 0.1, 0.9, 0.999, 1e-8
    run, _, values = held("adam")
    gradient, momentum = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.1, -1.0])
    update, (after,) = run(gradient, [momentum], values)
    moved = b1 * momentum + (1 - b1) * gradient
    np.testing.assert_allclose(after, moved, rtol=1e-14)  # the same products and sum, perhaps in another order
    # at the first step: both moments are divided by their corrections, 1 - b2 to one part in 10^13 only
    np.testing.assert_allclose(update, -eta * moved / (1 - b1) / (np.sqrt(nu / (1 - b2)) + eps), rtol=1e-12)


def test_slow_state_is_cut_off_from_the_derivative():
    """d update/d gradient of adam's step, held at its own values: constant P, though P follows the gradient."""
    run, _, _ = held("adam")
    gradient, momentum = jnp.array([1.0, -2.0, 0.5]), jnp.zeros(3)
    slope = jax.jvp(lambda g: run(g, [momentum], None)[0], (gradient,), (gradient,))[1]
    np.testing.assert_allclose(slope, run(gradient, [momentum], None)[0], rtol=1e-13)  # homogeneous of degree one
    transform, state = RULES["adam"], RULES["adam"].init(WEIGHTS)
    whole = jax.jvp(jax.jit(lambda g: transform.update(g, state, WEIGHTS)[0]), (gradient,), (gradient,))[1]
    assert float(jnp.max(jnp.abs(whole))) < 1e-6  # the first step of adam itself is a sign: it does not see |g|
