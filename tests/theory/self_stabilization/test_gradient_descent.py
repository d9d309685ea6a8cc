"""Self-stabilization against maps written by hand: the cubic map, its 2-cycle, the multipliers of every rule."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from tests.theory.handwritten import RULES, gradient, hessian, model, momentum, slow_pair, two_cycle
from theory.errors import BadFactory, NoLinearEdge
from theory.self_stabilization.any_rule import cached_stabilization, stabilization
from theory.self_stabilization.floquet import PUSH, cycle_multipliers, cycle_polynomial, growth_by_series
from theory.self_stabilization.gradient_descent import averaged_motion, cubic_map
from toylab.optimizers import NAMED, delayed_gradient

eta_, alpha_, beta_ = st.floats(0.05, 1.0), st.floats(0.01, 1.0), st.floats(0.2, 3.0)
# Closed forms of some ten operations.
SAME = {"rtol": 1e-12, "atol": 1e-12}


def values(eta, alpha, beta, **more):
    return {"learning_rate": eta, "sharpening_rate": alpha, "grad_sharpness_sq": beta, **more}


# ---------------------------------------------------------------------------------------------------------------
# Gradient descent


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


# ---------------------------------------------------------------------------------------------------------------
# Multipliers of the 2-cycle of other rules

POINTS = {"momentum": 0.35, "b1": 0.6, "alpha": 0.8, "beta": 0.45}


def at_point(rule, eta=0.3, scale=1.0):
    theorem = cached_stabilization(NAMED[rule])
    named = {n: scale * v for n, v in POINTS.items() if n in theorem.edge.symbols}
    return theorem, named, theorem.at(learning_rate=eta, **named)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("push", [0.2, 1e-2, 1e-4])
def test_multipliers_are_those_of_the_rule_written_by_hand(rule, push):
    eta, (theorem, named, numbers) = 0.3, at_point(rule)
    c = model(numbers.threshold(), push / eta**2, 1.7)
    v, twice = two_cycle(RULES[rule](named), eta, c)
    np.testing.assert_allclose(v[:2], [np.sqrt(2 * push / 1.7) / eta, 0], atol=1e-10)
    symbols = theorem.edge.symbols
    hyper = {symbols[n]: sp.Float(x, 30) for n, x in (named | {"learning_rate": eta}).items()}
    found = cycle_multipliers(theorem.edge.loop, hyper, push) ** 2
    truth = np.linalg.eigvals(twice)
    # the hand-written state is not minimal: what is left over decays at once, as its doubles do not couple
    for multiplier in found:
        assert np.min(np.abs(truth - multiplier)) < 1e-6, (rule, push, multiplier, truth)
    # eigenvalues of a matrix, double roots at zero among them, are known to the square root of rounding
    biggest = np.sort(np.abs(truth))[::-1][: len(found)]
    np.testing.assert_allclose(np.sort(np.abs(found))[::-1], biggest, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_small_orbits_turn_and_grow_as_predicted(rule):
    """Pure cubic model: angle eta sqrt(2 alpha kappa Q(1)), growth alpha eta^2 kappa Lambda = drift/(2 kappa)."""
    eta, (theorem, named, numbers) = 0.3, at_point(rule, scale=0.5)
    pushes, errors = np.array([4e-5, 1e-5]), []
    for push in pushes:
        alpha = push / eta**2
        growth, angle = slow_pair(two_cycle(RULES[rule](named), eta, model(numbers.threshold(), alpha, 0.6))[1])
        drift = theorem.numeric("drift")(learning_rate=eta, sharpening_rate=alpha, **named)
        np.testing.assert_allclose(alpha * eta**2 * numbers.kappa * numbers.lag, float(drift) / (2 * numbers.kappa))
        errors.append([angle / numbers.frequency(alpha) - 1, float(drift) / (2 * numbers.kappa * push) - growth / push])
    # both corrections are of the order of the push: a quarter of it a quarter of them; at most some ten times the push
    small, big = np.abs(errors[1]), np.abs(errors[0])
    assert np.all(small < 100 * pushes[1]) and np.all(small <= 0.26 * big + 1e-7)


def test_the_polynomial_of_gradient_descent_by_hand():
    """(log|x|, y) has the Jacobian [[1, eta], [-2 eta alpha, 1]] at lowest order: z^2 - 2 z + 1 + 2 eta^2 alpha = 0."""
    found = cycle_polynomial(cached_stabilization(NAMED["gd"]).edge.loop)
    z = sp.Symbol("z")
    by_hand = z**2 - 2 * z + 1 + 2 * PUSH
    assert sp.expand(found - sp.Poly(found, z).LC() * by_hand) == 0


NAMES = [rule for rule in NAMED if rule not in ("ema_cascade", "delayed_gradient")]


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "optimistic_gd"])
def test_the_series_of_the_multipliers_gives_frequency_and_lag(rule):
    """Two derivations: Taylor expansion of the Floquet polynomial; multiple scales.  rho = kappa Lambda, exactly."""
    _series_agrees(cached_stabilization(NAMED[rule]))


@pytest.mark.slow
@pytest.mark.parametrize("rule", NAMES)
def test_the_series_agrees_for_every_named_rule(rule):
    _series_agrees(cached_stabilization(NAMED[rule]))


def _series_agrees(theorem):
    parameters = theorem.edge.parameters
    point = {symbol: sp.Rational(n + 2, n + 5) / 3 for n, symbol in enumerate(sorted(parameters.numbers(), key=str))}
    exact = {z: value.xreplace(point) for z, value in (("k", theorem.kappa), ("g", theorem.gain), ("l", theorem.lag))}
    loop = theorem.edge.loop
    over, under = (tuple(sp.sympify(c).xreplace(point) for c in p) for p in (loop.numerator, loop.denominator))
    there = replace(loop, numerator=over, denominator=under)
    square, rho = growth_by_series(there)
    assert sp.simplify(square - 2 * exact["k"] * exact["g"]) == 0
    assert sp.simplify(rho - exact["k"] * exact["l"]) == 0


def test_momentum_destabilises():
    """Known by hand: heavy ball grows (1 + b)/(1 - b)^3 times as fast as gradient descent, 1900 at b = 0.9."""
    heavy, plain = (cached_stabilization(NAMED[n]).at(learning_rate=0.1) for n in ("heavy_ball", "gd"))
    np.testing.assert_allclose(heavy.kappa * heavy.lag / (plain.kappa * plain.lag), 1900, rtol=1e-12)


def test_optimism_damps_when_it_looks_far_enough_back():
    """Lambda changes sign where a^3 + 4 a^2 b + 2 a b^2 = 8 b^3; the rule written by hand agrees on either side."""
    for b, sign in ((0.6, 1), (1.2, -1)):
        numbers = cached_stabilization(NAMED["optimistic_gd"]).at(learning_rate=0.3, alpha=1.0, beta=b)
        c = model(numbers.threshold(), 1e-3, 1.0)
        growth, _ = slow_pair(two_cycle(RULES["optimistic_gd"]({"alpha": 1.0, "beta": b}), 0.3, c)[1])
        assert np.sign(growth) == np.sign(numbers.lag) == sign


# ---------------------------------------------------------------------------------------------------------------
# Curvature, complex pairs, refusals


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "adam"])
def test_the_damping_curvature_is_where_growth_stops(rule):
    eta, (theorem, named, numbers) = 0.3, at_point(rule, scale=0.5)
    alpha = 1e-5 / eta**2
    h = float(theorem.numeric("damping_curvature")(learning_rate=eta, sharpening_rate=alpha, **named))
    growths = [
        slow_pair(two_cycle(RULES[rule](named), eta, model(numbers.threshold(), alpha, 1.0, h=q * h))[1])[0]
        for q in (0.0, 0.98, 1.02)
    ]
    assert growths[0] > growths[1] > 0 > growths[2]


def test_decoupled_decay_damps_as_a_curvature_of_omega_over_the_gain():
    """Heavy ball by hand, w+ = (1 - eta omega) w - eta m+, at its own edge; Q(1) = 1/(1 - b)."""
    eta, b, small = 0.3, 0.4, 1e-6
    (step, jacobian, _), alpha = momentum(b), 1e-6 * (1 - b) ** 2 / (2 * eta**2)

    def growth(curvature, omega):
        c = model((2 - eta * omega) * (1 + b) / eta, alpha, 1.0, h=curvature)
        shrink = np.diag([eta * omega, eta * omega, 0, 0])

        def decayed(v):
            return step(v, eta, c) - shrink @ v, jacobian(v, eta, c) - shrink

        v = np.array([np.sqrt(2 * alpha), 0, c["S"] * np.sqrt(2 * alpha) / (1 + b), 0])
        for _ in range(30):
            middle, first = decayed(v)
            after, second = decayed(middle)
            v = v - np.linalg.solve(second @ first - np.eye(4), after - v)
        return slow_pair(second @ first)[0]

    base = growth(0.0, 0.0)
    # growth changes by -eta Q(1) h/2 and by -eta omega/2; rounding of log|multiplier|, 1e-15, over 1e-7
    np.testing.assert_allclose(growth(small, 0.0) - base, -eta * small / (1 - b) / 2, rtol=1e-4)
    np.testing.assert_allclose(growth(0.0, small) - base, -eta * small / 2, rtol=1e-4)


@pytest.mark.parametrize("delay", [1, 2])
def test_a_complex_pair_turns_at_the_leading_order_frequency(delay):
    """<x^2> = 2 alpha/beta and an angle of eta sqrt(2 alpha kappa Q(1)), kappa = Re 1/(z k'(z)), by running it."""
    eta, turn = 0.3, 0.01
    numbers = stabilization(delayed_gradient, delay=delay).at(learning_rate=eta)
    theta = np.pi / (2 * delay + 1)
    np.testing.assert_allclose(numbers.critical, 2 * np.sin(theta / 2), rtol=1e-9)  # k = (1 - z) z^delay is real there
    alpha = turn**2 / (2 * eta**2 * numbers.kappa * numbers.gain)
    c = model(numbers.threshold(), alpha, 1.0)
    past = [np.array([1.05 * np.sqrt(4 * alpha) * np.cos(theta * j), 0.0]) for j in range(-delay, 1)]
    path = []
    for _ in range(int(2.4 * 2 * np.pi / turn)):
        path.append(past[-1])
        past = [*past[1:], past[-1] - eta * gradient(past[0], c)]
    x, s = np.array(path).T
    window = np.hanning(63) / np.hanning(63).sum()  # takes the ripples of s at 2 theta away
    smooth = np.convolve(s, window, "valid")
    rise = np.flatnonzero((smooth[:-1] < 0) & (smooth[1:] >= 0))
    rise = rise + smooth[rise] / (smooth[rise] - smooth[rise + 1])
    assert len(rise) >= 2
    # level (0.05)^2 x 2 shifts the period by its twelfth, the next order in the turn by some tenths of it
    np.testing.assert_allclose(2 * np.pi / np.diff(rise) / turn, 1, rtol=5e-3)
    whole = slice(int(rise[0]), int(rise[-1]))
    np.testing.assert_allclose((x[whole] ** 2).mean(), 2 * alpha, rtol=5e-3)


def test_a_pair_has_no_drift_yet():
    theorem = cached_stabilization(NAMED["delayed_gradient"])
    assert theorem.drift is None and theorem.lag is None and theorem.kappa is None
    numbers = theorem.at(learning_rate=0.3)
    assert numbers.kappa > 0 and numbers.lag is None and numbers.frequency(1.0) > 0


@pytest.mark.slow
def test_a_cascade_has_a_drift_at_its_flip_only():
    cascade = cached_stabilization(NAMED["ema_cascade"])
    assert cascade.at(learning_rate=0.3, b1=0.1, b2=0.1).lag is not None
    assert cascade.at(learning_rate=0.3, b1=0.9, b2=0.9).lag is None


def _chained(numerator, decay):
    """w+ = w - eta times the filter g_t + numerator g_{t-1}, averaged by m+ = decay m + it."""

    def rule(learning_rate):
        def init(params):
            return jnp.zeros_like(params), jnp.zeros_like(params)

        def update(g, state, params=None):
            before, m = state
            m = decay * m + g + numerator * before
            return -learning_rate * m, (g, m)

        return optax.GradientTransformation(init, update)

    return rule


@pytest.mark.parametrize(("numerator", "decay"), [(-1.0, 0.2), (-1.5, 0.0)], ids=["Q(1) = 0", "Q(1) < 0"])
def test_a_rule_whose_average_does_not_descend_is_refused(numerator, decay):
    with pytest.raises(NoLinearEdge):
        stabilization(_chained(numerator, decay))


def test_an_integrating_rule_is_refused():
    """Q(1) infinite: a sum of all gradients never lets go, and its loop has no stable window."""
    with pytest.raises(NoLinearEdge):
        stabilization(_chained(0.0, 1.0))


def test_unknown_hyperparameters_are_refused():
    with pytest.raises(BadFactory):
        cached_stabilization(NAMED["gd"]).at(momentum=0.1)


def test_heavy_ball_by_hand_is_the_optimizer():
    """The oracle itself: two steps of optax's heavy ball on the model."""
    c, (step, _, _) = model(3.0, 0.4, 1.3, 0.2, 0.1, 0.3, 0.5, 0.2, 0.1), momentum(0.7)
    rule = NAMED["heavy_ball"](0.1, momentum=0.7)
    w = jnp.array([0.3, -0.2])
    state, v = rule.init(w), np.array([0.3, -0.2, 0, 0])
    for _ in range(2):
        update, state = rule.update(jnp.asarray(gradient(w, c)), state, w)
        w, v = w + update, step(v, 0.1, c)
    np.testing.assert_allclose(w, v[:2], rtol=1e-14)
