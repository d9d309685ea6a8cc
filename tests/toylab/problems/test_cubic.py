"""The toys of the edge have the Hessians, and the pushes, that their docstrings state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems
from toylab.curvature import dense_hessian as slow_hessian

dense_hessian = jax.jit(slow_hessian)
gradient = jax.jit(lambda problem, where: problem.gradient(where))

numbers = st.floats(-3, 3, allow_subnormal=False)
positive = st.floats(0.1, 3)

# Hessians by autodiff against closed forms of some ten operations on numbers below a hundred.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@settings(max_examples=10)
@given(positive, positive, positive, numbers, numbers, numbers, numbers, numbers, numbers, numbers)
def test_the_cubic_normal_form(threshold, rate, square, third, fourth, transverse, curvature, tilt, x, s):
    problem = problems.cubic_normal_form(threshold, rate, square, third, fourth, transverse, curvature, tilt)
    slope = np.sqrt(square)
    cross = (slope + curvature * s) * x
    top = threshold + slope * s + curvature * s**2 / 2 + third * x + fourth * x**2 / 2
    expected = np.array([[top, cross], [cross, curvature * x**2 / 2 + transverse]])
    np.testing.assert_allclose(dense_hessian(problem, jnp.array([x, s])), expected, **CLOSE)
    np.testing.assert_allclose(gradient(problem, jnp.zeros(2)), [-tilt, -rate / slope], **CLOSE)


@settings(max_examples=10)
@given(positive, positive, positive, numbers, numbers)
def test_gradient_descent_on_the_pure_cubic_model_is_the_two_variable_map(eta, rate, square, x, s):
    problem = problems.cubic_normal_form(2 / eta, rate, square)
    moved = jnp.array([x, s]) - eta * gradient(problem, jnp.array([x, s]))
    y = np.sqrt(square) * s
    expected = [-(1 + eta * y) * x, (y + eta * (rate - square * x**2 / 2)) / np.sqrt(square)]
    np.testing.assert_allclose(moved, expected, **CLOSE)


@settings(max_examples=10)
@given(positive, numbers, numbers, numbers, positive, numbers, numbers, numbers)
def test_the_curved_valley_on_its_floor(threshold, bend, swell, third, transverse, coupling, s, q):
    problem = problems.curved_valley(threshold, 0.5, 2.0, 0.7, bend, swell, third, transverse, coupling)
    p = 0.1
    where = jnp.array([bend * (1 - np.cos(q)), s, q, p])
    normal = np.array([1, 0, -bend * np.sin(q), 0])
    sharp = threshold + np.sqrt(2) * s + coupling * p
    expected = sharp * np.outer(normal, normal) / (normal @ normal) + np.diag([0, 0, 0, transverse])
    # the gradient along s and q of alpha (1 + swell sin q) s is linear in s: one cross term
    expected[1, 2] = expected[2, 1] = -0.5 / np.sqrt(2) * swell * np.cos(q)
    expected[2, 2] += 0.5 / np.sqrt(2) * swell * np.sin(q) * s
    np.testing.assert_allclose(dense_hessian(problem, where), expected, **CLOSE)


def test_berthiers_one_eigenvalue():
    problem = problems.berthier_one_eigenvalue(0.01, zeta=0.4, forcing=0.5)
    x, y = 0.3, 5.0
    np.testing.assert_allclose(dense_hessian(problem, jnp.array([x, y])), [[y + 1.2 * x, x], [x, 0]], **CLOSE)
    np.testing.assert_allclose(gradient(problem, jnp.array([0.0, y])), [-0.005, -0.01], **CLOSE)


def test_berthiers_codimension_one():
    problem = problems.berthier_codimension_one(0.01)
    where = jnp.array([0.0, 0.6, 0.8])
    np.testing.assert_allclose(dense_hessian(problem, where), np.diag([4.0, 0, 0]), **CLOSE)
    np.testing.assert_allclose(gradient(problem, where), [-0.01, -0.01, 0], **CLOSE)
    third = jax.jit(jax.grad(jax.grad(jax.grad(lambda x: problem.value(where.at[0].set(x))))))(0.0)
    np.testing.assert_allclose(third, 4.5, **CLOSE)


def test_berthiers_two_eigenvalues():
    problem = problems.berthier_two_eigenvalues(0.01)
    where = jnp.array([0.0, 0.0, 5.0, 4.0, 1.0])
    expected = np.zeros((5, 5))
    expected[:2, :2] = [[5, np.sqrt(0.5)], [np.sqrt(0.5), 4]]
    np.testing.assert_allclose(dense_hessian(problem, where), expected, **CLOSE)
    np.testing.assert_allclose(gradient(problem, where), -0.01 * np.array([1, 0, 2, 1, 1]), **CLOSE)
    np.testing.assert_allclose(problem.value(where.at[:2].set(0.1)), 0.045 + 0.01 / np.sqrt(2) + 0.001 - 0.151, **CLOSE)


@pytest.mark.parametrize("name", sorted({n for n in problems.NAMED if n.startswith("berthier")}))
def test_the_toys_vmap_over_their_coefficients(name):
    losses = jax.vmap(lambda eps: problems.NAMED[name](eps).value(problems.NAMED[name]().params))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(losses[1], problems.NAMED[name](0.2).value(problems.NAMED[name]().params), **CLOSE)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cubic_normal_form", {"threshold": 2.0}),
        ("curved_valley", {"threshold": 2.0}),
        ("berthier_two_eigenvalues", {}),
    ],
)
def test_a_start_of_the_wrong_length_is_refused(name, settings):
    with pytest.raises(ValueError, match="got a start of shape"):
        problems.NAMED[name](**settings, start=(1.0,))
