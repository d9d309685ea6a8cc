"""The law of settling: its averaged motion against exact steps, its jets against autodiff, its Lambert branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw

import theory
from theory.self_stabilization import settling
from theory.self_stabilization.settling import LOCAL, curve_of_minima, settled, settling_law
from theory.toy_losses.second_order_model import model, second_order_settling
from toylab import problems
from toylab.optimizers import NAMED

solve = jax.jit(settled)


@pytest.fixture(scope="module")
def gd():
    return settling_law(theory.cached_edge(NAMED["gd"]))


@pytest.fixture(scope="module")
def heavy_ball():
    return settling_law(theory.cached_edge(NAMED["heavy_ball"]))


@pytest.mark.slow
def test_the_ansatz_solves_one_step_of_gradient_descent():
    """Put "mean plus (-1)^t envelope" with the derived rates into the exact map: what is left is of fourth order."""
    moved = settling._balance()
    loss, x, t = settling._loss()
    size, sign = sp.symbols("size sign")
    a, eta = settling._a, settling._rate
    across, along = settling._envelope, settling._along
    b21, b12 = settling._b21, settling._b12
    gd = {settling._kappa: 1, settling._bend: 0, settling._dc: 1, settling._lag: 0, eta: 2 / a}
    sharp_bend = (a * settling._b22 + 2 * b12**2 - b12 * settling.cubic) / (2 * a)
    excess = size * b21 * along + size**2 * sharp_bend * along**2
    power = size**2 * across**2
    rate = moved.growth * excess + moved.growth2 * excess**2 + moved.saturation * power
    climb = power * (-moved.slide + moved.slide2 * excess)  # y' ; t' = y'/(dy/dt)
    rate, climb = (sp.expand(e.subs(gd)) for e in (rate, climb))
    # y' = (dy/dt) t', inverted to the order that counts
    slide = sp.expand(climb / size / b21 * (1 - 2 * size * sharp_bend * along / b21))

    def flow(f):
        return sp.diff(f, across) * across * rate + sp.diff(f, along) * slide

    def place(big_a, big_t, s):
        mean = -(settling.cubic * big_a**2 + b12 * big_t**2) / (2 * a)
        return size * s * big_a + size**2 * mean, size * big_t + size**2 * s * b12 * big_a * big_t / a

    def low(e):
        """Up to third order in size, as polynomial in it and in sign (sign^2 = 1)."""
        found = {}
        for (order, odd), c in sp.Poly(sp.expand(e), size, sign).terms():
            if order <= 3:
                key = (order, odd % 2)
                found[key] = found.get(key, 0) + c
        return found

    here = place(across, along, sign)
    step = dict(zip((x, t), here, strict=True))
    ahead = [f + flow(f) + flow(flow(f)) / 2 for f in (across, along)]
    ahead = [sp.Add(*(c * size**n for (n,), c in sp.Poly(sp.expand(f), size).terms() if n <= 2)) for f in ahead]
    there = place(*ahead, -sign)
    for variable, now, then in zip((x, t), here, there, strict=True):
        left = then - now + (2 / a) * sp.diff(loss, variable).subs(step, simultaneous=True)
        for (order, odd), c in low(left).items():
            # mean of x and oscillation of t are carried to second order: their third does not react on the law
            if order <= 2 or (odd == 1) == (variable == x):
                assert sp.expand(c) == 0, (variable, order, odd)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["product_regression", "minimalist", "hyperbolic_product"])
def test_jets_are_derivatives_of_the_loss(name):
    problem = problems.NAMED[name]()
    p = sp.Symbol("p", positive=True)
    found = curve_of_minima(problem.value, (p, 1 / p), (p,))

    @jax.jit
    def by_autodiff(s):
        """At (e^s, e^-s): sharpness, its two derivatives in arc length, and the loss's along u."""

        def top(s):  # the other eigenvalue is zero
            return jnp.trace(jax.hessian(problem.value)(jnp.stack([jnp.exp(s), jnp.exp(-s)])))

        length, stretch = jnp.sqrt(2 * jnp.cosh(2 * s)), 2 * jnp.sinh(2 * s)  # r = |d(e^s, e^-s)/ds|, r dr/ds
        first, second = jax.grad(top)(s), jax.grad(jax.grad(top))(s)
        bend = second / length**2 - first * stretch / length**4
        u = jnp.stack([jnp.exp(-s), jnp.exp(s)]) / length

        def third(a):
            line = lambda b: problem.value(jnp.stack([jnp.exp(s), jnp.exp(-s)]) + b * u)  # noqa: E731
            return jax.grad(jax.grad(jax.grad(line)))(a)

        return top(s), (first / length) ** 2, bend, third(0.0), jax.grad(third)(0.0)

    for where in (1.2, 3.0):
        sharpness, slope_sq, bend, third, fourth = by_autodiff(jnp.log(where))
        values = {n: float(found.numeric(n)(p=where)) for n in found.expressions}
        np.testing.assert_allclose(values["sharpness"], sharpness, rtol=1e-12)  # roundings, here and below
        np.testing.assert_allclose(values["grad_sharpness_sq"], slope_sq, rtol=1e-10)
        np.testing.assert_allclose(values["sharpness_curvature"], bend, rtol=1e-10)
        np.testing.assert_allclose(abs(values["cubic"]), abs(third), rtol=1e-10)  # the sign of u is free
        np.testing.assert_allclose(values["quartic"], fourth, rtol=1e-10)


def test_points_off_the_curve_are_refused():
    value = problems.minimalist().value
    with pytest.raises(theory.Refusal, match="not on a curve of minima"):
        curve_of_minima(value, (sp.Integer(2), sp.Integer(1)))
    with pytest.raises(theory.Refusal, match="not constant along a curve"):
        curve_of_minima(lambda w: w[0] ** 2 / 2 + w[1] ** 4, (sp.Integer(0), sp.Integer(0)))


def test_rules_without_the_law_are_refused():
    for name in ("adam", "ema_cascade"):
        with pytest.raises(theory.NoLinearEdge, match="no law of settling"):
            settling_law(theory.cached_edge(NAMED[name]))


def test_heavy_ball_without_momentum_is_gradient_descent(gd, heavy_ball):
    momentum = heavy_ball.arguments["momentum"]
    for name in ("coefficient", "far_gap", "threshold", "invariant"):
        difference = heavy_ball.expressions[name].subs(momentum, 0) - gd.expressions[name]
        assert sp.simplify(difference) == 0, name


def test_momentum_lags(heavy_ball):
    """The rule's own part is always against settling, and (1 + b)/(1 - b)^2 times as strong as without momentum."""
    eta, momentum = heavy_ball.arguments["learning_rate"], heavy_ball.arguments["momentum"]
    lag = heavy_ball.expressions["lag"]
    assert sp.simplify(lag / lag.subs(momentum, 0) - (1 + momentum) / (1 - momentum) ** 2) == 0
    assert lag.subs({eta: 1, momentum: sp.Rational(1, 2)}) < 0


@pytest.mark.slow
def test_two_derivations_of_the_second_order_model_agree(gd):
    """The gap from the closed map in (f, R) equals the far gap of the general law at the model's own minima."""
    found = second_order_settling()
    first, second, epsilon = sp.Rational(6, 5), sp.Integer(2900), sp.Rational(1, 10**7)
    goal = (first**2 - epsilon * second**2) / 2
    numbers = float(epsilon), float(goal)
    valley = curve_of_minima(lambda w: 0.5 * jnp.square(model(w, *numbers)), (first, second))
    rate = 2 / float(valley.expressions["sharpness"])
    local = {name: float(valley.expressions[name]) for name in LOCAL}
    gap = float(gd.numeric("far_gap")(learning_rate=rate, **local)) / float(epsilon)
    # the first is the limit, the second has epsilon = 1e-7
    np.testing.assert_allclose(gap, found.numeric("gap")(learning_rate=rate, target=float(goal)), rtol=1e-5)


@given(st.floats(0.001, 0.2), st.floats(0.05, 0.5), st.floats(-0.3, 0.3), st.floats(0.5, 3.0))
def test_the_closed_map_is_a_step_of_the_model(epsilon, target, residual, scale):
    found = second_order_settling()
    problem = problems.second_order_model(epsilon, target)
    kernel = 2 * target + scale
    rising = (kernel - 2 * target) / (1 + epsilon)
    weights = jnp.sqrt(jnp.asarray([2 * (residual + target) + rising + 1e-300, rising / epsilon]))
    if not np.isfinite(np.asarray(weights)).all():
        return
    after = weights - 0.5 * problem.gradient(weights)
    values = {"learning_rate": 0.5, "epsilon": epsilon, "target": target, "residual": residual, "kernel": kernel}
    f = model(after, epsilon, target)
    big = after[0] ** 2 + epsilon**2 * after[1] ** 2 - 2 * f
    # roundings of sums of terms of the size of the kernel
    np.testing.assert_allclose(found.numeric("next_residual")(**values), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found.numeric("next_kernel")(**values), big, rtol=1e-11)
