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
    assert fallen.outcome == "never reached"
    always = plateau(np.arange(200), np.full(200, 1.2))
    assert (always.outcome, always.reached) == ("settled", 0)
