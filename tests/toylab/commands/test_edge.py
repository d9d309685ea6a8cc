"""`toylab edge`: how far from the edge, at the start, after some steps, at a saved run."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import toylab
from toylab.cli import main

BAD = {
    "quadratic optax:sign_sgd --set eigenvalues=1": ("optax:sign_sgd has no linear edge: the held step", "linear"),
    "quadratic gd --set eigenvalues=1 --steps -1": ("--steps got -1, needed an integer >= 0", ""),
    "quadratic gd --set eigenvalues=1 --steps 5": ("gd needs learning_rate", ""),
    "quadratic gd --set eigenvalues=1 --run a.npz --steps 5": ("--run and --steps", "at the start"),
    "quadratic gd --set eigenvalues=1 --run a.npz": ("there is no file a.npz", "toylab train"),
    "quadratic gd --set eigenvalues=1 --run text.npz": ("is not a record of toylab", ""),
    "quadratic gd --set eigenvalues=1 --run run.npz": ("weights of shapes [(3,)], the problem [(1,)]", "own settings"),
    "quadratic gd --set eigenvalues=1 --run sweep.npz": ("a sweep of many runs", ""),
    "quadratic gd --set eigenvalues=1,2,4 --run nan.npz": ("needs finite params and loss", ""),
}
LINE = ["edge", "quadratic", "gd", "--set", "eigenvalues=1,2,4"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a saved run, a saved sweep, and a text that is neither."""
    folder = tmp_path_factory.mktemp("stored")
    one = toylab.Trajectory(np.arange(2), {}, toylab.Status.completed, 2, np.array([0.0, 0.0, 0.5]))
    one.save(folder / "run.npz")
    dataclasses.replace(one, params=np.full(3, np.nan)).save(folder / "nan.npz")
    status = np.zeros((1, 1), int)
    toylab.Sweep(np.arange(2), {}, status, status, np.zeros((1, 1, 3)), grid={"b1": np.zeros(1)}).save(
        folder / "sweep.npz"
    )
    (folder / "text.npz").write_text("not a run")
    return folder


@pytest.fixture(autouse=True)
def folder(stored, monkeypatch):
    monkeypatch.chdir(stored)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line, capsys):
    says, suggests = BAD[line]
    assert main(["edge", *line.split()]) == 2
    out, err = capsys.readouterr()
    lines = [one for one in err.splitlines() if "warning" not in one]
    assert out == "" and len(lines) == 1, err
    assert says in lines[0] and suggests in lines[0]


def told(arguments, capsys):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_at_the_start_and_without_a_learning_rate(capsys):
    found = told(LINE, capsys)
    # three dimensions: the basis is full, the values exact to rounding
    assert found["sharpness"] == found["preconditioned_sharpness"] == pytest.approx(4, rel=1e-12)
    assert found["max_learning_rate"] == pytest.approx(0.5, rel=1e-10)
    assert found["lower"] <= 0.5 <= found["upper"]
    assert found["edge_ratio"] is None and found["taken"] == 0


def test_after_some_steps_and_at_a_saved_run(capsys):
    found = told([*LINE, "learning_rate=.4", "--steps", "3"], capsys)
    assert found["edge_ratio"] == pytest.approx(0.8, rel=1e-10)
    assert found["taken"] == 3 and found["status"] == "completed"
    weights = (1 - 0.4 * np.array([1.0, 2.0, 4.0])) ** 3
    assert found["loss"] == pytest.approx(0.5 * np.sum([1, 2, 4] * weights**2), rel=1e-10)
    assert told([*LINE, "--run", "run.npz"], capsys)["loss"] == pytest.approx(0.5 * 4 * 0.25, rel=1e-12)


def test_the_text(capsys):
    assert main([*LINE, "learning_rate=.4"]) == 0
    out = capsys.readouterr().out
    assert "edge ratio                    0.8  (threshold 5 at learning rate 0.4)" in out
    assert "largest stable learning rate  0.5  (at least 0.5, at most 0.5)" in out
