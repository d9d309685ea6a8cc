"""A frozen rule is the rule itself up to the step where it is frozen, and a filter under a constant P after it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toylab import filters
from toylab.optimizers import NAMED
from toylab.rules.frozen_rules import frozen

PARAMS = {"w": jnp.array([[0.3, -1.2], [2.0, 0.5]]), "b": jnp.array([0.1, -0.7])}
CURVATURE = {"w": jnp.array([[1.0, 3.0], [0.2, 5.0]]), "b": jnp.array([2.0, 0.5])}


def gradient(params):
    return jax.tree.map(jnp.multiply, CURVATURE, params)


def walked(transform, steps):
    """Parameters after every step, and the last state."""

    def step(carry, _):
        params, state = carry
        update, state = transform.update(gradient(params), state, params)
        params = optax.apply_updates(params, update)
        return (params, state), params

    return jax.jit(lambda: jax.lax.scan(step, (PARAMS, transform.init(PARAMS)), None, length=steps))()


@functools.cache
def roles(rule):
    return filters.roles(NAMED[rule](0.01), jnp.zeros(()))


def freezing(rule, at):
    return frozen(NAMED[rule](0.01), roles(rule), at)


@pytest.mark.parametrize("rule", ["amsgrad", "heavy_ball"])
def test_until_then_it_is_the_rule_itself(rule):
    (_, own) = walked(NAMED[rule](0.01), 12)
    (_, later) = walked(freezing(rule, 9), 12)
    # the same program but for the cut: a few roundings of numbers of order one
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:9], b[:9], rtol=0, atol=1e-14), later, own)


def test_adam_goes_on_with_the_second_moments_of_that_step():
    b1, b2, eta, eps, at = 0.9, 0.999, 0.01, 1e-8, 5
    w, h = np.asarray(PARAMS["w"], float), np.asarray(CURVATURE["w"], float)
    m = nu = np.zeros_like(w)
    for t in range(1, 13):
        g = h * w
        m, nu = b1 * m + (1 - b1) * g, b2 * nu + (1 - b2) * g**2 if t <= at else nu
        w = w - eta * (m / (1 - b1**t)) / (np.sqrt(nu / (1 - b2**t)) + eps)
    (last, _), _ = walked(freezing("adam", at), 12)
    # rounding of twelve steps of order 0.01 each
    np.testing.assert_allclose(last["w"], w, rtol=0, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["adam", "rmsprop", "nadam"])
def test_the_edge_is_that_of_the_rule(rule):
    own = filters.held_filter(NAMED[rule](0.01)).threshold
    # two runs of one computation, which may differ by rounding
    assert filters.held_filter(freezing(rule, 100)).threshold == pytest.approx(own, rel=1e-12)


def test_the_step_of_freezing_is_data():
    both = jax.vmap(lambda at: walked(freezing("adam", at), 8)[1]["w"])(jnp.array([3.0, jnp.inf]))
    # frozen second moments no longer follow the gradient: what is equal up to there parts after it
    assert np.array_equal(both[0, :3], both[1, :3]) and not np.allclose(both[0, 4:], both[1, 4:], rtol=0, atol=1e-6)
