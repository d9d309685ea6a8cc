"""The stabilized step: of second order, and stable exactly as far as its number of stages promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from toylab.numerics.runge_kutta_chebyshev import chebyshev_step, most_stages, stages_for

MATRIX = np.array([[-2.0, 0.7, 0.1], [0.7, -1.0, 0.3], [0.1, 0.3, 0.2]])  # one direction grows
START = jnp.array([1.0, -1.0, 0.5])


@jax.jit
def multiplier(rate, stages):
    """What one step of length 1 makes of x' = -rate x."""
    return chebyshev_step(lambda x: -rate * x, jnp.ones_like(rate), 1.0, stages)


def turned(point):
    """A rotation that slows down outwards: not linear, and its eigenvalues are not real."""
    x, y = point
    speed = 1 / (1 + x**2 + y**2)
    return -speed * y, speed * x


@pytest.mark.parametrize("stages", [2, 3, 7])
def test_errors_fall_with_the_square_of_the_step(stages):
    @jax.jit
    def ends(time_step, number):
        def step(_, points):
            return tuple(
                chebyshev_step(f, x, time_step, jnp.asarray(stages))
                for f, x in zip((lambda v: jnp.asarray(MATRIX) @ v, turned), points, strict=True)
            )

        return jax.lax.fori_loop(0, number, step, (START, (jnp.array(1.0), jnp.array(0.5))))

    numbers = np.array([20, 40, 80])
    found = [ends(1 / n, n) for n in numbers]
    radius, angle = np.hypot(1, 0.5), np.arctan2(0.5, 1) + 1 / (1 + 1.25)
    truth = expm(MATRIX) @ START, radius * np.array([np.cos(angle), np.sin(angle)])
    for case in (0, 1):
        errors = [np.linalg.norm(np.asarray(one[case]) - truth[case]) for one in found]
        slope = np.polyfit(np.log(numbers), np.log(errors), 1)[0]
        assert abs(slope + 2) < 0.1, (case, errors)  # the next order changes the slope by O(h), h = 1/20 at most


@given(st.floats(0, 1e4), st.floats(0, 1))
def test_it_is_stable_for_every_rate_up_to_the_one_it_was_asked_for(rate, part):
    stages = stages_for(jnp.asarray(rate))
    # 1 at rate 0, where stages sum to 1 up to rounding, which grows with their square; 124 are the most here
    assert abs(multiplier(jnp.asarray(part * rate), stages)) <= 1 + 1e-11


@pytest.mark.parametrize("stages", [2, 10, 60])
def test_the_number_of_stages_is_the_least_that_is_stable(stages):
    """The interval of stability ends near -(1 + w0) T''/T' at w0 = 1 + (2/13)/stages^2."""
    polynomial, w0 = np.polynomial.Chebyshev.basis(stages), 1 + 2 / 13 / stages**2
    end = (1 + w0) * polynomial.deriv(2)(w0) / polynomial.deriv()(w0)
    assert abs(multiplier(jnp.asarray(end), jnp.asarray(stages))) <= 1
    # |P| is 1 - eps/3 = .95 at the end and its slope, as of a Chebyshev polynomial there, is large
    assert abs(multiplier(jnp.asarray(1.04 * end), jnp.asarray(stages))) > 1
    # the formula for large numbers asks for less than a stage too many
    assert stages_for(jnp.asarray(0.97 * end)) == stages
    assert stages_for(jnp.asarray(1.001 * end)) > stages


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_it_is_stable_in_either_precision_with_as_many_stages_as_it_uses(dtype):
    most = most_stages(dtype)
    beyond = stages_for(jnp.asarray(1e9, dtype))
    assert beyond == most == stages_for(jnp.asarray(jnp.inf, dtype)) and stages_for(jnp.asarray(-10.0, dtype)) == 2
    rates = jnp.linspace(0, 0.65 * (most**2 - 1), 200, dtype=dtype)
    grown = jax.vmap(multiplier, in_axes=(0, None))(rates, beyond)
    # 1 at rate 0 up to the rounding that bounds the number of stages
    assert np.all(np.abs(grown) <= 1 + 4e-3)
    still = chebyshev_step(lambda x: 0 * x, jnp.full((3,), 1e3, dtype), 1.0, beyond)
    np.testing.assert_array_equal(still, 1e3)
