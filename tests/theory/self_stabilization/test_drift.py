"""The drift law against Jacobians and long runs of maps written by hand, for random jets; where it does not reach."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.handwritten import RULES, gradient, model, slow_pair, two_cycle
from theory.edges.filter_numbers import KAPPA, Q1, K
from theory.losses.plane_jet import ALPHA, BETA, Jet, S
from theory.self_stabilization.any_rule import cached_stabilization
from theory.self_stabilization.drift import drift_law
from theory.self_stabilization.multiple_scales import A, cubic_motion, eta, general_motion, slow_motion
from theory.self_stabilization.orbits import mean_square_rate
from toylab.optimizers import NAMED

ETA = 0.3
POINTS = {"momentum": 0.3, "b1": 0.4, "alpha": 0.8, "beta": 0.3}
units = st.floats(-1, 1)
jets = st.fixed_dictionaries(dict.fromkeys(("c3", "c4", "p", "m", "h", "f"), units))


def numbers_of(rule):
    theorem = cached_stabilization(NAMED[rule])
    named = {n: v for n, v in POINTS.items() if n in theorem.edge.symbols}
    return named, theorem.at(learning_rate=ETA, **named)


def scaled(jet, alpha):
    """Weak parts in units of the push, curvatures in units of the learning rate, so that all parts of c compare."""
    return jet | {"c4": jet["c4"] * ETA, "p": jet["p"] * ETA, "h": jet["h"] * alpha * ETA, "f": jet["f"] * alpha * ETA}


def law(numbers, alpha, beta, jet):
    """Every expression of the drift law at these numbers."""
    arguments, expressions = drift_law().arguments, drift_law().expressions
    named = {
        "learning_rate": numbers.learning_rate,
        "kappa": numbers.kappa,
        "gain": numbers.gain,
        "lag": numbers.lag,
        "bend": numbers.bend,
        "sharpness": numbers.threshold(),
        "sharpening_rate": alpha,
        "grad_sharpness_sq": beta,
        "third": jet["c3"],
        "fourth": jet["c4"],
        **{n: jet[n] for n in ("f", "h", "m", "p")},
    }
    at = {arguments[n]: v for n, v in named.items()}
    at |= {arguments[n]: expressions[n].xreplace(at) for n in ("floor_sharpness", "floor_loss")}
    return {n: float(e.xreplace(at)) for n, e in expressions.items()}


# ---------------------------------------------------------------------------------------------------------------
# Small orbits


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=3)
@given(jet=jets, beta=st.floats(0.5, 2.0))
def test_growth_around_the_two_cycle_for_random_jets(rule, jet, beta):
    named, numbers = numbers_of(rule)
    pushes, errors = np.array([1e-4, 2.5e-5]), []
    for push in pushes:
        alpha = push / (2 * ETA**2 * numbers.kappa * numbers.gain)
        here = scaled(jet, alpha)
        growth, _ = slow_pair(two_cycle(RULES[rule](named), ETA, model(numbers.threshold(), alpha, beta, **here))[1])
        errors.append(growth / push - law(numbers, alpha, beta, here)["drift"] / (2 * numbers.kappa) / push)
    # the next order is O(push) of the leading one, whose parts are of order one: 0.1 of it at a push of 1e-4 would be a
    # coefficient of a thousand; a quarter of the push leaves a quarter of it.  1e-6: rounding of log|multiplier|/push
    assert abs(errors[0]) < 0.1 and abs(errors[1]) <= 0.3 * abs(errors[0]) + 1e-6, errors


@given(jets, st.floats(0.5, 2.0))
def test_the_law_speaks_of_the_floor_of_the_valley(jet, beta):
    """S'' and L'' along the floor by finite differences of lambda_max and L on the solved curve L_x = 0."""
    alpha, here = 1.0, {**jet, "h": 0.0, "f": 0.0}
    c = model(2 / ETA, alpha, beta, **here)
    # with alpha, f and h the strong part alone: alpha moves s only and leaves lambda_max and the curve as they are

    def sharpness(s):
        x = 0.0
        for _ in range(40):
            x -= gradient([x, s], c)[0] / c["S"]
        step = 1e-4
        rows = [(gradient([x + a, s + b], c) - gradient([x - a, s - b], c)) / (2 * step) for a, b in step * np.eye(2)]
        return np.linalg.eigvalsh(np.array(rows))[-1]

    d = 0.02
    second = (sharpness(d) - 2 * sharpness(0.0) + sharpness(-d)) / d**2
    _, numbers = numbers_of("gd")
    found = law(numbers, alpha, beta, here)["floor_sharpness"]
    np.testing.assert_allclose(second, found, atol=2e-3)  # d^2/12 times a fourth derivative of order ten
    # L'' of the weak part: h s^2/2 - f x on x = -m s^2/(2 S)
    weak = law(numbers, alpha, beta, jet)["floor_loss"]
    np.testing.assert_allclose(weak, jet["h"] + jet["f"] * jet["m"] * ETA / 2, rtol=1e-12, atol=1e-12)


def test_signs_of_the_valleys_part():
    """(beta/2) d(delta^2)/dS = -(L'' + alpha S''/beta), from delta^2 = -2 L'/S' by the chain rule."""
    s, a, b, bend, curve = sp.symbols("s a b bend curve")
    loss, sharp = -a / sp.sqrt(b) * s + bend * s**2 / 2, sp.sqrt(b) * s + curve * s**2 / 2
    amplitude = -2 * sp.diff(loss, s) / sp.diff(sharp, s)
    slope = (sp.diff(amplitude, s) / sp.diff(sharp, s)).subs(s, 0)
    assert sp.simplify(b / 2 * slope + bend + a * curve / b) == 0
    e, names = drift_law().expressions["drift"], drift_law().arguments
    valley = sp.expand(e).coeff(names["floor_loss"]) * bend + sp.expand(e).coeff(names["floor_sharpness"]) * curve
    assert sp.simplify((valley / (eta * KAPPA * Q1)).subs({ALPHA: a, BETA: b}) - b / 2 * slope) == 0


def test_special_cases_by_hand():
    drift = sp.expand(cubic_motion().drift)
    gd = {KAPPA: 1, Q1: 1, sp.Symbol("q1", real=True): 0, sp.Symbol("k2", real=True): 0, K: 2}
    assert sp.expand(drift.subs(gd) - 2 * eta**2 * ALPHA) == 0
    # Berthier: c3 = 3 zeta, alpha = beta = 1, S = 2/eta: eta^2 (2 - 9 zeta^2)
    zeta = sp.Symbol("zeta", real=True)
    berthier = slow_motion(Jet(S, ALPHA, BETA, 3 * zeta)).drift.subs(gd).subs({ALPHA: 1, BETA: 1})
    assert sp.expand(berthier - eta**2 * (2 - 9 * zeta**2)) == 0
    # curvature h along s alone takes Q(1) eta h y from y: dE/dn = -eta kappa Q(1) h <y^2>
    h = sp.Symbol("h", real=True)
    change = sp.expand(slow_motion(Jet(S, ALPHA, BETA, transverse=h)).drift - cubic_motion().drift)
    assert sp.expand(change + eta * KAPPA * Q1 * h) == 0


def test_the_cubic_motion_is_the_general_one_of_its_jet():
    none = dict.fromkeys(sp.symbols("c3 c4 f h m p", real=True), 0)
    assert sp.simplify(general_motion().drift.xreplace({k: sp.Integer(v) for k, v in none.items()})
                       - cubic_motion().drift) == 0  # fmt: skip
    assert cubic_motion().ripple == 0 and cubic_motion().offset == 0
    assert sp.expand(general_motion().amplitude).coeff(sp.Symbol("r", positive=True), 0).has(A)


# ---------------------------------------------------------------------------------------------------------------
# Orbits of finite amplitude


def revolution(alpha, beta, jet, start, steps):
    """GD by hand from (start delta, 0): energy at the first two crossings of log|x| through its centre, and means.

    Returns (change of E per step, <y^2>, mean of y) from one highest s to the next.
    """
    c = model(2 / ETA, alpha, beta, **jet)
    w, path = np.array([start * np.sqrt(2 * alpha / beta), 0.0]), []
    for _ in range(steps):
        path.append(w)
        w = w - ETA * gradient(w, c)
    x, s = np.array(path).T
    weights = np.array([1, 4, 6, 4, 1]) / 16
    level = np.sqrt(beta) * np.convolve(s, weights, "valid")
    swing = np.abs(np.convolve(x * (-1.0) ** np.arange(steps), weights, "valid"))

    def maxima(values):
        i = np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])) + 1
        left, middle, right = values[i - 1], values[i], values[i + 1]
        return i + (left - right) / (2 * (left - 2 * middle + right)), middle - (left - right) ** 2 / (
            8 * (left - 2 * middle + right)
        )

    quiet, depth = maxima(-np.log(swing))
    small = np.exp(-2 * depth[:2])
    energy = beta * small / 4 - alpha * np.log(small) / 2
    high = maxima(level)[0]
    grid = np.concatenate([[high[0]], np.arange(np.ceil(high[0]), np.floor(high[1]) + 1), [high[1]]])

    def mean(values):
        return np.trapezoid(np.interp(grid, np.arange(len(values)), values), grid) / (high[1] - high[0])

    return (energy[1] - energy[0]) / (quiet[1] - quiet[0]), mean(level**2), mean(level)


@pytest.mark.parametrize("seed", [1, 2])
def test_energy_and_mean_of_a_whole_orbit(seed):
    """At level 1.2 or so, all derivatives at once: dE/dn = c <y^2>, <y> = excess + excess_slope <y^2>."""
    random = np.random.default_rng(seed)
    jet = dict(zip(("c3", "c4", "p", "m", "h", "f"), random.uniform(-1, 1, 6), strict=True))
    beta, start, _ = 1.4, 0.4, numbers_of("gd")
    turns, left = np.array([0.01, 0.005]), []
    for turn in turns:
        alpha = turn**2 / (2 * ETA**2)
        here = scaled(jet, alpha)
        change, square, mean = revolution(alpha, beta, here, start, int(15 / turn))
        known = law(numbers_of("gd")[1], alpha, beta, here)
        np.testing.assert_allclose(
            square, alpha * mean_square_rate(start**2 - np.log(start**2) - 1) / 2, rtol=0.15
        )  # the drift of E
        predicted = known["excess"] + known["excess_slope"] * square
        left.append([(change / square - known["drift"]) / (2 * ETA**2 * alpha), (mean - predicted) / alpha])
    # linear in the turn, so that half the turn leaves half of it and two turns extrapolate to its square
    assert np.all(np.abs(left) < 0.1), left
    assert np.all(np.abs(2 * np.array(left[1]) - left[0]) < 2e-3), left


def test_the_mean_of_the_sharpness_is_more_than_that_of_y():
    """What `excess` speaks of is y, linear in s: the sharpness on the floor has S'' <s^2>/2 in addition."""
    beta, turn = 1.4, 0.004
    alpha = turn**2 / (2 * ETA**2)
    jet = dict.fromkeys(("c3", "c4", "m", "h", "f"), 0.0) | {"p": 0.5}
    known = law(numbers_of("gd")[1], alpha, beta, jet)
    _, square, mean = revolution(alpha, beta, jet, 0.4, int(15 / turn))
    predicted = known["excess"] + known["excess_slope"] * square
    extra = known["floor_sharpness"] * square / (2 * beta)
    assert abs(mean - predicted) < 0.05 * extra and extra > 0.05 * alpha


# ---------------------------------------------------------------------------------------------------------------
# Where the law of the plane stops: other directions


def steps_of(gradient_of, w, count):
    path = np.empty((count, len(w)))
    for i in range(count):
        path[i] = w
        w = w - ETA * gradient_of(w)
    return path


def extremes(y):
    """Indices of as many interior maxima as minima."""
    tops = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:])) + 1
    deep = np.flatnonzero((y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:])) + 1
    count = min(len(tops), len(deep))
    return tops[:count], deep[:count]


def test_a_stiff_direction_that_sharpens_counts_as_a_quartic():
    """L has b x^2 q/2 + l q^2/2 with l = O(1): q follows -b <x^2>/(2 l), so c4 acts as c4 - 3 b^2/l, and grad S_perp of
    the law is its soft part only.
    """
    c3, c4, b, stiff, alpha = 0.4, 0.1, 0.8, 1.3, 1e-4 / (2 * ETA**2)

    def slope(w):
        x, s, q = w
        along = (2 / ETA + s + b * q) * x + c3 * x**2 / 2 + c4 * x**3 / 6
        return np.array([along, x**2 / 2 - alpha, b * x**2 / 2 + stiff * q])

    def jacobian(w):
        x, s, q = w
        top = 2 / ETA + s + b * q + c3 * x + c4 * x**2 / 2
        return np.eye(3) - ETA * np.array([[top, x, b * x], [x, 0, 0], [b * x, 0, stiff]])

    w = np.array([np.sqrt(2 * alpha), 0.0, -b * alpha / stiff])
    for _ in range(20):
        middle = w - ETA * slope(w)
        twice = jacobian(middle) @ jacobian(w)
        w = w - np.linalg.solve(twice - np.eye(3), middle - ETA * slope(middle) - w)
    growth, angle = slow_pair(twice)
    _, numbers = numbers_of("gd")
    flat = dict.fromkeys(("p", "m", "h", "f"), 0.0) | {"c3": c3}
    naive, whole = (law(numbers, alpha, 1.0, flat | {"c4": v})["drift"] / 2 for v in (c4, c4 - 3 * b**2 / stiff))
    assert naive > 0 > whole
    # the next order is the push, 1e-4, times ratios of curvatures of order ten
    np.testing.assert_allclose([growth, angle], [whole, 1e-2], rtol=5e-3)


def test_a_push_that_changes_in_time_is_an_adiabatic_drift_besides():
    """grad L along a third direction q, on which alpha depends: y grows as alpha^(1/4) besides the drift of the law.

    The action E/omega is kept, E ~ kappa y^2, omega ~ sqrt(alpha).
    """
    turn = 0.002
    alpha = turn**2 / (2 * ETA**2)
    pull = 2 * ETA * alpha

    def slope(w):
        x, s, q = w
        return np.array([(2 / ETA + s) * x, x**2 / 2 - alpha * (1 + q), -pull - alpha * s])

    path = steps_of(slope, np.array([1.05 * np.sqrt(2 * alpha), 0.0, 0.0]), int(2 * np.pi * 6 / turn))
    y, q = path[:, 1], path[:, 2]
    tops, deep = extremes(y)
    size = (y[tops] - y[deep]) / 2
    last = tops[-1]
    own = ETA**2 * alpha * (last - tops[0] + np.sum(q[tops[0] : last]))  # eta^2 alpha(q) a step
    adiabatic = np.log((1 + q[last]) / (1 + q[tops[0]])) / 4
    np.testing.assert_allclose(np.log(size[-1] / size[0]), own + adiabatic, rtol=0.03)  # the next order of the turn
    assert abs(np.log(size[-1] / size[0]) / own - 1) > 0.2  # the law of the plane alone would not do
