"""The instruments that measure orbits, on signals whose answers are known, and on maps written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from tests.theory.handwritten import RULES, gradient, model, two_cycle
from toylab.experiments import toy_orbits as toy

COEFFICIENTS = {"third": "c3", "fourth": "c4", "sharpness_curvature": "p", "bend": "m", "transverse_curvature": "h",
                "tilt": "f"}  # fmt: skip
JET = {"third": 0.3, "fourth": 0.1, "sharpness_curvature": 0.2, "bend": 0.4, "transverse_curvature": 1e-4, "tilt": 1e-4}


def problem(threshold, alpha, beta=1.0, jet=None):
    """(coefficients for the laboratory with one member, the same for the oracle)."""
    jet = dict.fromkeys(COEFFICIENTS, 0.0) if jet is None else jet
    ours = {"threshold": threshold, "sharpening_rate": alpha, "grad_sharpness_sq": beta} | jet
    theirs = model(threshold, alpha, beta, **{COEFFICIENTS[n]: v for n, v in jet.items()})
    return {n: np.array([v]) for n, v in ours.items()}, theirs


# ---------------------------------------------------------------------------------------------------------------
# Signals


@given(st.floats(0.02, 0.2), st.floats(0, 6), st.floats(-3, 3))
def test_peaks_of_a_sampled_cosine(turn, phase, offset):
    n = np.arange(400)
    times, heights = toy.peaks(np.cos(turn * n + phase) + offset)
    truth = (2 * np.pi * np.arange(0, 20) - phase) / turn
    truth = truth[(truth > 1) & (truth < 398)]
    for time in truth:
        # a parabola through three points half a turn about: the fourth derivative displaces it by turn^2/24 or so
        assert np.abs(times - time).min() < turn**2 / 10 + 1e-6
    # half a step beside the maximum the parabola's vertex is 3 turn^4/128 too low
    np.testing.assert_allclose(heights, 1 + offset, atol=turn**4 / 40 + 1e-9)


def test_no_peak_in_a_ramp():
    for values in (np.arange(10.0), -np.arange(10.0)):
        assert toy.peaks(values)[0].size == 0


def test_a_parabola_is_met_exactly():
    n = np.arange(9.0)
    times, heights = toy.peaks(3 - 0.25 * (n - 4.3) ** 2)
    np.testing.assert_allclose([times[0], heights[0]], [4.3, 3.0], rtol=1e-14)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_a_cubic_is_extrapolated_exactly(coefficients):
    steps = np.array([0.8, 0.4, 0.2, 0.1])
    values = np.polyval(coefficients, steps)
    found = toy.extrapolated(steps, values)
    low, high = found
    assert low <= high
    # Lagrange's weights at 0 sum to some ten in absolute value
    assert min(abs(low - coefficients[-1]), abs(high - coefficients[-1])) < 1e-12
    # the other end leaves the cubic term: 0.4 * 0.2 * 0.1 of it
    np.testing.assert_allclose(high - low, abs(coefficients[0]) * 0.008, atol=1e-12)


def test_extrapolation_keeps_leading_axes():
    steps = np.array([0.4, 0.2, 0.1])
    values = np.stack([1 + steps, 2 - steps**2])[None]
    found = toy.extrapolated(steps, values)
    assert found.shape == (1, 2, 2)
    np.testing.assert_allclose(found[0, 0], [1, 1], rtol=1e-13)
    assert found[0, 1, 0] <= 2 + 1e-12 and found[0, 1, 1] >= 2 - 1e-12


def test_growth_and_angle_of_two_step_multipliers():
    known = np.exp(2 * np.array([[0.01 + 0.1j, 0.01 - 0.1j, -0.7]]))
    np.testing.assert_allclose(toy.largest(known), [[0.01, 0.1]], rtol=1e-12)
    np.testing.assert_allclose(toy.slowest_oscillation(known), [[0.01, 0.1]], rtol=1e-12)
    # a faster real mode is the largest, and not an oscillation
    other = np.array([[np.exp(2 * (0.01 + 0.1j)), np.exp(2 * (0.01 - 0.1j)), 1.5]])
    np.testing.assert_allclose(toy.largest(other), [[np.log(1.5) / 2, 0.0]], rtol=1e-12)
    np.testing.assert_allclose(toy.slowest_oscillation(other), [[0.01, 0.1]], rtol=1e-12)


def sampled(turn, start, revolutions=3.2):
    """(amplitude, level) of v'' = 1 - e^v at multiples of ``turn``, from its most quiet place v = log(start)."""

    def motion(_, z):
        return [z[1], -np.expm1(z[0])]

    times = np.arange(0, revolutions * 8, turn)
    run = solve_ivp(motion, (0, times[-1]), [np.log(start), 0.0], t_eval=times, rtol=1e-11, atol=1e-12)
    return np.exp(run.y[0] / 2), run.y[1]


def test_a_revolution_of_a_known_orbit():
    turn, start = 0.01, 0.3
    found = toy.turn(*sampled(turn, start), turns=2)
    energy = start - np.log(start) - 1

    def excess(v):
        return np.expm1(v) - v - energy

    top = np.exp(brentq(excess, 1e-9, 5))
    # interpolation of extremes: the square of the turn; the integrator: 1e-9
    np.testing.assert_allclose(found.squares, [top, start, top], rtol=1e-4)
    np.testing.assert_allclose(found.levels, np.sqrt(2 * energy) * np.array([-1, 1]), rtol=1e-4)
    np.testing.assert_allclose(found.stages.sum(), found.period, rtol=1e-12)
    np.testing.assert_allclose(found.stages[[0, 2]], found.stages[[1, 3]], rtol=1e-4)  # the orbit is symmetric
    assert found.stages[0] > found.stages[2]
    # means: v' over whole revolutions is zero
    assert abs(found.mean) < 1e-5
    # <v'^2> = action/period, by the samples of one exact period
    whole = sampled(turn, start)[1][: round(found.period)]
    np.testing.assert_allclose(found.variance, (whole**2).mean(), rtol=5e-3)  # an integer number of steps


def test_a_run_that_is_too_short_is_refused():
    amplitude, level = sampled(0.01, 0.3, revolutions=0.5)
    with pytest.raises(ValueError, match="too short"):
        toy.turn(amplitude, level)


def test_what_follows_a_divergence_is_not_seen():
    amplitude, level = sampled(0.01, 0.3)
    whole = toy.turn(amplitude, level)
    amplitude[2300:], level[2300:] = np.nan, np.inf
    assert toy.turn(amplitude, level).period == whole.period
    amplitude[300:] = 0.0
    with pytest.raises(ValueError, match="too short"):
        toy.turn(amplitude, level)


# ---------------------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.parametrize("rule", ["gd", pytest.param("heavy_ball", marks=pytest.mark.slow), "optimistic_gd"])
def test_two_cycles_are_those_of_the_rule_written_by_hand(rule):
    eta, named = 0.3, {"heavy_ball": {"momentum": 0.4}, "optimistic_gd": {"alpha": 0.9, "beta": 0.5}}.get(rule, {})
    edge = {"gd": 2, "heavy_ball": 2.8, "optimistic_gd": 2 / 1.9}[rule] / eta
    ours, theirs = problem(edge, 0.02, 1.3, JET)
    hyper = {n: np.array([v]) for n, v in (named | {"learning_rate": eta}).items()}
    start = np.array([[np.sqrt(0.04 / 1.3), 0.001]])
    found = toy.two_cycles(rule, hyper, ours, start)
    v, twice = two_cycle(RULES[rule](named), eta, theirs)
    assert found.residual[0] < 1e-10  # Newton's last step, of rounding through a smallest mode of 1e-3
    middle = RULES[rule](named)[0](v, eta, theirs)[:2]
    np.testing.assert_allclose(found.points[0], [v[:2], middle], atol=1e-9)
    truth = np.linalg.eigvals(twice)
    for multiplier in found.multipliers[0]:
        assert np.abs(truth - multiplier).min() < 1e-6  # a double root of zero: the square root of rounding


def test_an_orbit_is_the_run_of_gradient_descent_with_its_rhythm_taken_away():
    """Also beside a member that diverges."""
    eta, alpha, steps = 0.3, 0.02, 60
    ours, theirs = problem(2 / eta, alpha, 1.3, JET)
    start = np.array([0.7 * np.sqrt(2 * alpha), 0.0])
    pair = {n: np.repeat(v, 2) for n, v in ours.items()}
    with np.errstate(all="ignore"):
        found = toy.orbits("gd", {"learning_rate": np.full(2, eta)}, pair, np.stack([start, [50.0, 50.0]]), steps)
    w, path = start, []
    for _ in range(steps):
        path.append(w)
        w = w - eta * gradient(w, theirs)
    x, s = np.array(path).T
    weights, sign = np.array([1, 4, 6, 4, 1]) / 16, (-1.0) ** np.arange(steps)
    assert found.amplitude.shape == (2, steps - 4)
    # rounding of 60 steps, each of which magnifies none of it
    np.testing.assert_allclose(found.amplitude[0], np.abs(np.convolve(x * sign, weights, "valid")), rtol=1e-9)
    np.testing.assert_allclose(found.level[0], np.convolve(s, weights, "valid"), rtol=1e-9, atol=1e-12)
    assert not np.isfinite(found.amplitude[1, 10:]).any()


def test_the_five_point_mean_takes_the_rhythm_away_to_the_fourth_difference():
    n = np.arange(50)
    weights = toy._BINOMIAL
    assert weights.sum() == 1 and weights @ (-1.0) ** np.arange(5) == 0
    for power in range(4):  # (-1)^n times a cubic vanishes
        assert np.abs(np.convolve((-1.0) ** n * n.astype(float) ** power, weights, "valid")).max() < 1e-9
    assert np.abs(np.convolve((-1.0) ** n * n.astype(float) ** 4, weights, "valid")).max() > 1
