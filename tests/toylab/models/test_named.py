"""Models are found where they are: one file declares everything, and what is wrong with it is said with its name."""

import sys

import jax.numpy as jnp
import optax
import pytest

import toylab.models
from figures import flow_runs, model_paths
from toylab import problems
from toylab.commands import flows
from toylab.discovery import DiscoveryError
from toylab.models.comparison.run import compare
from toylab.models.named import BASELINE, models

LATE = """
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.stable_flow import stable_flow_steps

LOOK = Appearance("late", "#123456", "-", "x")
MODEL = Model("late_flow", stable_flow_steps, Coverage.linear_edge, LOOK, slow={slow})
"""


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """A folder beside the models' own: `plant(name, text)` adds a module to it."""
    monkeypatch.setattr(toylab.models, "__path__", [*toylab.models.__path__, str(tmp_path)])

    def planted(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"toylab.models.{name}", raising=False)
        models.cache_clear()
        return str(tmp_path / f"{name}.py")

    yield planted
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"toylab.models.{path.stem}", None)
    models.cache_clear()


def test_models_of_more_rules_come_first():
    assert list(models()) == ["stable_flow", "central_flow", "central_map", "rod_flow", "edge_flow", "predicted"]
    assert [name for name, model in models().items() if model.slow] == ["predicted"]
    assert BASELINE in models()


def test_models_are_told_apart_without_colour():
    looks = [model_paths.appearance(name) for name in (*models(), "twin")]
    assert len({look.marker for look in looks}) == len({look.label for look in looks}) == len(looks)


def test_a_new_file_takes_part_everywhere(plant):
    plant("late", LATE.format(slow=False))
    assert "late_flow" in flows._models(None) and flows._models("late_flow") == ("late_flow",)
    problem = problems.quadratic(jnp.array([1.0, 0.5]))
    found = compare(problem, optax.sgd(0.1), 5, models=["late_flow"], count=1)
    assert [run.name for run in found.runs] == ["stable_flow", "late_flow", "twin"]
    assert found.runs[1].errors.distance == found.runs[0].errors.distance
    data = flows._arrays(found)
    assert "late" in {text.get_text() for text in model_paths.draw(data).legends[0].get_texts()}
    assert flow_runs.present({"late_flow_distance": data["late_flow_distance"]}) == ["late_flow"]


def test_a_slow_model_runs_only_when_it_is_asked_for(plant):
    plant("late", LATE.format(slow=True))
    assert "late_flow" not in flows._models(None) and flows._models("late_flow") == ("late_flow",)


def test_a_file_that_declares_nothing_is_named(plant):
    path = plant("nothing", "")
    with pytest.raises(DiscoveryError, match="declares no MODEL") as refusal:
        models()
    assert path in str(refusal.value)


def test_a_name_that_is_declared_twice_is_refused(plant):
    path = plant("late", LATE.format(slow=False).replace("late_flow", "central_map"))
    with pytest.raises(DiscoveryError, match="'central_map' is declared twice") as refusal:
        models()
    assert path in str(refusal.value)
