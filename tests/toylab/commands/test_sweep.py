"""`toylab sweep`: grids, seeds, the saved Sweep and its table."""

import json
import sys

import numpy as np
import pytest

import toylab
from toylab.cli import main
from toylab.commands.parts.settings import parsed_grid

BAD = {
    "": ("--grid got nothing", "log:1e-4:1e-2:20"),
    "--grid learning_rate": ("needed name=values", "b1=0,.5,.9"),
    "--grid learning_rate=log:1e-4:1e-2": ("needed log:a:b:n, lin:a:b:n or a list", ""),
    "--grid learning_rate=log:1:2:0": ("needed log:a:b:n", ""),
    "--grid learning_rate=geo:1:2:3": ("needed log:a:b:n", ""),
    "--grid learning_rate=log:0:1:3": ("needed ends > 0", "learning_rate=lin:0:1:3"),
    "--grid learning_rate=.1,x": ("needed finite numbers", ""),
    "--grid learning_rate=.1,inf": ("needed finite numbers", ""),
    "--grid learning_rate=.1 learning_rate=.2": ("got learning_rate twice", ""),
    "--grid learning_rate=.1,-1": ("--grid learning_rate got -1, needed a number > 0", ""),
    "--grid momentun=.1 --set learning_rate=.1": ("neither heavy_ball nor quadratic", "did you mean momentum?"),
    "--grid eigenvalues=1,2 learning_rate=.1": ("a parameter of quadratic", "over the rule's parameters"),
    "--grid learning_rate=.1 --set learning_rate=.1": ("given by --grid and by --set", "leave one"),
    "--grid momentum=0,.5": ("heavy_ball needs learning_rate", ""),
    "--grid learning_rate=.1 --seeds 0": ("--seeds got 0", "--seeds 3"),
    "--grid learning_rate=.1 --seeds 2": ("quadratic has no parameter seed", "leave out --seeds"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(line, capsys, folder):
    says, suggests = BAD[line]
    values = [] if "eigenvalues" in line else ["--set", "eigenvalues=1,2"]
    assert main(["sweep", "quadratic", "heavy_ball", *line.split(), *values]) == 2
    out, err = capsys.readouterr()
    lines = [one for one in err.splitlines() if "warning" not in one]
    assert out == "" and len(lines) == 1, err
    assert says in lines[0] and suggests in lines[0]
    assert not list(folder.iterdir())


def test_grids():
    axes = parsed_grid(["learning_rate=log:1e-4:1e-2:3", "b1=lin:0:1:5", "b2=0,.5,.9", "b3=.2"])
    np.testing.assert_allclose(axes["learning_rate"], [1e-4, 1e-3, 1e-2], rtol=1e-14)
    assert axes["b1"] == (0, 0.25, 0.5, 0.75, 1)
    assert axes["b2"] == (0, 0.5, 0.9) and axes["b3"] == (0.2,)


def test_members_are_counted_by_their_outcome_and_saved(capsys):
    line = "quadratic heavy_ball --set eigenvalues=1,2 --grid learning_rate=.1,.999,3 momentum=0,.5 --steps 40"
    assert main(["sweep", *line.split(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    saved = toylab.load(told["file"])
    assert isinstance(saved, toylab.Sweep) and saved.edge_ratio.shape == (3, 2, 1, 40)
    assert saved.config["rule"] == "heavy_ball"
    by = {tuple(one["settings"].values()): one for one in told["members"]}
    assert by[0.1, 0]["outcomes"]["never reached"] == 1 and by[0.1, 0]["edge_ratio"]["mean"] is None
    assert by[0.999, 0]["outcomes"]["settled"] == 1
    assert by[0.999, 0]["edge_ratio"]["mean"] == pytest.approx(0.999, rel=1e-6)  # eta lambda/2, a full basis
    assert by[3.0, 0]["outcomes"]["diverged"] == 1 and by[3.0, 0]["status"] == {"diverged": 1}


def test_an_interrupt_leaves_what_the_members_have_done(capsys, monkeypatch):
    from toylab.training import sweeps

    original = sweeps.sweeping

    def interrupted(*arguments):
        parts = original(*arguments)
        yield next(parts)
        yield next(parts)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "sweeping", interrupted)
    line = "quadratic gd --set eigenvalues=1 --grid learning_rate=.5,3 --diverge-above 1 --observe grad_norm --steps 30"
    assert main(["sweep", *line.split(), "--json"]) == 130
    out, err = capsys.readouterr()
    told = json.loads(out)
    saved = toylab.load(told["file"])
    assert [member["status"] for member in told["members"]] == [{"interrupted": 1}, {"diverged": 1}]
    assert 0 < saved.taken[0, 0] < 30 and saved.loss.shape == (2, 1, saved.taken[0, 0])
    assert f"interrupted after {saved.taken[0, 0]} of 30 steps" in err
    assert np.isfinite(saved.grad_norm[0]).all() and saved.config["rule"] == "gd"


@pytest.mark.slow
def test_seeds_and_the_table(capsys):
    line = "digits_mlp optax:sign_sgd --set hidden=2 examples=5 --grid learning_rate=.01,.02 --seeds 2 --seed 3"
    assert main(["sweep", *line.split(), "--steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert "no edge ratio is recorded" in err
    assert "2 seeds" in out and "2 completed" in out
    (file,) = (word.rstrip(";") for word in out.split() if ".npz" in word)
    saved = toylab.load(file)
    alone = toylab.problems.digits_mlp(hidden=(2,), examples=5, seed=4)
    np.testing.assert_allclose(saved.loss[:, 1, 0], alone.value(alone.params), rtol=1e-12)  # the second seed is 4
