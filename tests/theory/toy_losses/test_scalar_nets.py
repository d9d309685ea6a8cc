"""Scalar networks: the derived contraction against steps of descent, and when it lowers the flow sharpness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.toy_losses.scalar_nets import scalar_net
from toylab import problems
from toylab.problems.scalar_nets import flow_sharpness

sharpness = jax.jit(flow_sharpness)
gradient = jax.jit(jax.grad(problems.scalar_chain().value))


@given(st.lists(st.floats(0.3, 2.0), min_size=3, max_size=3), st.floats(0.01, 0.5))
def test_a_step_multiplies_imbalances_by_the_factor(weights, eta):
    w = np.array(weights)
    after = w - eta * np.asarray(gradient(jnp.asarray(w)))
    factor = float(scalar_net(3).numeric("factor")(learning_rate=eta, w1=w[0], w2=w[1], w3=w[2]))
    size = (after**2).max() + (w**2).max()
    # a difference of squares: some roundings of the squares themselves, and of a factor that may be large
    np.testing.assert_allclose(
        after[0] ** 2 - after[1] ** 2, factor * (w[0] ** 2 - w[1] ** 2), atol=1e-13 * size * (1 + abs(factor))
    )


@given(st.lists(st.floats(0.3, 2.0), min_size=3, max_size=3), st.floats(0.05, 1.0))
def test_steps_that_keep_the_order_lower_the_flow_sharpness(weights, share):
    """The proved part: all factors in [0, 1]."""
    w = np.array(weights)
    product, least = w.prod(), np.sort(w)[:2].prod()
    eta = share * least / max(abs(product - 1) * product, 1e-6)
    after = w - eta * np.asarray(gradient(jnp.asarray(w)))
    if after.prod() > 0:
        # the root is known to rounding
        assert sharpness(jnp.asarray(after)) <= sharpness(jnp.asarray(w)) * (1 + 1e-13)


@given(st.floats(0.3, 3.0), st.floats(0.3, 0.9))
def test_flow_sharpness_of_two_weights(first, product):
    w = np.array([first, product / first])
    expected = scalar_net(2).numeric("flow_sharpness")(imbalance=w[0] ** 2 - w[1] ** 2)
    np.testing.assert_allclose(jax.jit(flow_sharpness)(jnp.asarray(w)), expected, rtol=1e-12)  # a few roundings


@pytest.mark.parametrize("depth", [2, 4])
def test_near_balance_only_the_squared_deviations_count(depth):
    deviations = np.linspace(-1, 1, depth) * 1e-3
    squares = 1 + deviations - deviations.mean()
    measured = jax.jit(flow_sharpness)(jnp.asarray(np.sqrt(squares)))
    expected = depth + float(scalar_net(depth).expressions["near_balance"]) * (deviations**2).sum()
    np.testing.assert_allclose(measured, expected, atol=2e-9)  # third order in 1e-3, summed


def test_a_single_weight_has_no_imbalance():
    with pytest.raises(ValueError, match="at least two"):
        scalar_net(1)
