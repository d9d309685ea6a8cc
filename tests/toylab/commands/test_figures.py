"""`toylab figures`: three files a figure, whole or not at all; one that fails does not stop the others."""

import json
import sys

import numpy as np
import pytest

from toylab.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_and_data(planted_figures, capsys, folder):
    assert main(["figures", "--quick"]) == 0
    out = folder / "out/figures"
    expected = [f"{name}.{suffix}" for name in ("planted", "tender") for suffix in ("npz", "pdf", "png")]
    assert names(out) == expected
    assert capsys.readouterr().out.split() == [f"out/figures/{name}" for name in expected]
    assert (out / "planted.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "planted.png").read_bytes().startswith(b"\x89PNG")
    with np.load(out / "planted.npz") as data:
        assert data["x"].tolist() == [0, 1, 2]


def test_equal_figures_are_equal_files(planted_figures, folder):
    assert main(["figures", "planted", "--out", "a"]) == main(["figures", "planted", "--out", "b"]) == 0
    for name in ("planted.pdf", "planted.png"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()


def test_one_that_fails_is_exit_1_and_the_others_are_drawn(planted_figures, capsys, folder):
    assert main(["figures", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["figures"]
    assert [(row["name"], row["error"]) for row in rows] == [
        ("planted", None),
        ("tender", "RuntimeError: only quick works"),
    ]
    assert rows[1]["files"] == []
    assert names(folder / "out/figures") == ["planted.npz", "planted.pdf", "planted.png"]


@pytest.mark.parametrize("failing", ["draw", "animate"])
def test_data_survive_a_drawing_that_fails(planted_figures, capsys, folder, monkeypatch, failing):
    def fail(data):
        raise ValueError("no such marker")

    monkeypatch.setattr(sys.modules["figures.planted"], failing, fail, raising=False)
    assert main(["figures", "planted", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["figures"]
    assert row["error"] == "ValueError: no such marker"
    assert row["files"] == ["out/figures/planted.npz"]
    assert names(folder / "out/figures") == ["planted.npz"]
    with np.load(folder / "out/figures/planted.npz") as data:
        assert data["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("arguments", [["figures", "--list"], ["figures"]])
def test_a_module_that_is_no_figure_is_named(planted_figures, capsys, folder, monkeypatch, arguments):
    monkeypatch.delattr(sys.modules["figures.tender"], "TITLE")
    monkeypatch.delattr(sys.modules["figures.tender"], "draw")
    sys.modules["figures.tender"].__file__ = "figures/tender.py"
    assert main([*arguments, "--json"]) == 2
    refusal = json.loads(capsys.readouterr().out)
    assert refusal["error"] == "figures/tender.py declares no TITLE and no draw"
    assert "compute(quick)" in refusal["hint"]
    assert not (folder / "out").exists()


def test_list_draws_nothing(planted_figures, capsys, folder):
    assert main(["figures", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"][0] == {"name": "planted", "title": "a line"}
    assert not (folder / "out").exists()


def test_data_that_npz_cannot_hold_is_named(planted_figures, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["figures.planted"], "compute", lambda quick: {"x": [object()]})
    assert main(["figures", "planted", "--json"]) == 1
    assert "'x'" in json.loads(capsys.readouterr().out)["figures"][0]["error"]


def test_a_figure_that_moves_is_a_gif_as_well(planted_figures, folder, monkeypatch):
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

    def animate(data):
        figure = Figure(figsize=(1, 1))
        (line,) = figure.add_subplot().plot(data["x"])

        def frame(number):
            line.set_ydata(data["x"] * number)
            return [line]

        return FuncAnimation(figure, frame, frames=3)

    monkeypatch.setattr(sys.modules["figures.planted"], "animate", animate, raising=False)
    assert main(["figures", "planted"]) == 0
    assert names(folder / "out/figures") == ["planted.gif", "planted.npz", "planted.pdf", "planted.png"]
    assert (folder / "out/figures/planted.gif").read_bytes().startswith(b"GIF8")
