"""Three iterates taken apart: a smooth part and an oscillation of period two come out as they went in."""

import jax.numpy as jnp
import numpy as np

from toylab.numerics.period_two import midpoint, oscillation


def iterates(slope, swing, t):
    return {"w": jnp.asarray(1.0 + slope * t + swing * (-1.0) ** t)}


def test_a_line_with_an_oscillation_is_taken_apart():
    for t in (4, 5):
        three = [iterates(0.25, 0.5, s) for s in (t - 1, t, t + 1)]
        assert midpoint(*three)["w"] == 1.0 + 0.25 * t  # binary fractions: no rounding
        assert oscillation(*three)["w"] == -0.5 * (-1.0) ** t


def test_both_parts_add_up_to_half_the_neighbours():
    a, b, c = np.random.default_rng(0).normal(size=(3, 7))
    np.testing.assert_allclose(midpoint(a, b, c) + oscillation(a, b, c), (a + c) / 2, rtol=1e-14)
    np.testing.assert_allclose(midpoint(a, b, c) - oscillation(a, b, c), b, rtol=1e-14)
