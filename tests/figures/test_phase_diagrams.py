"""The image comes from running the rules, the curve from theory, and they agree."""

import numpy as np
import pytest

from figures.phase_diagrams import FLOOR, PANELS, compute, measured_growth
from theory import cached_edge
from toylab.optimizers import NAMED


@pytest.fixture(scope="module")
def data():
    return compute(True)


def agreement(data: dict, rule: str, moved: float = 1.0) -> float:
    """Share of the cells at least 1% away from the curve (times `moved`) whose growth has the sign of their side."""
    curve = np.interp(data[f"{rule}_values"], data[f"{rule}_curve_x"], data[f"{rule}_curve_k"] * moved)
    distance = np.log(data["gains"][None] / curve[:, None])
    away = np.abs(distance) > 0.01
    return float(np.mean((np.sign(data[f"{rule}_growth"]) == np.sign(distance))[away]))


@pytest.mark.parametrize("rule", [panel.rule for panel in PANELS])
def test_the_derived_curve_separates_growth_from_decay(data, rule):
    assert agreement(data, rule) == 1.0
    # a curve that is 10% off is seen on this coarse grid (cells of 35%)
    assert min(agreement(data, rule, 1.1), agreement(data, rule, 0.9)) < 1.0


def test_only_the_cascade_changes_its_kind_of_crossing(data):
    mixed = {panel.rule for panel in PANELS if len(set(data[f"{panel.rule}_curve_flips"])) > 1}
    assert mixed == {"ema_cascade"}


@pytest.mark.parametrize("panel", [PANELS[0], PANELS[2], PANELS[5]], ids=lambda panel: panel.rule)
def test_growth_is_that_of_the_largest_root(panel):
    values, gains = np.array([0.2, 0.6]), np.array([0.7, 12.0])
    growth = measured_growth(panel, values, gains, 2000)
    for i, value in enumerate(values):
        numbers = cached_edge(NAMED[panel.rule]).at(**{panel.swept: float(value)}, **panel.fixed)
        for j, gain in enumerate(gains):
            expected = np.log(np.abs(np.roots(numbers.polynomial(gain))).max())
            # the 1 - cos weight leaves a ripple of order 1/steps^2 and more from a pair that turns slowly
            assert growth[i, j] == pytest.approx(max(expected, FLOOR), abs=1e-4)
