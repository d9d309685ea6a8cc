"""Self-stabilization against maps written by hand: the cubic map, its 2-cycle, the multipliers of every rule."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from tests.theory.handwritten import gradient, hessian, model
from theory.self_stabilization.gradient_descent import averaged_motion, cubic_map

eta_, alpha_, beta_ = st.floats(0.05, 1.0), st.floats(0.01, 1.0), st.floats(0.2, 3.0)
# Closed forms of some ten operations.
SAME = {"rtol": 1e-12, "atol": 1e-12}


def values(eta, alpha, beta, **more):
    return {"learning_rate": eta, "sharpening_rate": alpha, "grad_sharpness_sq": beta, **more}


@settings(max_examples=10)
@given(eta_, alpha_, beta_, st.floats(-2, 2), st.floats(-2, 2))
def test_the_map_is_gradient_descent_on_the_cubic_model(eta, alpha, beta, x, y):
    c, point = model(2 / eta, alpha, beta), values(eta, alpha, beta, x=x, y=y)
    after = np.array([x, y / np.sqrt(beta)]) - eta * gradient([x, y / np.sqrt(beta)], c)
    found = [cubic_map().numeric(name)(**point) for name in ("x_next", "y_next")]
    np.testing.assert_allclose(found, [after[0], np.sqrt(beta) * after[1]], rtol=1e-11, atol=1e-11)  # 2/eta = 40
    np.testing.assert_allclose(found, [-(1 + eta * y) * x, y + eta * (alpha - beta * x**2 / 2)], **SAME)


@settings(max_examples=10)
@given(eta_, alpha_, beta_)
def test_the_two_cycle_and_its_multipliers(eta, alpha, beta):
    c, theorem, point = model(2 / eta, alpha, beta), cubic_map(), values(eta, alpha, beta)
    x = np.sqrt(theorem.numeric("cycle_x_sq")(**point))
    forth = np.array([x, 0.0]) - eta * gradient([x, 0.0], c)
    back = forth - eta * gradient(forth, c)
    np.testing.assert_allclose([*forth, *back], [-x, 0, x, 0], rtol=1e-10, atol=1e-10)  # 2/eta times rounding
    twice = (np.eye(2) - eta * hessian(forth, c)) @ (np.eye(2) - eta * hessian([x, 0.0], c))
    determinant, trace = (float(theorem.numeric(n)(**point)) for n in ("determinant", "trace"))
    np.testing.assert_allclose(determinant**2, np.linalg.det(twice), rtol=1e-9)
    np.testing.assert_allclose(trace**2 - 2 * determinant, np.trace(twice), rtol=1e-9)
    np.testing.assert_allclose(determinant, 1 + 2 * eta**2 * alpha, rtol=1e-14)
    rate, angle = (float(theorem.numeric(n)(**point)) for n in ("rate", "frequency"))
    # the square of e^(rate + i angle) is a multiplier of two steps
    multipliers = np.linalg.eigvals(twice)
    assert np.min(np.abs(multipliers - np.exp(2 * (rate + 1j * angle)))) < 1e-8


@settings(max_examples=5)
@given(eta_, alpha_, beta_, st.floats(0.05, 0.9))
def test_what_the_averaged_motion_conserves_is_conserved_by_an_integrator(eta, alpha, beta, depth):
    delta = np.sqrt(2 * alpha / beta)
    theorem = averaged_motion()
    turn = float(theorem.numeric("frequency")(**values(eta, alpha, beta)))
    np.testing.assert_allclose(turn, eta * np.sqrt(2 * alpha), rtol=1e-14)

    def motion(_, z):
        return [eta * z[1] * z[0], eta * alpha * (1 - (z[0] / delta) ** 2)]

    run = solve_ivp(motion, (0, 10 / turn), [depth * delta, 0.0], rtol=1e-11, atol=1e-13, dense_output=True)
    x, y = run.sol(np.linspace(0, 10 / turn, 400))
    kept = theorem.numeric("conserved")(**values(eta, alpha, beta, x=x, y=y))
    level = depth**2 - np.log(depth**2) - 1
    np.testing.assert_allclose(kept, level, rtol=1e-6, atol=1e-7)  # what the integrator and its interpolant leave
    highest = theorem.numeric("highest_y")(sharpening_rate=alpha, level=level)
    assert np.abs(y).max() <= highest * (1 + 1e-6)
    np.testing.assert_allclose(np.abs(y).max(), highest, rtol=1e-3)  # 1/2 of the squared spacing of the samples
    rates = [theorem.numeric(n)(**values(eta, alpha, beta, x=x[7], y=y[7])) for n in ("log_x_rate", "y_rate")]
    np.testing.assert_allclose([rates[0] * x[7], rates[1]], motion(0, (x[7], y[7])), rtol=1e-10, atol=1e-12)


def test_without_a_swing_the_sharpness_rises_for_ever():
    here = values(0.1, 0.3, 1.0, x=0.0, y=0.7)
    assert float(cubic_map().numeric("x_next")(**here)) == 0
    np.testing.assert_allclose(float(cubic_map().numeric("y_next")(**here)), 0.7 + 0.1 * 0.3, **SAME)
