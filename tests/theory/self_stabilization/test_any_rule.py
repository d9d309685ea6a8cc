"""The law of any rule: lags, damping by curvature and decay, complex pairs, refusals."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.theory.handwritten import RULES, gradient, model, momentum, slow_pair, two_cycle
from tests.theory.self_stabilization.points import at_point
from theory.errors import BadFactory, NoLinearEdge
from theory.self_stabilization.any_rule import cached_stabilization, stabilization
from toylab.optimizers import NAMED, delayed_gradient


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
