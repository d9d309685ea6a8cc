"""Below 2/eta gradient descent contracts, above it grows, each by its multiplier."""

import numpy as np
import pytest

from figures.quadratic_edge import compute


@pytest.fixture(scope="module")
def data():
    return compute(True)


def test_the_runs_bracket_two_over_eta(data):
    assert data["threshold"] == pytest.approx(2 / data["eta"], rel=1e-14)
    below, above = data["spectra"][:, 0]
    assert below < data["threshold"] < above
    assert data["loss"][0, -1] < data["loss"][0, 0] and data["loss"][1, -1] > data["loss"][1, 0]


def test_iterates_follow_the_derived_multipliers(data):
    times = np.arange(data["iterates"].shape[1])
    expected = data["iterates"][:, :1] * data["multipliers"][:, None] ** times[None, :, None]
    # rounding of some tens of steps
    np.testing.assert_allclose(data["iterates"], expected, rtol=1e-12)


def test_the_same_again_is_the_same(data):
    for name, array in compute(True).items():
        np.testing.assert_array_equal(array, data[name])
