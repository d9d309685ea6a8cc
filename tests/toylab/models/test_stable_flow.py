"""The stable flow: gradient flow for gradient descent, and the equation of its docstring for what adapts."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tests.toylab.models.cubic_models import cubic, long, one_eigenvalue
from toylab.models.stable_flow import stable_flow_steps
from toylab.numerics.runge_kutta_chebyshev import REACH
from toylab.optimizers import scalar_rmsprop


def weights(*first):
    return jnp.zeros(5).at[: len(first)].set(jnp.asarray(first, float))


@pytest.mark.parametrize("rule", ["gd", pytest.param("nesterov", marks=pytest.mark.slow)])
def test_for_rules_with_a_constant_preconditioner_it_is_gradient_flow(rule):
    """Time runs eta Q(1) a step, which memory makes eta/(1 - b)."""
    hyper = {"gd": {"rate": 0.1}, "nesterov": {"rate": 0.05, "momentum": 0.5}}[rule]
    spectrum, start = np.array([1.0, 0.5, 0.2, 0.1, 0.02]), np.array([1, -1, 2, 1, 1.0])
    _, said = long(stable_flow_steps, rule, cubic(spectrum), hyper, jnp.asarray(start))
    truth = np.exp(-0.1 * spectrum[None] * np.arange(40)[:, None]) * start[None]
    # two stages: relative errors (h lambda)^3/6 a substep, 160 substeps, h lambda = .025 (.1 Q(1) in a quarter) at most
    np.testing.assert_allclose(said.params, truth, rtol=5e-4)
    np.testing.assert_allclose(said.mean_loss, np.sum(spectrum[None] * truth**2, axis=1) / 2, rtol=1e-3)
    assert np.all(said.cost.gradients == 9) and not np.any(said.variances)


def test_the_edge_does_not_stop_it():
    """y' = eta eps for ever, with x at rest, although the sharpness y passes 2/eta."""
    rate, eps = 0.3, 0.05
    _, said = long(stable_flow_steps, "gd", one_eigenvalue(eps), {"rate": rate}, weights(0.0, 2 / rate - 0.1), 4)
    assert said.edge_ratios[-1, 0] > 1.2 and said.critical[-1] == 0
    # x is slaved, x = eps/y, and takes x^2/2 = 3e-5 from eps
    np.testing.assert_allclose(np.diff(said.params[:, 1]), rate * eps, rtol=1e-3)
    # eta lambda is twice the edge ratio, a third more is allowed for, in four substeps
    stages = np.ceil(np.sqrt(1 + 4 / 3 * 2 * said.edge_ratios[:, 0] / 4 / REACH))
    np.testing.assert_array_equal(said.cost.gradients, 1 + 4 * stages)


def test_scalar_rmsprop_follows_its_equation():
    """w' = -eta grad L/sqrt(nu+), nu' = nu+ - nu, nu+ = b2 nu + (1 - b2)|grad L|^2, by an adaptive solver."""
    spectrum, start, moment, b2 = np.array([1.0, 0.5, 0.2, 0.1, 0.02]), np.array([1, -1, 2, 1, 1.0]), 0.7, 0.8

    def slope(rate):
        def of(_, point):
            gradient, nu = spectrum * point[:5], point[5]
            updated = b2 * nu + (1 - b2) * gradient @ gradient
            return np.append(-rate * gradient / np.sqrt(updated), updated - nu)

        return of

    rate, times = 0.05, np.arange(40)
    begun = scalar_rmsprop(1.0).init(weights())._replace(nu=jnp.asarray(moment))
    hyper = {"rate": rate, "decay": b2}
    end, said = long(stable_flow_steps, "scalar_rmsprop", cubic(spectrum), hyper, (jnp.asarray(start), begun))
    point = np.append(start, moment)
    truth = solve_ivp(slope(rate), (0, 40), point, "DOP853", t_eval=[*times, 40], rtol=1e-12, atol=1e-14).y.T
    # nu relaxes by 1 - b2 in a step: errors (.2/4)^3/6 = 2e-5 of it a substep, forgotten within 20 of them; and weights
    # by h lambda = .05/4 at most: (h lambda)^3/6 = 3e-7 of them in each of 160 substeps
    np.testing.assert_allclose(said.params, truth[:-1, :5], atol=4e-4)
    np.testing.assert_allclose(end.state.nu, truth[-1, 5], rtol=4e-4)
    assert np.abs(truth[-1, :5] - start).max() > 0.5
    assert end.state.count == 40  # the rule's own counter goes on
