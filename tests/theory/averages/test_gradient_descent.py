"""The central flow of gradient descent against brute-force averages, and the complementarity problem it solves."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.formulas import formula
from tests.theory.runs import centre
from theory.averages.gradient_descent import PAIRS, central_flow_gd, central_flow_gd_block

seeds = st.integers(0, 2**31)


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
