"""Runge-Kutta steps of given length: declared order, stability limit, precision of each leaf."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from toylab.numerics.fixed_steps import classical_runge_kutta, heun

METHODS = {heun: 2, classical_runge_kutta: 4}


def pendulum(point):
    angle, speed = point
    return speed, -jnp.sin(angle)


def after_one_unit(method, pieces):
    start = jnp.asarray(1.0), jnp.asarray(0.3)
    return np.array(lax.fori_loop(0, pieces, lambda _, point: method(pendulum, point, 1 / pieces), start))


@pytest.mark.parametrize("method", METHODS)
def test_the_error_has_the_declared_order(method):
    pieces = np.array([8, 16, 32])
    exact = after_one_unit(classical_runge_kutta, 2048)  # its error, 1e-14, is rounding
    errors = [np.linalg.norm(after_one_unit(method, int(n)) - exact) for n in pieces]
    slope, _ = np.polyfit(np.log(1 / pieces), np.log(errors), 1)
    assert slope == pytest.approx(METHODS[method], abs=0.1)  # the next order, h of 1/8, changes a slope by hundredths


@pytest.mark.parametrize(("method", "limit"), [(heun, 2.0), (classical_runge_kutta, 2.785)])
def test_decay_is_stable_up_to_the_declared_rate(method, limit):
    factors = [abs(float(method(jnp.negative, jnp.asarray(1.0), limit * share))) for share in (0.99, 1.01)]
    assert factors[0] < 1 < factors[1]


@pytest.mark.parametrize("method", METHODS)
def test_each_leaf_keeps_its_precision(method):
    point = jnp.ones((), jnp.float32), jnp.ones((), jnp.float64)
    assert [leaf.dtype.name for leaf in method(lambda x: x, point, 0.1)] == ["float32", "float64"]
