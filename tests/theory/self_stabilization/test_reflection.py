"""The place of rest against Lambert's W, in both precisions and under derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw

from theory.self_stabilization.reflection import settled

solve = jax.jit(settled)


@given(st.floats(-0.999, 30.0).filter(lambda y: abs(y) > 1e-2))  # W loses its digits, and its branch, nearer to 0
def test_settled_is_lambert(start):
    value = -(1 + start) * np.exp(-1 - start)
    other = -1 - lambertw(value, 0 if start > 0 else -1).real
    # near the branch point W loses half the digits: value is within start^2 of -1/e
    np.testing.assert_allclose(float(solve(jnp.asarray(start))), other, rtol=1e-10, atol=1e-8 / max(abs(start), 1e-3))


@given(st.floats(-0.9999, 12.0))
def test_settling_twice_returns(start):
    there = solve(jnp.asarray(start))
    back = solve(there)
    # for far starts 1 + Y_f = e^-Y_0 (1 + Y_0) is known to 1e-16 absolutely
    np.testing.assert_allclose(float(back), start, rtol=1e-9, atol=1e-15 + 1e-15 * np.exp(max(start, 0)))


def test_limits_of_settled():
    small = np.array([1e-2, 1e-3, -1e-3])
    ends = np.asarray(solve(jnp.asarray([*small, 50.0, 700.0, 0.0, -1.5])))
    np.testing.assert_allclose(ends[:3], -small + 2 / 3 * small**2, atol=0.5e-6)  # y^3 is left
    np.testing.assert_allclose(ends[3:5], -1, rtol=1e-15)
    assert ends[5] == 0
    assert np.isnan(ends[6])


def test_settled_in_single_precision_and_under_derivatives():
    start = jnp.asarray([0.3, 3.0, -0.5], dtype=jnp.float32)
    single = solve(start)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, solve(start.astype(float)), rtol=1e-5)  # a few roundings of 6e-8, divided by v
    slope = jax.jit(jax.grad(settled))(jnp.asarray(2.0))
    ahead, behind = solve(jnp.asarray([2.0 + 1e-5, 2.0 - 1e-5]))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-7)  # central difference of step 1e-5
