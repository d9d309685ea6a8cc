"""`toylab flows`: models beside the run, as a table, as JSON, in files; refusals; failures leave nothing behind."""

import contextlib
import dataclasses
import io
import json
import sys

import numpy as np
import pytest

import figures.model_paths
import toylab.models.comparison.run
from toylab.cli import main
from toylab.commands import flows

PROBLEM = """
import jax.numpy as jnp
import toylab


def valley(far=3.0):
    def loss(w):
        return 0.5 * w[0] ** 2 * (1 + w[1]) - 0.2 * w[1] + 0.05 * w[1] ** 2

    return toylab.Problem(loss, jnp.array([0.1, far]))

"""
STEPS = 30
LINE = (
    f"flows valley.py:valley heavy_ball --set learning_rate=1 momentum=.1 far=.9 --steps {STEPS} --eigenvalues 1 "
    "--models central_map,edge_flow"
)
FIELDS = {
    "name", "distance", "distance_ratio", "onset_ratio", "overshoot_ratio", "loss_error", "gradient_error",
    "edge_ratio_error", "variance_error", "axis_error", "critical_error", "smoothed_10", "smoothed_20",
    "gradients_per_step", "unconverged", "seconds_per_step",
}  # fmt: skip
BAD = {
    "optax:sign_sgd --set learning_rate=.1": ("optax:sign_sgd has no linear edge: the held step", "linear"),
    "gd": ("gd needs learning_rate", "--set learning_rate=.01"),
    "gd --set learning_rate=.1 --models central_mapp": ("'central_mapp', which is no model", "central_map?"),
    "gd --set learning_rate=.1 --models ,": ("--models got ''", "stable_flow"),
    "gd --set learning_rate=.1 --steps 2": ("--steps got 2, needed an integer >= 3", ""),
    "gd --set learning_rate=.1 --eigenvalues 0": ("--eigenvalues got 0, needed an integer >= 1", ""),
    "gd --set learning_rate=.1 --warm-up -1": ("--warm-up got -1, needed an integer >= 0", ""),
    "gd --set learning_rate=.1 --batch-size 3": ("--batch-size was given", "leave it out"),
    "gd --set learning_rate=.1 --out valley.py/in": ("cannot be written", "--out DIR"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    (folder / "valley.py").write_text(PROBLEM)
    return folder


@pytest.fixture(autouse=True)
def folder(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return place


@pytest.fixture(scope="module")
def answers(place):
    """Text and JSON object of one comparison, which is computed once, and the `ModelComparison` itself."""
    comparing, kept, told = toylab.models.comparison.run.comparing, [], []

    def once(*arguments, **options):
        kept.extend([] if kept else comparing(*arguments, **options))
        return iter(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(toylab.models.comparison.run, "comparing", once)
        for form in ([], ["--json"]):
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                assert main([*LINE.split(), *form]) == 0
            told.append(stream.getvalue())
    return told[0], json.loads(told[1]), kept[-1].result()


def test_the_json_object_is_the_comparison(answers):
    _, found, compared = answers
    assert (found["problem"], found["rule"], found["steps"]) == ("valley.py:valley", "heavy_ball", STEPS)
    assert found["warm_up"] == 0  # no second moments
    assert (found["onset"], found["settled"]) == (compared.onset, compared.settled) and found["onset"] is not None
    assert found["travelled"] == compared.travelled > 0
    assert [model["name"] for model in found["models"]] == ["stable_flow", "central_map", "twin"]
    assert [set(model) for model in found["models"]] == [FIELDS] * 3
    for model, run in zip(found["models"], compared.runs, strict=True):
        assert model["distance"] == run.distances[-1] / compared.travelled
    assert set(found["refused"]) == {"edge_flow"} and "plain gradient descent" in found["refused"]["edge_flow"]
    assert {"versions", "devices", "precision", "code"} <= set(found["environment"])


def test_the_text_says_the_same(answers):
    text, found, _ = answers
    lines = text.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    for model in found["models"]:
        assert rows[model["name"]][1] == f"{model['distance']:.3g}"
        assert rows[model["name"]][7] == f"{model['gradients_per_step']:.1f}"
    assert any(line.startswith("edge_flow: refused: ") for line in lines)
    assert f"over steps {found['settled']} to {STEPS}, the second half" in text
    assert "never reached the edge" not in text


def test_the_files_hold_what_was_drawn_and_printed(answers, folder):
    _, found, compared = answers
    out = folder / "out/flows"
    assert sorted(path.name for path in out.iterdir()) == [f"flows.{kind}" for kind in ("json", "npz", "pdf", "png")]
    assert json.loads((out / "flows.json").read_text()) == found
    with np.load(out / "flows.npz") as data:
        assert data["models"].tolist() == ["stable_flow", "central_map", "twin"]
        for run in compared.runs:
            np.testing.assert_array_equal(data[f"{run.name}_distance"], run.distances)
            assert data[f"{run.name}_loss"].shape == data["steps"].shape == (STEPS,)
        assert data["times"].shape == data["central_map_distance"].shape


def test_a_run_that_never_reached_the_edge_says_so(answers):
    _, found, _ = answers
    record = {**found, "onset": None, "settled": None}
    (line,) = [line for line in flows._lines(record) if "edge:" in line]
    assert line.startswith("never reached the edge: the models agree because nothing oscillates")


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line, capsys, folder):
    before = sorted(folder.rglob("*.*"))
    says, suggests = BAD[line]
    assert main(["flows", "valley.py:valley", *line.split()]) == 2
    out, err = capsys.readouterr()
    lines = [one for one in err.splitlines() if "warning" not in one]
    assert out == "" and len(lines) == 1, err
    assert says in lines[0] and suggests in lines[0]
    assert sorted(folder.rglob("*.*")) == before


def replay(monkeypatch, *comparisons, end=None):
    """Comparisons as they would be after one part each, and then an exception."""

    def comparing(*arguments, **options):
        for done, comparison in enumerate(comparisons, 1):
            yield toylab.models.comparison.run.PartialComparison(done, "", lambda comparison=comparison: comparison)
        if end is not None:
            raise end

    monkeypatch.setattr(toylab.models.comparison.run, "comparing", comparing)


def test_an_optimizer_that_rests_is_refused(answers, capsys, monkeypatch):
    replay(monkeypatch, dataclasses.replace(answers[2], travelled=0.0))
    assert main(LINE.split()) == 2
    assert "ended where it began" in capsys.readouterr().err


def test_a_figure_that_cannot_be_drawn_costs_no_result(answers, monkeypatch, capsys, folder):
    _, found, compared = answers

    def broken(data):
        raise KeyError("planted")

    replay(monkeypatch, compared)
    monkeypatch.setattr(figures.model_paths, "draw", broken)
    assert main([*LINE.split(), "--out", "undrawn", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((folder / "undrawn/flows.json").read_text()) == found
    assert sorted(path.name for path in (folder / "undrawn").iterdir()) == ["flows.json", "flows.npz"]
    assert "results are in undrawn/flows.{json,npz}, but they could not be drawn: KeyError: 'planted'" in err


def test_ctrl_c_before_the_first_model_leaves_no_empty_folder(answers, monkeypatch, capsys, folder):
    replay(monkeypatch, dataclasses.replace(answers[2], runs=()), end=KeyboardInterrupt())
    assert main([*LINE.split(), "--out", "left"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (folder / "left").exists()


def test_ctrl_c_saves_the_models_that_ended(answers, monkeypatch, capsys, folder):
    _, found, compared = answers
    first = dataclasses.replace(compared, runs=compared.runs[:1], refused={})
    replay(monkeypatch, first, end=KeyboardInterrupt())
    assert main([*LINE.split(), "--out", "part", "--json"]) == 130
    out, err = capsys.readouterr()
    assert "interrupted, 1 of the models ended" in err
    assert json.loads(out)["models"] == found["models"][:1]
    assert json.loads((folder / "part/flows.json").read_text()) == json.loads(out)


def test_a_model_that_fails_costs_no_other_model(answers, monkeypatch, capsys, folder):
    _, found, compared = answers
    first = dataclasses.replace(compared, runs=compared.runs[:1], refused={})
    replay(monkeypatch, first, end=TypeError("planted"))
    assert main([*LINE.split(), "--out", "failed", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "a model failed, TypeError: planted, 1 of the models ended" in err
    assert "Traceback" not in err
    assert json.loads((folder / "failed/flows.json").read_text()) == json.loads(out)
    assert json.loads(out)["models"] == found["models"][:1]
