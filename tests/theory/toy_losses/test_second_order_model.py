"""The second-order model: its closed map against steps, its gap against the law of settling."""

import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import theory
from theory.self_stabilization.minima_curves import LOCAL, curve_of_minima
from theory.self_stabilization.settling import settling_law
from theory.toy_losses.second_order_model import model, second_order_settling
from toylab import problems
from toylab.optimizers import NAMED


@pytest.fixture(scope="module")
def gd():
    return settling_law(theory.cached_edge(NAMED["gd"]))


@pytest.mark.slow
def test_two_derivations_of_the_second_order_model_agree(gd):
    """The gap from the closed map in (f, R) equals the far gap of the general law at the model's own minima."""
    found = second_order_settling()
    first, second, epsilon = sp.Rational(6, 5), sp.Integer(2900), sp.Rational(1, 10**7)
    goal = (first**2 - epsilon * second**2) / 2
    numbers = float(epsilon), float(goal)
    valley = curve_of_minima(lambda w: 0.5 * jnp.square(model(w, *numbers)), (first, second))
    rate = 2 / float(valley.expressions["sharpness"])
    local = {name: float(valley.expressions[name]) for name in LOCAL}
    gap = float(gd.numeric("far_gap")(learning_rate=rate, **local)) / float(epsilon)
    # the first is the limit, the second has epsilon = 1e-7
    np.testing.assert_allclose(gap, found.numeric("gap")(learning_rate=rate, target=float(goal)), rtol=1e-5)


@given(st.floats(0.001, 0.2), st.floats(0.05, 0.5), st.floats(-0.3, 0.3), st.floats(0.5, 3.0))
def test_the_closed_map_is_a_step_of_the_model(epsilon, target, residual, scale):
    found = second_order_settling()
    problem = problems.second_order_model(epsilon, target)
    kernel = 2 * target + scale
    rising = (kernel - 2 * target) / (1 + epsilon)
    weights = jnp.sqrt(jnp.asarray([2 * (residual + target) + rising + 1e-300, rising / epsilon]))
    if not np.isfinite(np.asarray(weights)).all():
        return
    after = weights - 0.5 * problem.gradient(weights)
    values = {"learning_rate": 0.5, "epsilon": epsilon, "target": target, "residual": residual, "kernel": kernel}
    f = model(after, epsilon, target)
    big = after[0] ** 2 + epsilon**2 * after[1] ** 2 - 2 * f
    # roundings of sums of terms of the size of the kernel
    np.testing.assert_allclose(found.numeric("next_residual")(**values), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found.numeric("next_kernel")(**values), big, rtol=1e-11)
