"""Central flows of scalar RMSProp and RMSProp against simulated rules and the convex programme they rest at."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.formulas import formula
from tests.theory.runs import centre, simulate
from theory.averages.gradient_descent import central_flow_gd
from theory.averages.rmsprop import central_flow_rmsprop, central_flow_scalar_rmsprop, moments_at_rest

seeds = st.integers(0, 2**31)
# Closed forms of some ten operations.
SAME = {"rtol": 1e-11, "atol": 1e-13}


def scalar_run(eta, b2, rate, push, start, steps=1000):
    """Scalar RMSProp on e^(rate y) x^2/2 - push y: weights (steps, 2) and the second moment used in each step."""
    w, used, nu = np.empty((steps, 2)), np.empty(steps), eta**2 / 4
    w[0] = start, 0.0
    for n in range(steps):
        x, s = w[n, 0], np.exp(rate * w[n, 1])
        g = np.array([s * x, rate * s * x**2 / 2 - push])
        used[n] = nu = b2 * nu + (1 - b2) * g @ g
        if n + 1 < steps:
            w[n + 1] = w[n] - eta * g / np.sqrt(nu)
    return w, used


@settings(max_examples=15)
@given(st.floats(0.01, 0.3), st.floats(0.995, 0.999), st.floats(0.5, 0.9), st.floats(1.2, 1.7))
def test_scalar_rmsprop_keeps_this_variance(eta, b2, strength, excess):
    """In a range where adaptation and curvature both count: their weights are as 1 to strength^2."""
    law = central_flow_scalar_rmsprop()
    rate = strength * np.sqrt(2 * (1 - b2)) / eta
    push = excess * rate * eta**2 / 8  # above what holds the sharpness where it is: it grows

    def inner(s):
        products = {"sharpening": push * rate * s, "slope_sq": (rate * s) ** 2, "gradient_sq": push**2}
        return {"learning_rate": eta, "b2": b2, "sharpness": s, **products}

    start = np.sqrt(float(formula(law, "variance")(**inner(1.0))))
    w, nu = scalar_run(eta, b2, rate, push, start)
    sharpness = np.exp(rate * centre(w)[:, 1])
    names = ("variance", "variance_by_curvature", "variance_by_adaptation")
    held, by_curvature, by_adaptation = (np.mean(formula(law, name)(**inner(sharpness))) for name in names)
    # the sharpness changes by at most 1e-3 a step; orbits about the flow are hardly damped, averaged over few turns
    np.testing.assert_allclose((w[1:-1, 0] ** 2).mean(), held, rtol=2e-3)
    assert by_curvature > 1.02 * held and by_adaptation < 0.99 * held  # neither alone would do
    np.testing.assert_allclose(np.mean(eta / np.sqrt(nu[1:-1]) * sharpness), 2, rtol=1e-3)
    np.testing.assert_allclose(formula(law, "effective_step")(sharpness=sharpness) * sharpness, 2, rtol=1e-12)
    np.testing.assert_allclose(formula(law, "edge_nu")(**inner(sharpness)) * 4, (eta * sharpness) ** 2, rtol=1e-12)


@given(
    st.floats(0.01, 1), st.floats(0.01, 0.99), st.floats(0.5, 50), st.floats(-2, 2), st.floats(0.1, 4), st.floats(0, 3)
)
def test_scalar_rmsprop_in_closed_form(eta, b2, s, gs, ss, gg):
    law = central_flow_scalar_rmsprop()
    inner = {"learning_rate": eta, "b2": b2, "sharpness": s, "sharpening": gs, "slope_sq": ss, "gradient_sq": gg}
    names = ("variance", "variance_by_curvature", "variance_by_adaptation", "curvature_weight", "adaptation_weight")
    held, by_curvature, by_adaptation, one, other = (float(formula(law, n)(**inner)) for n in names)
    above = b2 * gs + (1 - b2) * (s**2 / 4 - gg / eta**2)
    below = b2 * ss / 2 + (1 - b2) * s**2 / eta**2
    scale = 1e-9 * (1 + (gg + s**2) / eta**2) / below  # terms that cancel
    np.testing.assert_allclose(held, above / below, rtol=1e-9, atol=scale)
    np.testing.assert_allclose([by_curvature, by_adaptation], [2 * gs / ss, eta**2 / 4 - gg / s**2], **SAME)
    np.testing.assert_allclose(
        held, (one * by_curvature + other * by_adaptation) / (one + other), rtol=1e-9, atol=scale
    )
    # the edge is kept: d/dt of S - 2 sqrt(nu)/eta with the flow's own rates
    nu = float(formula(law, "edge_nu")(**inner))
    nu_rate = float(formula(law, "nu_rate")(**inner, nu=nu, variance=held))
    s_rate = eta / np.sqrt(nu) * (gs - held / 2 * ss)
    np.testing.assert_allclose(s_rate, nu_rate / np.sqrt(nu) / eta, rtol=1e-7, atol=scale * s**2 * 10 + 1e-9)


def test_both_ends_of_beta2():
    law = central_flow_scalar_rmsprop().expressions
    b2 = central_flow_scalar_rmsprop().arguments["b2"]
    for name, end in (("variance_by_curvature", 1), ("variance_by_adaptation", 0)):
        assert sp.cancel(sp.limit(law["variance"], b2, end) - law[name]) == 0
    one, scalar = central_flow_gd(), central_flow_scalar_rmsprop()
    assert one.expressions["variance"] == scalar.expressions["variance_by_curvature"]


def rest_of(rule, hessian, push, eta, steps=20_000):
    """A rule on a quadratic with a slope: sqrt(nu)/eta and the mean gradient, both means of the last half."""

    @jax.jit
    def run():
        w, state = simulate(rule, lambda w: w @ hessian @ w / 2 - push @ w, eta * jnp.ones(len(push)), steps)
        gradients = w @ hessian - push[None, :]
        return gradients[steps // 2 :], jnp.sqrt(state[0].nu[steps // 2 :])

    gradients, root = run()
    return np.asarray(gradients.mean(0)), np.asarray(root.mean(0)) / eta


def least_preconditioner(hessian, gradient, eta, edge):
    """argmin of sum M_i + g_i^2/(eta^2 M_i) subject to H <= edge diag(M), and the constraint's multiplier."""
    clarabel = pytest.importorskip("clarabel")
    from scipy import sparse

    n = len(gradient)
    rows, offsets, cones = [], [], []
    for i in range(n):  # M_i t_i >= g_i^2: |(2 g_i, M_i - t_i)| <= M_i + t_i
        for of_m, of_t, constant in ((1, 1, 0.0), (0, 0, 2 * gradient[i] / eta), (1, -1, 0.0)):
            row = np.zeros(2 * n)
            row[i], row[n + i] = -of_m, -of_t
            rows.append(row)
            offsets.append(constant)
        cones.append(clarabel.SecondOrderConeT(3))
    for j in range(n):  # upper triangle, column by column
        for i in range(j + 1):
            row = np.zeros(2 * n)
            row[i] = -edge if i == j else 0.0
            rows.append(row)
            offsets.append(-hessian[i, j] * (1 if i == j else np.sqrt(2)))
    cones.append(clarabel.PSDTriangleConeT(n))
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-10
    matrix = sparse.csc_matrix(np.array(rows))
    empty = sparse.csc_matrix((2 * n, 2 * n))
    solution = clarabel.DefaultSolver(empty, np.ones(2 * n), matrix, np.array(offsets), cones, options).solve()
    assert "Solved" in str(solution.status)
    dual, multiplier = np.array(solution.z)[3 * n :], np.zeros((n, n))
    pairs = [(i, j) for j in range(n) for i in range(j + 1)]
    for value, (i, j) in zip(dual, pairs, strict=True):
        multiplier[i, j] = multiplier[j, i] = value / (1 if i == j else np.sqrt(2))
    return np.array(solution.x)[:n], multiplier


@pytest.mark.parametrize(("b1", "rank"), [(0.0, 4), (0.0, 2), (0.1, 4), (0.1, 2)])
def test_second_moments_rest_at_the_solution_of_a_convex_programme(b1, rank):
    """RMSProp, and Adam with a momentum at which it comes to rest."""
    rng, eta, n, b2 = np.random.default_rng(7 + rank), 1e-3, 4, 0.999
    factor = rng.normal(size=(n, rank))
    hessian, push = factor @ factor.T, rng.normal(size=n)
    rule = optax.adam(eta, b1=b1, b2=b2, eps=1e-30) if b1 else optax.rmsprop(eta, decay=b2, eps=1e-30)
    edge = 2 * (1 + b1) / (1 - b1)
    gradient, found = rest_of(rule, hessian, push * eta / 4, eta)
    least, multiplier = least_preconditioner(hessian, gradient, eta, edge)
    # second moments breathe with the oscillation: an error in proportion to 1 - beta2 (at full rank 1.3e-2 at 0.99)
    np.testing.assert_allclose(found, least, rtol=3 * (1 - b2))
    # and the programme's own optimum rests: nu' = 0 with Sigma = eta^2 Z/k, on the kernel of k M - H
    law = moments_at_rest()
    inner = {"learning_rate": eta, "b2": 0.99, "preconditioner": least, "mean_gradient": gradient, "edge": edge}
    inner["share"] = np.diag(multiplier) * eta**2 / edge
    scale = (eta * least) ** 2 * (1 - 0.99) / 0.99
    np.testing.assert_allclose(formula(law, "nu_rate_at_edge")(**inner) / scale, 0, atol=1e-5)  # the solver's
    slope = formula(law, "lagrangian_slope")(**inner, multiplier=formula(law, "multiplier")(**inner))
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    np.testing.assert_allclose(multiplier @ (edge * np.diag(least) - hessian), 0, atol=1e-5 * np.abs(hessian).max())


@given(seeds)
def test_on_the_kernel_the_oscillation_of_the_gradient_is_the_preconditioners(seed):
    rng, law = np.random.default_rng(seed), central_flow_rmsprop()
    m, swing = rng.uniform(0.5, 2, size=5), rng.normal(size=(5, 2))
    stiff = np.linalg.qr(np.hstack([swing, rng.normal(size=(5, 3))]))[0][:, 2:]
    hessian = 2 * np.diag(m) - stiff @ np.diag(rng.uniform(0, 1, 3)) @ stiff.T
    sigma = swing @ swing.T
    found = formula(law, "gradient_variance_at_edge")(preconditioner=m, share=np.diag(sigma))
    np.testing.assert_allclose(np.diag(hessian @ sigma @ hessian), found, rtol=1e-9, atol=1e-12)
