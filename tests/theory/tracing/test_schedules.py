"""State that evolves by itself: what settles and what repeats itself for ever."""

import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import theory

LEARNING_RATE = 0.1


def every_third(learning_rate):
    return optax.chain(optax.sgd(learning_rate), optax.apply_every(3))


def every_other(learning_rate):
    halve = optax.conditionally_transform(optax.scale(0.5), lambda step: step % 2 == 0)
    return optax.chain(optax.sgd(learning_rate), halve)


def gathered(learning_rate):
    return optax.MultiSteps(optax.sgd(learning_rate), 3).gradient_transformation()


def sine(learning_rate):
    return optax.chain(optax.scale_by_schedule(lambda n: 1 + 0.5 * jnp.sin(n)), optax.sgd(learning_rate))


PERIODIC = {
    every_third: "every 3 steps .count",
    gathered: "every 3 steps .mini_step",
    every_other: "repeats itself .* modulo 2",
    sine: "goes on oscillating",
}


@pytest.mark.parametrize("factory", PERIODIC)
def test_a_rule_that_never_settles_is_refused_as_such(factory):
    with pytest.raises(theory.NoLinearEdge, match=PERIODIC[factory]) as refusal:
        theory.edge(factory)
    assert "\n" not in refusal.value.reason + refusal.value.hint


def test_stairs_that_end_are_no_period():
    """A step number divided by whole numbers is taken modulo them by JAX, and all the same it settles."""

    def rule(learning_rate):
        stairs = optax.exponential_decay(1.0, 10, 0.5, staircase=True, end_value=0.1)
        steps = optax.scale_by_schedule(lambda n: jnp.where(n // 30 > 2, 0.5, 1.0))
        return optax.chain(optax.scale_by_schedule(stairs), steps, optax.sgd(learning_rate))

    assert theory.edge(rule).at(learning_rate=LEARNING_RATE).threshold == pytest.approx(2 / (0.05 * LEARNING_RATE))
