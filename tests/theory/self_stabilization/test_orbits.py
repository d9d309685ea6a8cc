"""Closed orbits against an integrator that knows only v'' = 1 - e^v, against limits, and against each other."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.special import lambertw

from theory.self_stabilization import orbits
from theory.self_stabilization.orbits import branch, closed_orbits, level, mean_square_rate, period, stages

GAUSS = np.polynomial.legendre.leggauss(300)
levels = st.floats(1e-6, 1e3)


def integrated(energy):
    """Period, times between the turns, mean of v'^2 and extremes of v: one revolution of v'' = 1 - e^v, from the most
    quiet place, the left root of e^v - v - 1 = energy.
    """
    quiet = float(np.real(-lambertw(-np.exp(-1 - energy), 0) - 1 - energy))

    def motion(_, z):
        return [z[1], -np.expm1(z[0]), z[1] ** 2]

    def event(index, direction):
        def crossing(_, z):
            return z[index]

        crossing.direction = direction
        return crossing

    # v rises through 0 (fastest), stops at the top, falls through 0, stops at the bottom; the start is a stop as well
    marks = [event(0, 1), event(1, -1), event(0, -1), event(1, 1)]
    limit = 12 + 6 * np.sqrt(2 * energy)
    run = solve_ivp(motion, (0, limit), [quiet, 0.0, 0.0], events=marks, rtol=1e-12, atol=1e-14, method="DOP853")
    times = [run.t_events[i] for i in range(4)]
    end = times[3][times[3] > times[2][0]][0]
    rise, top, fall = times[0][0], times[1][times[1] > times[0][0]][0], times[2][0]
    last = run.y_events[3][run.t_events[3] == end][0]
    highest = run.y_events[1][run.t_events[1] == top][0][0]
    return end, np.array([end - fall, rise, top - rise, fall - top]), last[2] / end, highest, quiet


# The integrator is asked for 1e-12 a step; over some hundred steps 1e-9 is left, at level 50 through e^v.
INTEGRATED = 1e-8


@pytest.mark.parametrize("energy", [1e-3, 0.1, 1.0, 4.0, 20.0, 50.0])
def test_period_stages_extremes_and_mean_are_those_of_the_integrated_motion(energy):
    whole, parts, square, top, bottom = integrated(energy)
    np.testing.assert_allclose(period(energy), whole, rtol=INTEGRATED)
    np.testing.assert_allclose(stages(energy), parts, rtol=INTEGRATED)
    np.testing.assert_allclose(mean_square_rate(energy), square, rtol=INTEGRATED)
    np.testing.assert_allclose([branch(energy, 1), branch(energy, -1)], [top, bottom], rtol=INTEGRATED)


@settings(max_examples=15)
@given(levels)
def test_branches_are_the_two_roots_and_lamberts(energy):
    for side in (1, -1):
        v = float(branch(energy, side))
        assert np.sign(v) == side
        # the residual of a root rounded to 1e-16: e^v - v - 1 has the condition v (e^v - 1)/p <= 2 + log p
        residual = np.expm1(v) - v
        np.testing.assert_allclose(residual, energy, rtol=1e-13, atol=1e-16)
    if energy > 1e-2:  # Lambert's argument is within rounding of its branch point below
        for name, side in (("largest", 1), ("smallest", -1)):
            exact = sp.N(closed_orbits().expressions[name].xreplace({level: sp.Float(energy, 30)}), 20)
            np.testing.assert_allclose(float(sp.re(exact)), np.exp(branch(energy, side)), rtol=1e-11)


def test_branch_of_zero_and_of_arrays():
    np.testing.assert_array_equal(branch(np.zeros(3), 1), np.zeros(3))
    grid = np.geomspace(1e-12, 1e4, 9).reshape(3, 3)
    for side in (1, -1):
        np.testing.assert_array_equal(branch(grid, side).ravel(), [branch(p, side) for p in grid.ravel()])
    # small: v = +-sqrt(2p) - p/3 + O(p^1.5), p^1.5/18 relative to sqrt(2p) is 4e-14 at 1e-12
    np.testing.assert_allclose(branch(1e-12, 1), np.sqrt(2e-12) - 1e-12 / 3, rtol=1e-12)


@given(levels)
def test_stages_add_up_to_the_period(energy):
    parts = stages(energy)
    np.testing.assert_allclose(parts.sum(), period(energy), rtol=1e-14)
    assert parts[0] == parts[1] and parts[2] == parts[3] and parts[0] > parts[2] > 0  # the quiet half is the longer


@settings(max_examples=10)
@given(levels)
def test_the_period_by_an_independent_quadrature(energy):
    """T = 2 int dv/sqrt(2 (p - e^v + v + 1)) between the roots, the ends taken out by v = mid + half sin."""
    top, bottom = float(branch(energy, 1)), float(branch(energy, -1))
    middle, half = (top + bottom) / 2, (top - bottom) / 2

    def rate(phi):
        v = middle + half * np.sin(phi)
        near, distance = (top, top - v) if phi > 0 else (bottom, bottom - v)
        # p - (e^v - v - 1) = e^near (1 - e^-distance) - distance, without cancellation at the ends
        squared = -np.exp(near) * np.expm1(-distance) - distance
        return half * np.cos(phi) * np.sqrt(2 / squared)

    halves = [quad(rate, *ends, epsabs=0, epsrel=1e-9, limit=400)[0] for ends in ((-np.pi / 2, 0), (0, np.pi / 2))]
    np.testing.assert_allclose(period(energy), sum(halves), rtol=1e-7)  # cancellation at small levels, 1e-16/level/1e-3


@settings(max_examples=10)
@given(levels)
def test_the_mean_square_is_the_action_over_the_period(energy):
    """d(action)/d(level) = period, action = <v'^2> T: the oldest identity of a one-dimensional oscillator."""
    h = 1e-3 * energy
    slope = [
        (mean_square_rate(energy + d) * period(energy + d) - mean_square_rate(energy - d) * period(energy - d))
        / (2 * d)
        for d in (h, 2 * h)
    ]
    # two central differences extrapolated: (1e-3)^4; rounding of the integrals, 1e-12 over 1e-3
    np.testing.assert_allclose((4 * slope[0] - slope[1]) / 3, period(energy), rtol=1e-8)


@settings(max_examples=10)
@given(levels)
def test_the_virial_theorem(energy):
    """<v'^2> = <v (e^v - 1)> since v v' is periodic, and <e^v> = 1 since v' is: both means by the orbit's own times."""
    nodes, weights = GAUSS
    phi = (nodes + 1) * np.pi / 4
    moments = np.zeros(3)
    for side in (1, -1):
        v = branch(energy * np.cos(phi) ** 2, side)
        time = weights * np.cos(phi) / np.abs(np.expm1(v))
        moments += [time.sum(), (time * np.expm1(v)).sum(), (time * v * np.expm1(v)).sum()]
    # <e^v - 1> = 0 relative to the size of e^v - 1 on either side
    assert abs(moments[1]) <= 1e-9 * np.sum(weights * np.cos(phi)) * 2
    np.testing.assert_allclose(mean_square_rate(energy), moments[2] / moments[0], rtol=1e-9)


def test_small_orbits_turn_once_in_two_pi():
    series = closed_orbits().expressions["period_series"]
    assert sp.expand(series).coeff(level, 0) == 2 * sp.pi
    np.testing.assert_allclose(period(1e-8), 2 * np.pi, rtol=1e-8)
    np.testing.assert_allclose(mean_square_rate(1e-6), 1e-6, rtol=1e-5)  # the next term is level^2


@pytest.mark.parametrize("terms", [1, 2, 3, 4])
def test_the_series_of_the_period_has_its_order(terms):
    """The error of `terms` terms falls as level^terms: slope over a decade, measured where rounding is far."""
    series = sp.lambdify(level, closed_orbits(terms).expressions["period_series"])
    p = np.array([0.1, 0.03])
    error = np.array([abs(series(q) - period(q)) for q in p])
    slope = np.log(error[0] / error[1]) / np.log(p[0] / p[1])
    assert abs(slope - terms) < 0.15, slope  # the next coefficient over this one, times a level of 0.1


def test_the_series_by_hand():
    """T = 2 pi (1 + p/12 + ...): the Poincare-Lindstedt shift of x'' + x + x^2/2 + x^3/6 = 0 is -a^2/24, a^2 = 2 p."""
    series = sp.expand(closed_orbits().expressions["period_series"])
    assert series.coeff(level, 1) == 2 * sp.pi / 12


def test_large_orbits():
    """Almost all the time is spent coasting: v' = +-sqrt(2 (p + 1 + v)) from the left turn gives 2 sqrt(2 p) a period.

    The parabola from v = -1 - p to 0 takes sqrt(2 (p + 1)) each way; the bounce at v > 0, of e-folding rate sqrt(2 p),
    adds O(log p/sqrt(p)).
    """
    p = np.array([1e2, 1e3, 1e4])
    whole = np.array([period(q) for q in p])
    excess = whole / (2 * np.sqrt(2 * p)) - 1
    assert np.all(np.abs(excess) < 2 * np.log(p) / p)
    # with the bounce, 2/sqrt(2p) log(4p): the time on sum of both sides up to O(1/p) of it
    better = 2 * np.sqrt(2 * p) + 2 * np.log(4 * p) / np.sqrt(2 * p)
    assert np.all(np.abs(whole - better) < 4 / np.sqrt(p) * np.log(p) / 3)
    # <v'^2> of a parabola is a third of its largest value, 2 p/3
    np.testing.assert_allclose([mean_square_rate(q) for q in p], 2 * p / 3, rtol=0.1)


def test_the_stages_of_small_orbits_are_equal():
    # stage times differ at relative order sqrt(level): (4/3) sqrt(2 level)/pi of a quarter
    np.testing.assert_allclose(stages(1e-6), np.pi / 2, rtol=1e-3)


@pytest.mark.slow
def test_the_quadrature_converges_at_its_stated_levels(monkeypatch):
    """Twice the nodes move nothing beyond 1e-12, from level 1e-6 to 1e3."""
    grid = [1e-6, 1e-3, 1.0, 30.0, 1e3]
    coarse = [(period(p), mean_square_rate(p)) for p in grid]
    monkeypatch.setattr(orbits, "_NODES", 2 * orbits._NODES)
    np.testing.assert_allclose([(period(p), mean_square_rate(p)) for p in grid], coarse, rtol=1e-12)
