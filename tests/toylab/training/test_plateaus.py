"""The plateau statistic on series whose answer is known."""

import numpy as np
import pytest

from toylab import plateau


def test_an_oscillation_of_period_two_cancels() -> None:
    steps = np.arange(400)
    ratio = np.minimum(steps / 100, 1.0) + 0.3 * (-1.0) ** steps
    found = plateau(steps, ratio)
    # the first pair average of at least 0.95 is (t + 1/2) / 100 with even t = 96; then half of what is left to 398
    assert found.outcome == "settled" and found.reached == 96 and found.window == (248, 399)
    np.testing.assert_allclose([found.mean, found.spread], [1.0, 0.0], atol=1e-15)  # a rounding


def test_pairs_with_gaps_and_a_lonely_end() -> None:
    steps = np.array([0, 1, 10, 11, 20, 21, 30, 31, 40])
    ratio = np.array([0.0, 0.0, 1.5, 0.5, 1.2, 0.8, 1.4, 1.0, 99.0])
    found = plateau(steps, ratio)
    assert found.pairs == 2 and found.reached == 10 and found.window == (20, 31)
    np.testing.assert_allclose([found.mean, found.spread], [1.1, np.sqrt(0.02)], rtol=1e-12)  # a few roundings


def test_what_is_not_a_plateau_is_a_value() -> None:
    steps = np.arange(40)
    assert plateau(steps, np.full(40, 0.9)).outcome == "never reached"
    assert plateau(steps, np.r_[np.ones(20), np.full(20, np.nan)]).outcome == "diverged"
    assert plateau(np.arange(2), np.ones(2)).outcome == "too short"
    with pytest.raises(ValueError, match="one run of a sweep"):
        plateau(steps, np.ones((2, 40)))
    with pytest.raises(ValueError, match="consecutive"):
        plateau(2 * steps, np.ones(40))


def test_an_excursion_above_the_edge_at_the_start_is_no_plateau():
    # a fresh second moment: far above the edge for ten steps, then a slow rise to a plateau at 1.0
    ratio = np.concatenate([np.full(10, 1.6), np.linspace(0.05, 1.0, 90), np.full(100, 1.0)])
    found = plateau(np.arange(200), ratio)
    assert found.outcome == "settled"
    assert found.reached >= 90
    assert abs(found.mean - 1.0) < 1e-12  # the series is exactly 1 there
    fallen = plateau(np.arange(200), np.concatenate([np.full(10, 1.6), np.full(190, 0.3)]))
    assert fallen.outcome == "left" and np.isnan([fallen.mean, fallen.spread]).all()
    always = plateau(np.arange(200), np.full(200, 1.2))
    assert (always.outcome, always.reached) == ("settled", 0)


def test_a_dip_at_the_end_does_not_undo_a_plateau():
    found = plateau(np.arange(40), np.r_[np.full(38, 1.3), np.full(2, 0.9)])
    # pairs (20, 21), ..., (38, 39) are the last half: nine at 1.3 and one at 0.9
    assert (found.outcome, found.reached, found.window, found.pairs) == ("settled", 0, (20, 39), 10)
    np.testing.assert_allclose([found.mean, found.spread], [1.26, 0.4 / np.sqrt(10)], rtol=1e-12)  # a few roundings


@pytest.mark.parametrize("height", [0.96, 1.3, 8.6])
def test_a_run_that_falls_from_above_is_judged_by_the_mean_of_its_last_half(height):
    steps, found = np.arange(200), {}
    for fall in range(2, 200, 2):
        found[fall] = plateau(steps, np.where(steps < fall, height, 0.2))
    # of the 50 pairs from step 100 on, so many are still at the height
    means = {fall: (height * max(0, fall - 100) + 0.2 * min(100, 200 - fall)) / 100 for fall in found}
    assert {fall: one.outcome for fall, one in found.items()} == {
        fall: "settled" if mean >= 0.95 else "left" for fall, mean in means.items()
    }
    assert {one.reached for one in found.values()} == {0}
    for fall, one in found.items():
        np.testing.assert_allclose(one.mean, means[fall] if one.outcome == "settled" else np.nan, rtol=1e-12)


def test_who_comes_back_counts_from_the_return_and_who_starts_below_never_leaves():
    steps = np.arange(200)
    back = plateau(steps, np.where((steps >= 20) & (steps < 80), 0.5, 1.1))
    assert (back.outcome, back.reached) == ("settled", 80)
    assert plateau(steps, np.linspace(0.94, 0.1, 200)).outcome == "never reached"
    assert plateau(steps, np.linspace(0.96, 0.1, 200)).outcome == "left"
    assert plateau(steps, np.r_[np.full(199, 1.2), np.nan]).outcome == "diverged"


def test_a_run_exactly_at_the_edge_settles_however_its_mean_is_rounded():
    assert all(plateau(np.arange(n), np.full(n, 0.95)).outcome == "settled" for n in range(6, 60))
