"""Loci stay inside the unit circle up to k* and leave it there, at the angle that theory gives."""

import numpy as np
import pytest

from figures.root_loci import PANELS, compute, followed


@pytest.fixture(scope="module")
def data():
    return compute(True)


@pytest.mark.parametrize("rule", [panel.rule for panel in PANELS])
def test_roots_leave_the_circle_at_the_derived_gain_and_angle(data, rule):
    ratio, roots = data[f"{rule}_ratio"], data[f"{rule}_roots"]
    radius = np.abs(roots).max(axis=1)
    # at k = 0 a root is at 1, and at k* on the circle: rounding of a few operations, more where roots meet
    assert np.all(radius[ratio <= 1] <= 1 + 1e-9) and np.all(radius[ratio > 1.001] > 1)
    nearest = roots[np.argmin(np.abs(ratio - 1))]
    crossing = np.exp(1j * data[f"{rule}_angle"])
    assert np.abs(nearest - crossing).min() < 0.03  # the longest step of a locus
    assert bool(data[f"{rule}_flip"]) == (abs(crossing + 1) < 1e-9)


def test_roots_are_followed_through_any_order(key):
    del key
    t = np.linspace(0, 1, 50)
    paths = np.stack([t + 1j, 2 - t + 0j, -t - 1j * t], axis=1)
    rng = np.random.default_rng(0)
    shuffled = [paths[0], *(rng.permutation(row) for row in paths[1:])]
    np.testing.assert_array_equal(followed(shuffled), paths)
