"""Central flows against brute-force averages of the simulated rules, and against the convex programmes they solve."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.formulas import formula
from theory.adaptive_flow import central_flow_rmsprop, central_flow_scalar_rmsprop
from theory.averaging import cached_central_flow, central_flow_law
from theory.balance import balance_law
from theory.central_flow import PAIRS, central_flow_gd, central_flow_gd_block
from theory.central_toys import LOSS, toy_centre
from theory.errors import NoLinearEdge
from theory.linear_stability import cached_edge
from theory.multiple_scales import filter_values, general_motion
from theory.slow_state import G, averaged_slow_state, q
from theory.taylor import ALPHA, BETA
from theory.theorem import as_jax
from toylab.optimizers import NAMED

seeds = st.integers(0, 2**31)
# Closed forms of some ten operations.
SAME = {"rtol": 1e-11, "atol": 1e-13}


def simulate(rule, loss, start, steps, state=None):
    """Weights (steps, n) and states of `steps` steps of an optax rule."""

    def body(carry, _):
        w, s = carry
        update, after = rule.update(jax.grad(loss)(w), s, w)
        return (w + update, after), (w, after)

    return jax.lax.scan(body, (start, rule.init(start) if state is None else state), None, length=steps)[1]


def centre(w):
    """The second-order midpoint (w_{n-1} + 2 w_n + w_{n+1})/4 of a run (steps, ...)."""
    return (w[:-2] + 2 * w[1:-1] + w[2:]) / 4


# ---------------------------------------------------------------------------------------------------------------
# Gradient descent


class Ridges:
    """sum_k f(d_k . w), f(z) = sin(z) + z^2 + e^(z/2): a loss with every derivative, differentiated by hand."""

    def __init__(self, directions):
        self.d = directions

    def f(self, order, w):
        z = self.d @ w
        wave = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)][order](z)
        return wave + [z**2, 2 * z, 2 + 0 * z, 0 * z][order] + np.exp(z / 2) / 2**order

    def loss(self, w):
        return self.f(0, w).sum()

    def gradient(self, w):
        return self.d.T @ self.f(1, w)

    def top(self, w):
        """S, its eigenvector and grad S."""
        values, vectors = np.linalg.eigh(self.d.T * self.f(2, w) @ self.d)
        return values[-1], vectors[:, -1], self.d.T @ (self.f(3, w) * (self.d @ vectors[:, -1]) ** 2)


@settings(max_examples=10)
@given(seeds)
def test_the_mean_gradient_over_an_oscillation(seed):
    """grad L + (V/2) grad S to order V: what is left is of fourth order in x."""
    rng, law = np.random.default_rng(seed), central_flow_gd()
    ridges, w = Ridges(rng.normal(size=(6, 4)) / 2), rng.normal(size=4) / 2
    s, u, slope = ridges.top(w)
    g = ridges.gradient(w)
    inner = {"learning_rate": 2 / s, "sharpening": -g @ slope, "slope_sq": slope @ slope, "gradient_sq": g @ g}

    def errors(x):
        up, down = ridges.gradient(w + x * u), ridges.gradient(w - x * u)
        mean, swing = (up + down) / 2, (up - down) / 2
        truth = {
            "sharpness_rate": -2 / s * mean @ slope,
            "mean_loss_excess": (ridges.loss(w + x * u) + ridges.loss(w - x * u)) / 2 - ridges.loss(w),
            "mean_gradient_sq": mean @ mean + swing @ swing,
        }
        return [float(formula(law, name)(**inner, variance=x**2)) - value for name, value in truth.items()]

    x = 0.05
    whole, half = np.array(errors(x)), np.array(errors(x / 2))
    assert np.all(np.abs(whole) < 100 * x**4)
    # halving x leaves a sixteenth, up to the next even order, and to rounding
    assert np.all(np.abs(whole - 16 * half) < 100 * x**6 + 1e-12)


def valley(w):
    """Sharpness 20 + a + 0.3 b + b^2/2 along x, and a slope that also pushes along its level lines: loss, gradient."""
    x, a, b = w
    sharpness = 20 + a + 0.3 * b + b**2 / 2
    gradient = np.array([sharpness * x, x**2 / 2 - 0.02, (0.3 + b) * x**2 / 2 - 0.01])
    return sharpness * x**2 / 2 - 0.02 * a - 0.01 * b, gradient


def test_gradient_descent_stays_at_the_edge_with_this_variance():
    law, eta, steps = central_flow_gd(), 0.1, 3000
    w = np.empty((steps, 3))
    w[0] = np.sqrt(2 * (0.02 + 0.01 * 0.3) / 1.09), 0.0, 0.0
    for n in range(1, steps):
        w[n] = w[n - 1] - eta * valley(w[n - 1])[1]
    middle = centre(w)
    slope = np.stack([np.ones(len(middle)), 0.3 + middle[:, 2]], axis=1)
    push = np.array([0.02, 0.01])
    inner = {"learning_rate": eta, "gradient_sq": push @ push}
    inner |= {"sharpening": slope @ push, "slope_sq": (slope**2).sum(1)}
    inner["variance"] = formula(law, "variance")(**inner)
    # orbits about the flow are not damped: their amplitude, 1.4% of the variance, is averaged over some ten turns
    np.testing.assert_allclose((w[1:-1, 0] ** 2).mean(), inner["variance"].mean(), rtol=1e-3)
    assert inner["variance"][0] / inner["variance"][-1] > 1.05  # and the variance does change on the way
    sharpness = 20 + middle[:, 1] + 0.3 * middle[:, 2] + middle[:, 2] ** 2 / 2
    np.testing.assert_allclose(sharpness.mean(), 20, rtol=1e-4)  # second order in the push
    excess = np.mean([valley(here)[0] - valley(mid)[0] for here, mid in zip(w[1:-1], middle, strict=True)])
    np.testing.assert_allclose(excess, formula(law, "mean_loss_excess")(**inner).mean(), rtol=1e-3)
    square = np.mean([(valley(here)[1] ** 2).sum() for here in w[1:-1]])
    np.testing.assert_allclose(square, formula(law, "mean_gradient_sq")(**inner).mean(), rtol=1e-3)


@given(seeds)
def test_the_loss_falls_along_the_flow_and_the_sharpness_stays(seed):
    rng = np.random.default_rng(seed)
    g, s, eta = rng.normal(size=5), rng.normal(size=5), rng.uniform(0.01, 1)
    law = central_flow_gd()
    inner = {"learning_rate": eta, "sharpening": -g @ s, "slope_sq": s @ s, "gradient_sq": g @ g}
    held = float(formula(law, "variance")(**inner))
    velocity = -eta * (g + held / 2 * s)
    np.testing.assert_allclose(velocity @ s, 0, atol=1e-12)
    np.testing.assert_allclose(formula(law, "speed_sq")(**inner), velocity @ velocity, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(formula(law, "loss_rate")(**inner), velocity @ g, rtol=1e-9, atol=1e-12)
    assert float(formula(law, "loss_rate")(**inner)) <= 1e-12
    np.testing.assert_allclose(held, 2 * (-g @ s) / (s @ s), rtol=1e-12)


def block(rng, size):
    """Random gradient and gradients of a 2 x 2 block, and the theorem's arguments for them."""
    g, d = rng.normal(size=size), {pair: rng.normal(size=size) for pair in PAIRS}
    values = {"learning_rate": rng.uniform(0.1, 1), "gradient_sq": g @ g}
    for i, p in enumerate(PAIRS):
        one = "".join(str(1 + a) for a in p)
        values[f"g{one}"] = g @ d[p]
        for r in PAIRS[i:]:
            values[f"G{one}" + "".join(str(1 + a) for a in r)] = d[p] @ d[r]
    return g, d, values


@settings(max_examples=15)
@given(seeds, st.integers(2, 6))
def test_two_eigenvalues_solve_the_complementarity_problem(seed, size):
    clarabel = pytest.importorskip("clarabel")
    from scipy import sparse

    rng = np.random.default_rng(seed)
    g, d, values = block(rng, size)
    law = central_flow_gd_block()
    drive, system = (np.asarray(formula(law, name)(**values), float).reshape(3, -1) for name in ("drive", "system"))
    # minimise <X, B[X]>/2 + <A, X> over X >= 0, as svec(X) = (X11, sqrt2 X12, X22)
    root = np.diag([1, 1 / np.sqrt(2), 1])  # entries from svec
    twice = np.diag([1.0, 2.0, 1.0])
    quadratic = root @ twice @ system @ root
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-11
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu((quadratic + quadratic.T) / 2)),
        root @ twice @ drive[:, 0],
        sparse.csc_matrix(-np.eye(3)),
        np.zeros(3),
        [clarabel.PSDTriangleConeT(2)],
        options,
    )
    solution = solver.solve()
    x11, x12, x22 = root @ np.array(solution.x)
    if not np.isfinite(x11) or "Solved" not in str(solution.status):
        # no minimum: some unit of oscillation that no motion answers; needs fewer dimensions than entries of the block
        assert size < 3
        return
    x = np.array([[x11, x12], [x12, x22]])
    # the flow itself, with vectors
    velocity = -values["learning_rate"] * (g + 0.5 * (x11 * d[0, 0] + 2 * x12 * d[0, 1] + x22 * d[1, 1]))
    rates = -np.array([[velocity @ d[0, 0], velocity @ d[0, 1]], [velocity @ d[0, 1], velocity @ d[1, 1]]])
    # what the interior-point method leaves, times the size of the problem
    close = 1e-5 * (1 + np.abs(x).max()) * (1 + np.abs(rates).max())
    assert np.linalg.eigvalsh(rates).min() > -close  # no eigenvalue of H rises above the edge
    assert abs(np.trace(x @ rates)) < close  # nor does one sink from which the oscillation holds on to it
    named = {**values, "X11": x11, "X12": x12, "X22": x22}
    np.testing.assert_allclose(formula(law, "complementarity")(**named), np.trace(x @ rates), atol=1e-9 * close * 1e5)
    loss_rate = float(formula(law, "loss_rate")(**named))
    np.testing.assert_allclose(loss_rate, g @ velocity, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(loss_rate, -(velocity @ velocity) / values["learning_rate"], atol=close)


def test_one_eigenvalue_is_the_corner_of_the_block():
    law, one = central_flow_gd_block(), central_flow_gd()
    alone = {v: sp.Integer(0) for v in (law.arguments["X12"], law.arguments["X22"])}
    scalar = {one.arguments["sharpening"]: -law.arguments["g11"], one.arguments["slope_sq"]: law.arguments["G1111"]}
    corner = law.expressions["complementarity"].xreplace(alone) / law.arguments["X11"]
    rate = one.expressions["sharpness_rate"].xreplace({**scalar, one.arguments["variance"]: law.arguments["X11"]})
    assert sp.expand(corner + rate) == 0


# ---------------------------------------------------------------------------------------------------------------
# Scalar RMSProp


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


# ---------------------------------------------------------------------------------------------------------------
# RMSProp


def rest_of(hessian, push, eta, b2, steps=20_000):
    """RMSProp on a quadratic with a slope: sqrt(nu)/eta and the mean gradient, both means of the last half."""

    @jax.jit
    def run():
        rule = optax.rmsprop(eta, decay=b2, eps=1e-30)
        w, state = simulate(rule, lambda w: w @ hessian @ w / 2 - push @ w, eta * jnp.ones(len(push)), steps)
        gradients = w @ hessian - push[None, :]
        return gradients[steps // 2 :], jnp.sqrt(jax.tree.leaves(state)[0][steps // 2 :])

    gradients, root = run()
    return np.asarray(gradients.mean(0)), np.asarray(root.mean(0)) / eta


def least_preconditioner(hessian, gradient, eta):
    """argmin of sum M_i + g_i^2/(eta^2 M_i) subject to H <= 2 diag(M), and the constraint's multiplier."""
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
            row[i] = -2.0 if i == j else 0.0
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


@pytest.mark.parametrize("rank", [4, 2])
def test_rmsprop_rests_at_the_solution_of_its_convex_programme(rank):
    rng, eta, n = np.random.default_rng(7 + rank), 1e-3, 4
    factor = rng.normal(size=(n, rank))
    hessian, push = factor @ factor.T, rng.normal(size=n)
    gradient, found = rest_of(hessian, push * eta / 4, eta, b2 := 0.999)
    least, multiplier = least_preconditioner(hessian, gradient, eta)
    # second moments breathe with the oscillation: an error in proportion to 1 - beta2 (at full rank 1.3e-2 at 0.99)
    np.testing.assert_allclose(found, least, rtol=3 * (1 - b2))
    # and the programme's own optimum rests: nu' = 0 with Sigma = eta^2 Z/2, on the kernel of 2M - H
    law = central_flow_rmsprop()
    share = np.diag(multiplier) * eta**2 / 2
    inner = {"learning_rate": eta, "b2": 0.99, "preconditioner": least, "mean_gradient": gradient, "share": share}
    scale = (eta * least) ** 2 * (1 - 0.99) / 0.99
    np.testing.assert_allclose(formula(law, "nu_rate_at_edge")(**inner) / scale, 0, atol=1e-5)  # the solver's
    slope = formula(law, "lagrangian_slope")(**inner, multiplier=formula(law, "multiplier")(**inner))
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    np.testing.assert_allclose(multiplier @ (2 * np.diag(least) - hessian), 0, atol=1e-5 * np.abs(hessian).max())


@given(seeds)
def test_on_the_kernel_the_oscillation_of_the_gradient_is_the_preconditioners(seed):
    rng, law = np.random.default_rng(seed), central_flow_rmsprop()
    m, swing = rng.uniform(0.5, 2, size=5), rng.normal(size=(5, 2))
    stiff = np.linalg.qr(np.hstack([swing, rng.normal(size=(5, 3))]))[0][:, 2:]
    hessian = 2 * np.diag(m) - stiff @ np.diag(rng.uniform(0, 1, 3)) @ stiff.T
    sigma = swing @ swing.T
    found = formula(law, "gradient_variance_at_edge")(preconditioner=m, share=np.diag(sigma))
    np.testing.assert_allclose(np.diag(hessian @ sigma @ hessian), found, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------
# Any rule

MADE = {
    "adam": lambda eta, b2: optax.adam(eta, b1=0.1, b2=b2, eps=1e-30),
    "nadam": lambda eta, b2: optax.nadam(eta, b1=0.5, b2=b2, eps=1e-30),
}
MOMENTUM = {"adam": 0.1, "nadam": 0.5}
STEPS = 4000


@partial(jax.jit, static_argnames="rule")
def adaptive_run(rule, eta, b2, rate, push, swing):
    def loss(w):
        return jnp.exp(rate * w[1]) * w[0] ** 2 / 2 - push * w[1]

    w, state = simulate(MADE[rule](eta, b2), loss, jnp.stack([swing, 0.0]), STEPS)
    return w, [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2][-1]


@pytest.mark.parametrize("rule", MADE)
@settings(max_examples=5)
@given(st.floats(1e-4, 1e-2), st.floats(0.98, 0.99), st.floats(0.7e-4, 1.2e-4))
def test_adaptive_rules_keep_this_variance(rule, eta, b2, growth):
    """The sharpness grows by itself, so that both the oscillation and the second moments have to follow.

    Adam only with little momentum: from b1 of about 0.2 on its second moments do not settle at the edge but circle it,
    and its mean <x^2> lies some ten percent above (b1 = 0.5, b2 = 0.99).
    """
    law, rate = cached_central_flow(NAMED[rule]), growth / eta
    hyper = {"learning_rate": eta, "b1": MOMENTUM[rule], "b2": b2, "eps": 1e-30}
    critical = float(formula(law, "critical")(**hyper))
    push = rate * (eta / critical) ** 2  # half of it is the penalty on the sharpness, at S = 1
    w, nu = map(np.asarray, adaptive_run(rule, eta, b2, rate, push, eta / critical))
    late = slice(STEPS // 2, STEPS)
    x, sharpness, (mx, my) = w[late, 0], np.exp(rate * w[late, 1]), np.sqrt(nu[late].T) / eta
    at = partial(formula(law, "preconditioner_rate"), **hyper, nu=nu[late, 0], mean_gradient=0.0)
    still = at(gradient_variance=0.0) / eta
    moved = at(gradient_variance=sharpness**2) / eta - still
    inner = {"sharpening": push * rate * sharpness / my, "slope_sq": (rate * sharpness) ** 2 / my}
    variance = np.asarray(formula(law, "variance")(**hyper, **inner, still=still, moved=moved))
    # second order in the growth per step over 1 - beta2, (1.2e-4/0.01)^2 = 1.4e-4; 0.99^2000 is left of the start
    np.testing.assert_allclose((x**2).mean(), variance.mean(), rtol=2e-4)
    assert (x**2).mean() / np.mean(nu[late, 0] / sharpness**2) - 1 > 2e-3  # not merely nu = S^2 x^2
    np.testing.assert_allclose(np.mean(sharpness / mx), critical, rtol=5e-4)
    excess = np.mean(sharpness * x**2 / 2)
    found = formula(law, "mean_loss_excess")(**hyper, variance=variance, mass=mx).mean()
    np.testing.assert_allclose(excess, found, rtol=2e-3)


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "ema_momentum"])
def test_mean_loss_on_a_two_cycle_needs_the_rules_own_edge(rule):
    """The cubic model's 2-cycle: <x^2> = 2 alpha/beta for every filter, and L + k* <x^2>/(2 eta) for its mean loss."""
    law, eta, alpha, beta = cached_central_flow(NAMED[rule]), 0.2, 0.3, 1.7
    settings_ = {name: 0.6 for name in ("momentum",) if name in law.edge.symbols}
    critical = float(formula(law, "critical")(learning_rate=eta, **settings_))
    swing = float(formula(law, "variance")(sharpening=eta * alpha, slope_sq=eta * beta)) ** 0.5

    def loss(w):
        return (critical / eta + np.sqrt(beta) * w[1]) * w[0] ** 2 / 2 - alpha / np.sqrt(beta) * w[1]

    def slope(w):
        along = (critical / eta + np.sqrt(beta) * w[1]) * w[0]
        return jnp.stack([along, np.sqrt(beta) * w[0] ** 2 / 2 - alpha / np.sqrt(beta)])

    rule_ = NAMED[rule](eta, **settings_)
    start = jnp.array([swing, 0.0])
    state = rule_.init(start)
    if settings_:  # the momentum of a gradient that alternates: v = b v + c g with g -> -g, at rest in the other weight
        gradient = slope(start)
        gain = 1 - settings_["momentum"] if rule == "ema_momentum" else 1.0
        memory = -gain * gradient / (1 + settings_["momentum"])
        state = jax.tree.map(lambda leaf: memory if leaf.ndim else leaf, state)
    w = [start]
    for _ in range(5):
        update, state = rule_.update(slope(w[-1]), state, w[-1])
        w.append(w[-1] + update)
    w = np.asarray(w)
    np.testing.assert_allclose(w[:, 0], swing * (-1.0) ** np.arange(6), rtol=1e-9)  # the cycle is exact
    excess = np.mean([loss(v) - loss(np.array([0.0, v[1]])) for v in w])
    found = formula(law, "mean_loss_excess")(learning_rate=eta, variance=swing**2, mass=1 / eta, **settings_)
    np.testing.assert_allclose(excess, found, rtol=1e-8)
    np.testing.assert_allclose(found, critical * swing**2 / (2 * eta), rtol=1e-12)


# k* and what the flow of <x^2> must be for every rule without second moments
PAPERS = {
    "gd": (lambda b: 2.0, lambda b: 1.0, lambda b: 0.0),
    "heavy_ball": (lambda b: 2 * (1 + b), lambda b: 1 / (1 - b), lambda b: b / (1 - b)),
    "ema_momentum": (lambda b: 2 * (1 + b) / (1 - b), lambda b: 1.0, lambda b: b / (1 - b)),
    "nesterov": (lambda b: 2 * (1 + b) / (1 + 2 * b), lambda b: 1 / (1 - b), lambda b: b**2 / (1 - b)),
    "rmsprop": (lambda b: 2.0, lambda b: 1.0, lambda b: 0.0),
    "adam": (lambda b: 2 * (1 + b) / (1 - b), lambda b: 1.0, lambda b: b / (1 - b)),
    "nadam": (lambda b: 2 * (1 + b) / ((1 - b) * (1 + 2 * b)), lambda b: 1.0, lambda b: b**2 / (1 - b)),
}


@pytest.mark.parametrize("rule", PAPERS)
@pytest.mark.parametrize("b", [0.3, 0.9])
def test_edge_speed_and_delay(rule, b):
    law = cached_central_flow(NAMED[rule])
    named = {name: b for name in ("momentum", "b1") if name in law.edge.symbols}
    found = [float(formula(law, name)(learning_rate=0.2, **named)) for name in ("critical", "speed", "delay")]
    np.testing.assert_allclose(found, [f(b) for f in PAPERS[rule]], **SAME)


@given(seeds)
@settings(max_examples=10)
def test_the_edge_is_kept_and_the_loss_accounted_for(seed):
    """One random instance in coordinates: d/dt (k* M - H) = 0 along u, dL/dt = -|w'|_M^2/Q(1) - k* V u^T M' u/2."""
    rng, law, n = np.random.default_rng(seed), cached_central_flow(optax.adam), 6
    hyper = {"learning_rate": rng.uniform(0.01, 1), "b1": rng.uniform(0, 0.95), "b2": rng.uniform(0.5, 0.999)}
    hyper["eps"] = 1e-8
    nu, g, d, u = rng.uniform(0.1, 2, n), rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    m = (np.sqrt(nu) + hyper["eps"]) / hyper["learning_rate"]
    critical = float(formula(law, "critical")(**hyper))

    def rates(variance):
        share = variance * u**2
        mean = g + variance * d / 2
        velocity = formula(law, "w_rate")(**hyper, nu=nu, gradient=g, penalty=variance * d)
        moment = formula(law, "gradient_variance_at_edge")(**hyper, nu=nu, share=share)
        np.testing.assert_allclose(moment, variance * (critical * m * u) ** 2, rtol=1e-10)
        p_rate = formula(law, "preconditioner_rate")(**hyper, nu=nu, mean_gradient=g, gradient_variance=moment)
        np.testing.assert_allclose(velocity, -mean / m, rtol=1e-10)  # Q(1) = 1
        return np.asarray(velocity), np.asarray(p_rate) / hyper["learning_rate"]

    still = rates(0.0)[1] @ u**2
    moved = rates(1.0)[1] @ u**2 - still
    inner = {"sharpening": -g @ (d / m), "slope_sq": d @ (d / m), "gradient_sq": g @ (g / m)}
    held = float(formula(law, "variance")(**hyper, **inner, still=still, moved=moved))
    velocity, m_rate = rates(held)
    size = np.abs(velocity) @ np.abs(d) + critical * np.abs(m_rate) @ u**2
    np.testing.assert_allclose(velocity @ d, critical * m_rate @ u**2, atol=1e-9 * size)
    loss_rate = float(formula(law, "loss_rate")(**hyper, **inner, variance=held))
    np.testing.assert_allclose(loss_rate, g @ velocity, atol=1e-9 * (np.abs(g) @ np.abs(velocity)))
    accounted = -(velocity**2) @ m - critical * held * (m_rate @ u**2) / 2
    np.testing.assert_allclose(loss_rate, accounted, atol=1e-9 * (size * (1 + abs(held)) + velocity**2 @ m))


def test_a_shrinking_preconditioner_can_raise_the_loss():
    law = cached_central_flow(optax.rmsprop)
    inner = {"sharpening": 1.0, "slope_sq": 1.0, "gradient_sq": 1.2}  # Cauchy and Schwarz: 1 <= 1.2
    held = formula(law, "variance")(**inner, still=-0.2, moved=0.0)
    assert float(formula(law, "loss_rate")(**inner, variance=held)) > 0
    held = formula(law, "variance")(**inner, still=0.0, moved=0.0)
    assert float(formula(law, "loss_rate")(**inner, variance=held)) < 0


def test_where_decoupled_decay_comes_to_rest():
    """AdamW on a gentle bowl far away: the decay, not the loss, brings the weights to rest, at grad L = -omega P w."""
    push, bend, decay = jnp.array([1.0, -0.5]), 0.2, 0.8

    @jax.jit
    def run():
        rule = optax.adamw(0.02, weight_decay=decay, b2=0.9, eps=1e-12)
        w, state = simulate(rule, lambda w: push @ w + bend * (w @ w) / 2, jnp.array([0.1, -0.2]), 3000)
        return w[-1], [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2][-1][-1]

    w, nu = map(np.asarray, run())
    found = formula(cached_central_flow(optax.adamw), "rest_gradient")(weight=w, nu=nu, weight_decay=decay, eps=1e-12)
    # (1 - eta omega)^3000 = 1e-21
    np.testing.assert_allclose(np.asarray(push) + bend * w, found, rtol=1e-10)
    assert np.all(np.abs(found) > 0.1)


def test_formulas_become_jax_functions():
    """`Theorem.numeric` under jit and grad, against the NumPy functions of these tests."""
    law = cached_central_flow(optax.adam)
    inner = {"b1": 0.3, "sharpening": 0.4, "slope_sq": 1.3, "still": 0.1, "moved": 0.7}
    found = jax.jit(law.numeric("variance"))(**inner)
    np.testing.assert_allclose(found, formula(law, "variance")(**inner), **SAME)
    slope = jax.grad(lambda s: law.numeric("variance")(**{**inner, "sharpening": s}))(0.4)
    np.testing.assert_allclose(
        slope * 0.4 + formula(law, "variance")(**{**inner, "sharpening": 0.0}), found, rtol=1e-10
    )


@pytest.mark.parametrize("rule", ["delayed_gradient", "schedule_free_sgd", "novograd"])
def test_refusals(rule):
    with pytest.raises(NoLinearEdge):
        central_flow_law(NAMED[rule])


def test_what_is_shared_by_weights_is_said():
    def plain(learning_rate, b1=0.9, b2=0.25):
        return optax.novograd(learning_rate, b1, b2)

    law = central_flow_law(plain)
    assert [str(s) for s in law.state.shared] == ["nu"] and any("sum G^2" in a for a in law.assumptions)


def test_a_preconditioner_without_a_rate_stays_open():
    law = cached_central_flow(NAMED["amsgrad"])
    assert "preconditioner_rate" not in law.expressions and {"m0", "m1"} <= {str(s) for s in law.variance.free_symbols}


# ---------------------------------------------------------------------------------------------------------------
# Slow state

MOMENTS = {
    "adam": {"b1": 0.6, "b2": 0.8},
    "adabelief": {"b1": 0.6, "b2": 0.8},
}


@pytest.mark.parametrize("rule", MOMENTS)
def test_second_moments_of_an_alternating_gradient(rule):
    """Fed with G + (-1)^n h by optax itself, the mean over a period settles where the averaged step stands still."""
    mean, swing = 0.7, 1.3
    made = NAMED[rule](0.1, **MOMENTS[rule])
    theorem = cached_edge(NAMED[rule])
    (leaf,) = theorem.slow

    @jax.jit
    def run():
        gradients = (mean + swing * (-1.0) ** jnp.arange(400))[:, None]
        return jax.lax.scan(lambda s, g: (made.update(g, s, jnp.zeros(1))[1],) * 2, made.init(jnp.zeros(1)), gradients)[
            1
        ]

    history = jax.tree_util.tree_flatten_with_path(run())[0]
    name = str(leaf).rstrip("_")
    (values,) = [np.asarray(v)[:, 0] for path, v in history if str(path[-1]).strip(".'[]") == name]
    hyper = MOMENTS[rule] | {"learning_rate": 0.1, "mean_gradient": mean, "gradient_variance": swing**2}
    hyper |= {"eps_root": 1e-16}
    found = averaged_slow_state(NAMED[rule], theorem).rate[leaf]
    rate = as_jax(found, {**theorem.symbols, str(leaf): leaf, "mean_gradient": G, "gradient_variance": q})
    settled = float(values[-2:].mean())
    # bias corrections and start-up have faded by 0.9^400; eps_root of AdaBelief 1e-16
    np.testing.assert_allclose(rate(**hyper, **{str(leaf): settled}), 0, atol=1e-12)
    assert abs(float(rate(**hyper, **{str(leaf): 1.02 * settled}))) > 1e-3


def test_adagrad_adds_up():
    (rate,) = cached_central_flow(NAMED["adagrad"]).state.rate.values()
    assert rate == G**2 + q
    assert not averaged_slow_state(NAMED["gd"], cached_edge(NAMED["gd"])).after


# ---------------------------------------------------------------------------------------------------------------
# Do second moments settle at the edge?

BALANCES = {"adam": {"b1": 0.4, "b2": 0.9}, "nadam": {"b1": 0.7, "b2": 0.8}, "adabelief": {"b1": 0.6, "b2": 0.95}}


@cache
def balance(rule):
    return balance_law(NAMED[rule])


@pytest.mark.parametrize("rule", BALANCES)
def test_multipliers_of_the_balanced_cycle(rule):
    """The Jacobian of optax's own step at the cycle, turned by -1, has the polynomial's roots; Jury says the same."""
    hyper, law, flow = BALANCES[rule], balance(rule), cached_edge(NAMED[rule])
    b1 = hyper["b1"]
    eta = float(flow.numeric("threshold")(learning_rate=1.0, **hyper))  # times P: of nu = 1 under a swing of 1
    scale = 4 * b1**2 / (1 + b1) ** 2 if rule == "adabelief" else 1.0
    more = {"eps_root": 0.0} if rule == "adabelief" else {}
    made = NAMED[rule](eta * np.sqrt(scale), **hyper, eps=0.0, **more)
    count = jnp.asarray(10**5)

    def step(v):
        (inner, *others) = made.init(v[0])
        update, (after, *_) = made.update(v[0], (inner._replace(count=count, mu=v[1], nu=v[2]), *others), v[0])
        return jnp.stack([-(v[0] + update), -after.mu, after.nu])

    cycle = jnp.array([1.0, -(1 - b1) / (1 + b1), scale])
    np.testing.assert_allclose(step(cycle), cycle, rtol=1e-10)
    found = np.linalg.eigvals(np.asarray(jax.jit(jax.jacfwd(step))(cycle)))
    values = {flow.symbols[n]: sp.Rational(str(v)) for n, v in hyper.items()}
    roots = np.array(sp.Poly(law.expressions["polynomial"].xreplace(values), sp.Symbol("z")).nroots(), complex)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(roots), atol=1e-9)
    stable = all(c.xreplace(values) > 0 for n, c in law.expressions.items() if n.startswith("condition"))
    assert stable == bool(np.abs(roots).max() < 1) == (rule == "nadam")


def test_where_adam_settles():
    """b1^2 b2 - 3 b1 (1 + b2) + 1 > 0; then its edge ratio stands still at 1, else it goes on circling."""
    law = balance("adam")
    b1, b2 = (cached_edge(NAMED["adam"]).symbols[n] for n in ("b1", "b2"))
    decisive = sp.cancel(law.expressions["condition_3"] / ((1 - b2) * (b1**2 * b2 - 3 * b1 * (1 + b2) + 1)))
    assert decisive.is_positive

    @jax.jit
    def ratios(b1):
        made = optax.adam(1e-3, b1=b1, b2=0.95, eps=0.0)

        def step(carry, _):
            x, state = carry
            update, state = made.update(x, state, x)
            return (x + update, state), 1e-3 / jnp.sqrt(state[0].nu) / (2 * (1 + b1) / (1 - b1))

        return jax.lax.scan(step, (jnp.asarray(1e-3), made.init(jnp.zeros(()))), None, length=10_000)[1][-2000:]

    settled, circling = (np.asarray(ratios(b)) for b in (0.1, 0.3))
    np.testing.assert_allclose(settled, 1, rtol=1e-6)
    assert circling.std() > 0.05


def test_where_the_others_settle():
    grid = [(i / 20, 0.6 + j / 50) for i in range(20) for j in range(1, 20)]
    for rule, expected in (("nadam", True), ("adabelief", False)):
        symbols = [cached_edge(NAMED[rule]).symbols[n] for n in ("b1", "b2")]
        conditions = [c for n, c in balance(rule).expressions.items() if n.startswith("condition")]
        smallest = sp.lambdify(symbols, sp.Matrix(conditions), "numpy")
        assert {bool(np.min(smallest(*p)) > 0) for p in grid if p[0] > 0} == {expected}


# ---------------------------------------------------------------------------------------------------------------
# The exact toy


@jax.jit
def toy_run(eta, zeta, eps):
    def loss(w):
        return (w[1] + zeta * w[0]) * w[0] ** 2 / 2 - eps * (w[0] + w[1])

    start = jnp.stack([jnp.sqrt(2 * eps), 2 / eta])
    w = jax.lax.fori_loop(0, 60_000, lambda _, w: w - eta * jax.grad(loss)(w), start)
    return jnp.stack([w, w - eta * jax.grad(loss)(w)])


def test_the_toys_cycle():
    """Past zeta^2 = 2/9 the cycle attracts, so that gradient descent finds it by itself."""
    eta, zeta, errors, pushes = 0.3, 0.8, [], np.array([8e-3, 4e-3, 2e-3])
    theorem = toy_centre()
    for eps in pushes:
        ends = np.asarray(toy_run(eta, zeta, eps))
        (x, y), here = ends.mean(0), {"learning_rate": eta, "zeta": zeta, "eps": eps}
        exact = [formula(theorem, name)(**here, x=x) for name in ("cubic", "cycle_y", "amplitude_sq", "mean_square_x")]
        swing = (ends[0] - ends[1]) / 2
        np.testing.assert_allclose(exact, [0, y, swing[0] ** 2, (ends[:, 0] ** 2).mean()], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(formula(theorem, "ripple")(**here, x=x), swing[1] / swing[0], rtol=1e-6)
        np.testing.assert_allclose((ends[:, 0] ** 2).mean(), 2 * eps, rtol=1e-9)
        errors.append([abs(formula(theorem, n)(**here) - v) for n, v in (("mean_x", x), ("mean_y", y))])
    slopes = np.diff(np.log(errors), axis=0) / np.diff(np.log(pushes))[:, None]
    np.testing.assert_allclose(slopes, 2, atol=0.1)  # the next order in eps


def test_three_roads_to_the_toys_centre():
    """The cycle, the central flow's point of rest, and the small orbits of the multiple scales."""
    theorem = toy_centre().expressions
    for one, other in (("mean_x", "flow_x"), ("mean_y", "flow_y"), ("mean_square_x", "flow_variance")):
        assert sp.expand(theorem[one] - theorem[other]) == 0
    zeta, eta, eps = (toy_centre().arguments[n] for n in ("zeta", "learning_rate", "eps"))
    jet = {sp.Symbol(n, real=True): sp.Integer(0) for n in ("c4", "h", "m", "p")}
    jet |= {sp.Symbol("c3", real=True): 3 * zeta, sp.Symbol("f", real=True): sp.Integer(1)}
    lift = (
        general_motion()
        .lift[0]
        .xreplace({**filter_values(sp.Integer(1)), **jet, ALPHA: sp.Integer(1), BETA: sp.Integer(1)})
    )
    assert sp.expand(theorem["mean_y"] - 2 / eta - eps * lift) == 0


def test_on_a_cubic_loss_the_flow_rests_exactly_on_the_cycle():
    """At any point of the derived cycle the equations of rest hold identically, not to first order only: with a the
    swing, H a = (2/eta) a and grad L + |a|^2 grad S/2 = 0.
    """
    theorem, loss = toy_centre(), LOSS
    eta, x = (theorem.arguments[n] for n in ("learning_rate", "x"))
    y, ripple = sp.Symbol("y", real=True), theorem.expressions["ripple"]
    swing, hessian = sp.Matrix([1, ripple]), sp.hessian(loss, (x, y))
    cubic = sp.Poly(sp.numer(sp.together(theorem.expressions["cubic"])), x)

    def vanishes(expression):
        there = sp.together(expression.xreplace({y: theorem.expressions["cycle_y"]}))
        return sp.rem(sp.Poly(sp.numer(there), x), cubic).is_zero

    at_edge = hessian * swing - 2 / eta * swing
    # grad S = d^3 L[a, a]/|a|^2 for the eigenvector a
    square = theorem.expressions["amplitude_sq"]
    slopes = [sp.diff(loss, v) + square / 2 * (swing.T * sp.diff(hessian, v) * swing)[0] for v in (x, y)]
    assert [vanishes(sp.expand(e)) for e in [*at_edge, *slopes]] == [True] * 4
