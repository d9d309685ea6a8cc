"""Models beside the optimizer's run: what is exact comes out as exact, what is refused or absent is said."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from theory import errors
from theory.averages.any_rule import central_flow_law
from toylab import problems
from toylab.models import central_flow_steps, central_map_steps, rod_flow_steps
from toylab.models.comparison.run import compare, comparing
from toylab.optimizers import NAMED
from toylab.rules.errors import NoLinearEdge


@pytest.fixture(scope="module")
def calm():
    """Heavy ball on a quadratic far below its edge."""
    problem = problems.quadratic(jnp.array([1.0, 0.5, 0.1]))
    models = ["central_map", "predicted"]
    parts = list(comparing(problem, optax.sgd(0.2, 0.5), 12, models=models, count=1, warm_up=3, every=3))
    return parts[-1].result(), parts


def test_below_the_edge_the_map_is_the_run(calm):
    found, _ = calm
    runs = {run.name: run for run in found.runs}
    path = runs["central_map"]
    np.testing.assert_array_equal(found.times, [1, 4, 7, 10])
    assert found.travelled > 0.1
    np.testing.assert_allclose(path.distances, 0, atol=1e-13)  # rounding
    assert runs["stable_flow"].distances[-1] > 1e-3
    said = path.predictions
    np.testing.assert_allclose(said.loss, found.measured.loss, rtol=1e-12)
    np.testing.assert_allclose(said.mean_square, found.measured.square, rtol=1e-12)
    np.testing.assert_allclose(said.edge_ratios, found.measured.edge_ratios, rtol=1e-12)
    np.testing.assert_allclose(said.edge_ratios[:, 0], 0.2 / 3, rtol=1e-9)  # eta lambda/(2 (1 + b))


def test_the_stable_flow_comes_first_and_what_is_refused_is_listed(calm):
    found, parts = calm
    assert [run.name for run in found.runs] == ["stable_flow", "central_map", "twin"]
    assert list(found.refused) == ["predicted"] and "memory" in found.refused["predicted"]
    assert [part.latest for part in parts] == ["optimizer", "stable_flow", "central_map", "predicted", "twin"]
    assert [part.done for part in parts] == [1, 2, 3, 4, 5]


def test_a_comparison_that_is_stopped_has_what_ended(calm):
    found, parts = calm
    assert [[run.name for run in part.result().runs] for part in parts[:3]] == [
        [], ["stable_flow"], ["stable_flow", "central_map"],
    ]  # fmt: skip
    assert not parts[2].result().refused and parts[3].result().refused == found.refused


def test_the_twin_is_the_optimizer_a_millionth_away(calm):
    found, _ = calm
    twin = found.runs[-1]
    weights = np.linalg.norm(found.measured.midpoint[0])
    # on a quadratic below its edge differences only shrink, and none of the three directions at once
    assert np.all(twin.distances < 2e-6 * weights) and twin.distances[-1] > 1e-8 * weights
    np.testing.assert_allclose(twin.predictions.loss, found.measured.loss, rtol=1e-5)  # twice 2e-6 of the weights
    assert twin.errors.gradients_per_step == 1 and twin.errors.variance_error is None


def test_without_an_onset_there_is_no_settled_phase(calm):
    found, _ = calm
    assert found.onset is None and found.settled is None and found.all_followed_critical == 0
    at_the_edge = np.array([[1.01, 0.96], [1.0, 0.9], [0.97, 0.97], [0.96, np.nan]])
    assert replace(found, measured=found.measured._replace(edge_ratios=at_the_edge)).all_followed_critical == 0.5
    for run in found.runs:
        errors = run.errors._asdict()
        phased = ["loss_error", "gradient_error", "edge_ratio_error", "variance_error", "critical_error", "onset_ratio"]
        assert all(errors[name] is None for name in [*phased, "axis_error", "smoothed_10", "smoothed_20"])
        assert errors["unconverged"] == 0 and errors["gradients_per_step"] >= 1
    stable, path, _ = (run.errors._asdict() for run in found.runs)
    assert stable["distance_ratio"] == 1
    assert stable["distance"] == pytest.approx(found.runs[0].distances[-1] / found.travelled, rel=1e-12)
    assert path["distance"] < 1e-12


def test_what_cannot_be_compared_is_refused():
    problem = problems.quadratic(jnp.array([1.0, 0.5]))
    with pytest.raises(ValueError, match="steps=2"):
        compare(problem, optax.sgd(0.1), 2)
    with pytest.raises(ValueError, match=r"models rope.*rod_flow"):
        compare(problem, optax.sgd(0.1), 10, models=["rope"])


@pytest.mark.parametrize(
    "rule",
    ["delayed_gradient", *(pytest.param(r, marks=pytest.mark.slow) for r in ("schedule_free_sgd", "ema_cascade"))],
)
def test_models_of_the_average_refuse_what_the_theory_refuses(rule):
    settings = {"ema_cascade": {"b1": 0.9, "b2": 0.9}}.get(rule, {})
    transform = NAMED[rule](learning_rate=0.1, **settings)
    problem = problems.quadratic(jnp.array([1.0, 0.5]))
    with pytest.raises(errors.NoLinearEdge):
        central_flow_law(NAMED[rule])
    for model in (central_map_steps, central_flow_steps, rod_flow_steps):
        with pytest.raises(NoLinearEdge, match=r"does not cover this rule: (it crosses|a mode)"):
            model(problem, transform)
