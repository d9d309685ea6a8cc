"""The laws of resolution: found by moving the prediction, equal to the closed form, and nothing where no move
is noticed.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from toylab.claims import (
    Ceiling,
    ClaimError,
    at_least,
    at_most,
    bracket,
    equality,
    observed_order,
    order,
    sign,
    statistical,
    window,
)
from toylab.claims.ceilings import EXACT, NETWORK_PLATEAU
from toylab.claims.resolution import SABOTAGE, member_resolutions, refuted_when_moved

WIDE = Ceiling(100.0, "these tests look at resolutions, not at ceilings")
# bisection stops within 2**-24 = 6e-8 of the resolution; a moved prediction is itself rounded to 1e-16, which
# is 1e-10 of the smallest r drawn here
RELATIVE = 1e-6

values = st.floats(0.1, 10).flatmap(lambda x: st.sampled_from([x, -x]))
tolerances = st.floats(1e-6, 1e-2)
fractions = st.floats(-0.99, 0.99)


def resolutions(comparison, predicted, measured):
    p, m, _ = comparison.rows(np.asarray(predicted, float), np.asarray(measured, float))
    return member_resolutions(comparison, p, m)


def closed_form_equality(p, m, tolerance):
    ratio = m / p
    return max(ratio / (1 - tolerance) - 1, 1 - ratio / (1 + tolerance))


@given(values, tolerances, fractions)
def test_relative_equality_has_its_closed_form(p, tolerance, fraction):
    m = p * (1 + fraction * tolerance)
    found = resolutions(equality(tolerance, "drawn", ceiling=NETWORK_PLATEAU), p, m)
    assert found == pytest.approx([closed_form_equality(p, m, tolerance)], rel=RELATIVE)


@given(st.floats(-10, 10), st.floats(0.1, 10), tolerances, fractions)
def test_equality_with_a_scale_is_tolerance_plus_deviation(p, scale, tolerance, fraction):
    m = p + fraction * tolerance * scale
    found = resolutions(equality(tolerance, "drawn", ceiling=NETWORK_PLATEAU, scale=scale), p, m)
    # |p| up to 100 scales: the rounding of p is 1e-14 scales, 1e-8 of the smallest tolerance
    assert found == pytest.approx([tolerance + abs(m - p) / scale], rel=RELATIVE)


@given(st.integers(1, 4), st.floats(-0.1, 0.1))
def test_order_is_tolerance_plus_deviation(exponent, deviation):
    found = resolutions(order(0.15, "drawn"), exponent, exponent + deviation)
    assert found == pytest.approx([0.15 + abs(deviation)], rel=RELATIVE)


@given(st.floats(0.5, 10), tolerances, st.lists(st.floats(0.1, 0.99), min_size=1, max_size=5))
def test_bounds_move_past_the_measured_extreme(bound, tolerance, shares):
    below = [bound * share for share in shares]
    found = resolutions(at_most(tolerance, "drawn", ceiling=WIDE), bound, below)
    assert found == pytest.approx([1 - max(shares) / (1 + tolerance)], rel=RELATIVE)
    above = [bound / share for share in shares]
    found = resolutions(at_least(tolerance, "drawn", ceiling=WIDE), bound, above)
    assert found == pytest.approx([min(1 / share for share in shares) / (1 - tolerance) - 1], rel=RELATIVE)


@given(st.sampled_from([-1, 1]), st.floats(0.5, 2), st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_sign_moves_its_bound_past_the_number_nearest_to_zero(side, scale, sizes):
    measured = [side * size for size in sizes]
    found = resolutions(sign(1e-3, "drawn", ceiling=WIDE, scale=scale), side, measured)
    assert found == pytest.approx([min(sizes) / scale - 1e-3], rel=RELATIVE)


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_window_is_the_larger_of_its_two_gaps(one, other):
    low, high = sorted((one, other))
    found = resolutions(window(0.0, "none needed", ceiling=WIDE, scale=1.0), [-1.0, 1.0], [low, high])
    assert found == pytest.approx([max(low + 1, 1 - high)], rel=RELATIVE)


@given(st.floats(0.5, 10), st.floats(1e-3, 0.1), st.floats(1e-3, 0.1))
def test_bracket_is_the_distance_to_its_farther_end(p, down, up):
    found = resolutions(bracket(0.0, "none needed", ceiling=WIDE), p, [p * (1 - down), p * (1 + up)])
    assert found == pytest.approx([max(down, up)], rel=RELATIVE)


def test_statistical_is_the_half_width_plus_the_deviation_of_the_mean():
    samples = np.array([0.9, 1.0, 1.1, 1.2, 0.8])
    # Student's t for 95 %, four degrees of freedom, from tables: 2.7764
    half_width = 2.7764 * samples.std(ddof=1) / np.sqrt(5)
    found = resolutions(statistical(0.05, "drawn", ceiling=WIDE), 1.02, samples)
    assert found == pytest.approx([(half_width + 0.02) / 1.02], rel=1e-4)  # the table has five digits


CASES = [
    (equality(1e-6, "case"), 3.0, 3.000001),
    (equality(1e-6, "case", scale=1.0), 0.0, -5e-7),
    (equality(0.1, "case", ceiling=NETWORK_PLATEAU), [1.0, -2.0, 3.0], [1.02, -2.1, 3.0]),
    (order(0.1, "case"), 2.0, 2.05),
    (at_most(1e-3, "case", ceiling=WIDE), [1.0, 2.0], [[0.9, 0.8], [1.5, 1.0]]),
    (at_least(1e-3, "case", ceiling=WIDE, scale=1.0), 0.0, [0.1, 0.2]),
    (sign(1e-3, "case", ceiling=WIDE, scale=1.0), [1, -1], [0.02, -0.3]),
    (window(1e-3, "case", ceiling=WIDE), [[0.9, 1.1]], [[0.95, 1.0, 1.05]]),
    (bracket(0.0, "case", ceiling=WIDE), [1.0, 2.0], [[0.99, 1.01], [1.95, 2.01]]),
    (statistical(1e-3, "case", ceiling=WIDE), 1.0, [0.9, 1.0, 1.1, 1.05]),
]


@pytest.mark.parametrize(("comparison", "predicted", "measured"), CASES, ids=lambda case: getattr(case, "kind", ""))
def test_moved_by_more_than_the_resolution_every_member_refutes_and_by_less_not(comparison, predicted, measured):
    p, m, _ = comparison.rows(np.asarray(predicted, float), np.asarray(measured, float))
    assert comparison.agrees(p, m).all()
    resolution = member_resolutions(comparison, p, m).max()
    ways = range(len(comparison.moves))
    for factor in (SABOTAGE, 2.0, 50.0):
        assert all(refuted_when_moved(comparison, p, m, factor * resolution, way).all() for way in ways)
    assert not all(refuted_when_moved(comparison, p, m, 0.9 * resolution, way).all() for way in ways)


@pytest.mark.parametrize(("comparison", "predicted", "measured"), CASES, ids=lambda case: getattr(case, "kind", ""))
def test_what_is_not_a_number_never_agrees(comparison, predicted, measured):
    p, m, _ = comparison.rows(np.asarray(predicted, float), np.full_like(np.asarray(measured, float), np.nan))
    assert not comparison.agrees(p, m).any()


def test_a_comparison_that_cannot_fail_has_no_resolution():
    blind = dataclasses.replace(equality(1e-6, "planted"), agrees=lambda p, m: np.ones(len(p), bool))
    assert resolutions(blind, [1.0, 2.0], [1.0, 7.0]).tolist() == [np.inf, np.inf]


def test_a_comparison_that_is_blind_in_one_sign_has_no_resolution():
    one_sided = dataclasses.replace(equality(1e-6, "planted"), agrees=lambda p, m: p[:, 0] >= m[:, 0] - 1e-6)
    assert resolutions(one_sided, 1.0, 1.0).tolist() == [np.inf]


def test_a_comparison_that_agrees_again_far_away_resolves_only_beyond():
    periodic = dataclasses.replace(equality(1e-6, "planted"), agrees=lambda p, m: np.abs(p - m)[:, 0] % 8 < 1e-6)
    assert resolutions(periodic, 1.0, 1.0) > 500


@given(st.lists(st.floats(-3e-6, 3e-6), min_size=2, max_size=6))
def test_the_resolution_of_many_is_that_of_each(deviations):
    comparison = equality(1e-6, "drawn", scale=1.0)
    assume(len(set(deviations)) > 1)
    together = resolutions(comparison, np.zeros(len(deviations)), deviations)
    assert together.tolist() == [resolutions(comparison, 0.0, one)[0] for one in deviations]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: equality(1e-2, "coarse", ceiling=Ceiling(2e-2, "coarse")),
        lambda: equality(1e-4, "above the ceiling of an exact statement"),
        lambda: equality(1e-6, " "),
        lambda: equality(-1e-6, "negative"),
        lambda: equality(float("nan"), "nan"),
        lambda: equality(1e-6, "no scale", scale=0.0),
        lambda: order(0.5, "coarser than the orders are apart"),
        lambda: statistical(0.0, "certain", ceiling=WIDE),
        lambda: statistical(1.0, "empty", ceiling=WIDE),
        lambda: dataclasses.replace(equality(1e-6, "planted"), moves=()),
        lambda: dataclasses.replace(equality(1e-6, "planted"), ceiling=None),
        lambda: dataclasses.replace(equality(1e-6, "planted"), kind="identity"),
    ],
)
def test_a_comparison_that_is_wrongly_declared_is_refused(declare):
    with pytest.raises(ClaimError):
        declare()


@pytest.mark.parametrize(
    "declare", [lambda: Ceiling(0.0, "zero"), lambda: Ceiling(0.1, ""), lambda: Ceiling(float("inf"), "none")]
)
def test_a_ceiling_needs_a_value_and_a_reason(declare):
    with pytest.raises(ValueError, match="ceiling"):
        declare()


@pytest.mark.parametrize(
    ("comparison", "predicted", "measured", "complaint"),
    [
        (equality(1e-6, "case"), [1.0, 0.0], [1.0, 0.0], "scale"),
        (equality(1e-6, "case"), [1.0, np.nan], [1.0, 1.0], "finite"),
        (equality(1e-6, "case"), [1.0, 2.0], [1.0, 2.0, 3.0], "shape"),
        (equality(1e-6, "case"), [1.0], [[1.0, 2.0]], "shape"),
        (window(0.0, "case", ceiling=WIDE), 1.0, 1.0, "2 numbers"),
        (window(0.0, "case", ceiling=WIDE), [1.0, 2.0, 3.0], 1.0, "2 numbers"),
    ],
)
def test_what_cannot_be_compared_is_named(comparison, predicted, measured, complaint):
    with pytest.raises(ClaimError, match=complaint):
        comparison.rows(np.asarray(predicted, float), np.asarray(measured, float))


@pytest.mark.parametrize(
    ("comparison", "measured"),
    [(bracket(0.0, "case", ceiling=WIDE), [1.0, 2.0, 3.0]), (statistical(0.1, "case", ceiling=WIDE), [1.0])],
)
def test_too_many_or_too_few_measured_numbers_are_named(comparison, measured):
    p, m, _ = comparison.rows(np.asarray(1.0), np.asarray(measured))
    with pytest.raises(ClaimError):
        comparison.agrees(p, m)


def test_a_predicted_sign_is_a_sign():
    with pytest.raises(ClaimError, match="-1 or"):
        resolutions(sign(0.0, "case", ceiling=WIDE, scale=1.0), 2.0, 1.0)


@given(st.floats(-4, 4), st.floats(0.1, 10))
def test_observed_order_of_a_power_is_its_exponent(exponent, factor):
    steps = np.array([0.1, 0.05, 0.025, 0.0125])
    # five roundings of logarithms of size <= 20, divided by a spread of log steps above 1
    assert observed_order(steps, factor * steps**exponent) == pytest.approx(exponent, abs=1e-13)


def test_an_error_of_zero_has_no_order():
    slope = observed_order(np.array([0.1, 0.05]), np.array([[0.0, 0.0], [0.1, np.nan], [0.1, 0.05]]))
    assert np.isnan(slope[:2]).all()
    assert slope[2] == pytest.approx(1)


def test_the_ceiling_of_an_exact_statement_is_the_default():
    assert equality(1e-6, "case").ceiling is EXACT
