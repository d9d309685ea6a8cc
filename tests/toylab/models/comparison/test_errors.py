"""Errors of models: the phases that they are taken over, and what counts as critical."""

import numpy as np

from toylab.models.comparison.errors import number_critical, overshoot, phases_of


def test_the_settled_phase_is_the_second_half_of_what_follows_the_onset():
    ratio = np.array([0.5, 0.9, 0.96, 1.1, 0.97, 0.99, 1.0, 1.0])
    phases = phases_of(ratio, np.arange(1, 9))
    assert (phases.onset, phases.settled) == (2, 5)
    assert list(np.arange(1, 9)[phases.overshoot]) == [2, 3, 4]
    calm = phases_of(0.9 * ratio / ratio.max(), np.arange(1, 9))
    assert (calm.onset, calm.settled) == (None, None) and not np.arange(1, 9)[calm.overshoot].size


def test_the_first_overshoot_ends_where_the_ratio_is_back():
    ratio = np.array([0.5, 0.96, 0.99, 1.1, 1.2, 1.05, 0.97, 1.01, 0.9])
    times = np.arange(1, 10)
    assert list(times[overshoot(ratio, 1, times)]) == [1, 2, 3, 4, 5, 6]
    assert list(times[::2][overshoot(ratio, 1, times[::2])]) == [1, 3, 5, 7]
    assert not times[overshoot(np.minimum(ratio, 0.99), 1, times)].size
    assert not times[overshoot(np.maximum.accumulate(ratio), 1, times)].size


def test_critical_are_ratios_near_the_edge_for_runs_and_models_alike():
    several = np.array([[1.0, 0.96, 0.9], [0.94, np.nan, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(number_critical(several), [2, 0, np.nan])
