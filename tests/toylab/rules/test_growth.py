"""How fast oscillations grow off the edge: against runs of the rules, and against the derived law."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import growth_law
from theory.errors import NoLinearEdge
from toylab.filters import held_filter
from toylab.optimizers import NAMED
from toylab.rules.growth import growth_rates


def made(rule, **others):
    return NAMED[rule](learning_rate=0.1, **others)


@pytest.mark.parametrize(
    ("rule", "others"), [("gd", {}), ("heavy_ball", {"momentum": 0.6}), ("nesterov", {"momentum": 0.6})]
)
def test_a_run_on_a_quadratic_grows_at_that_rate(rule, others):
    transform = made(rule, **others)
    rule_filter = held_filter(transform)
    for ratio in (0.8, 0.97, 1.02):
        curvature = ratio * rule_filter.threshold
        w, state, sizes = jnp.asarray(1.0), transform.init(jnp.asarray(1.0)), []
        for _ in range(300):
            updates, state = transform.update(curvature * w, state, w)
            w = optax.apply_updates(w, updates)
            sizes.append(float(abs(w)))
        # a pair of complex roots turns the oscillation: the largest of some steps stands for its size
        growth = np.log(max(sizes[-50:]) / max(sizes[-200:-150])) / 150
        assert growth == pytest.approx(float(growth_rates(rule_filter, ratio)), abs=0.02)  # log of a turn over 150


@pytest.mark.parametrize(
    "rule", ["adam", *(pytest.param(r, marks=pytest.mark.slow) for r in ("heavy_ball", "ema_momentum"))]
)
@settings(max_examples=5)
@given(b=st.floats(0.05, 0.97))
def test_the_law_is_slope_floor_and_where_they_meet(rule, b):
    name = {"adam": "b1"}.get(rule, "momentum")
    law, given_ = growth_law(NAMED[rule]), {name: b}
    slope, floor, meeting = (float(law.numeric(part)(**given_)) for part in ("slope", "floor", "meeting"))
    found = held_filter(made(rule, **given_))
    assert growth_rates(found, 1.0) == pytest.approx(0, abs=1e-5 / (1 - b))  # a threshold found to ten digits
    step = 1e-4 * (1 - meeting)  # well within the stretch between the meeting and the edge
    centred = (growth_rates(found, 1 + step) - growth_rates(found, 1 - step)) / (2 * step)
    assert centred == pytest.approx(slope, rel=1e-3)  # of the order of the step over the stretch, and rounding
    assert meeting < 1
    # at the meeting the root is double: rounding of 1e-16 moves it by 1e-8
    np.testing.assert_allclose(growth_rates(found, [meeting, 0.5]), floor, atol=1e-5)
    assert np.all(growth_rates(found, np.linspace(meeting, 1, 9)[1:-1]) > floor)


def test_without_an_edge_or_a_meeting_there_is_no_law():
    for rule in ("gd", "nesterov", "delayed_gradient"):
        with pytest.raises(NoLinearEdge):
            growth_law(NAMED[rule])


def test_shapes_are_kept_and_one_step_may_end_everything():
    found = held_filter(made("gd"))
    assert growth_rates(found, np.ones((2, 3))).shape == (2, 3)
    assert growth_rates(found, 0.5) == -np.inf
    np.testing.assert_allclose(growth_rates(found, [0.25, 1.5]), np.log([0.5, 2.0]), rtol=1e-6)
    with pytest.raises(ValueError, match="stable at every curvature"):
        growth_rates(found._replace(threshold=np.inf), 1.0)
