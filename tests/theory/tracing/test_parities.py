"""Parities of the state that a run from rest does not show."""

import math

import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import theory
from toylab import filters

LEARNING_RATE = 0.1


def opposite_start(learning_rate):
    """A momentum that starts at 1, and a second moment that starts from it."""

    def init(params):
        return jnp.ones_like(params), jnp.ones_like(params)

    def update(g, state, params=None):
        m = 0.9 * state[0] + g
        nu = 0.9 * state[1] + 0.1 * m**2
        return -learning_rate * m / (jnp.sqrt(nu) + 1e-8), (m, nu)

    return optax.GradientTransformation(init, update)


def asleep(learning_rate):
    """A leaf at zero that only a large gradient wakes up: odd, for the step adds it to the gradient."""

    def update(g, s, params=None):
        return -learning_rate * (g + 0.5 * s), jnp.where(jnp.abs(g) > 1e3, g, 0.5 * s)

    return optax.GradientTransformation(jnp.zeros_like, update)


def long_queue(learning_rate):
    return optax.GradientTransformation(
        lambda p: [0 * p for _ in range(7)], lambda g, s, p=None: (-learning_rate * s[0], [*s[1:], g])
    )


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (opposite_start, 38.0),  # heavy ball: 2 (1 + b)/eta
        (asleep, 20.0),  # the sleeper does not hear small gradients
        (long_queue, 2 * math.sin(math.pi / 30) / LEARNING_RATE),  # z^7 (z - 1) + k = 0 on the circle
    ],
)
def test_parities_that_a_run_from_rest_does_not_show(factory, expected):
    assert theory.edge(factory).at(learning_rate=LEARNING_RATE).threshold == pytest.approx(expected)
    assert filters.held_filter(factory(LEARNING_RATE)).threshold == pytest.approx(expected)
