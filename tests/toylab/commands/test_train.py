"""`toylab train`: one code path with the library, one file, whatever ends the run."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optax
import pytest

import toylab
from toylab.cli import main

PLANTED = """
import jax.numpy as jnp
import optax

import toylab

print("the user's own words")


def bowl(seed=0, momentum=1.0, width=(1.0,)):
    return toylab.Problem(lambda w: momentum * jnp.sum(w**2) / 2 * len(width), jnp.ones(3), name="bowl")


def needs_more(depth):
    return bowl()


def raising():
    raise RuntimeError("first line\\nsecond line")


def number():
    return 3.0


def not_finite():
    return toylab.Problem(lambda w: jnp.sum(w) / 0.0, jnp.zeros(2))


def vector_loss():
    return toylab.Problem(lambda w: w, jnp.ones(2))


def broken_loss():
    return toylab.Problem(lambda w: w @ jnp.ones(7), jnp.ones(2))


READY = bowl()


def my_rule(learning_rate, momentum=0.0):
    return optax.sgd(learning_rate, momentum=momentum)
"""

QUADRATIC = ["quadratic", "gd", "--set", "eigenvalues=1,2,3"]
BOWL = ["planted_toys.py:bowl", "planted_toys.py:my_rule", "--observe", "grad_norm", "--set", "learning_rate=.5"]

# the command line after `train` -> what the line must say and what it must suggest
BAD = {
    "digits_mpl gd": ("no problem is called 'digits_mpl'", "did you mean digits_mlp?"),
    "quadratic gdd": ("no rule is called 'gdd'", "did you mean gd?"),
    "quadratic gd --set eigenvalues=1,2": ("gd needs learning_rate", "--set learning_rate=.01"),
    "quadratic gd --set learning_rate=.1": ("quadratic needs eigenvalues", "--set eigenvalues=..."),
    "quadratic gd --set learning_rate=-1 eigenvalues=1": ("needed a number > 0", "--set learning_rate"),
    "quadratic gd --set lerning_rate=.1": ("neither gd nor quadratic has a parameter", "did you mean learning_rate?"),
    "quadratic gd --set rule.start=1": ("gd has no parameter 'start'", ""),
    "quadratic gd --set rol.start=1": ("needed the name of a parameter", ""),
    "quadratic gd --set learning_rate=.1 rule.learning_rate=.2": ("got learning_rate twice", "once"),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --steps 0": ("--steps got 0", "--steps 100"),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --every 0": ("--every got 0", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --batch-size 0": ("--batch-size got 0", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --batch-size 9": ("at most the 1 examples", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --seed -1": ("--seed got -1", "--seed 0"),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --diverge-above 0": ("--diverge-above got 0", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --observe sharpnes": ("no observer is called", "edge_ratio"),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --observe sharpness=x": ("needed a count", "sharpness=1"),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --observe loss loss": ("got loss twice", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=a": ("quadratic(eigenvalues='a')", ""),
    "digits_mlp gd --set learning_rate=.1 hidden=0": ("widths of at least 1", ""),
    "digits_mlp gd --set learning_rate=.1 seed=1 --seed 2": ("given by --seed and by --set", "leave one"),
    "planted_toys.py:bowl planted_toys.py:my_rule --set momentum=1": (
        "a parameter of both",
        "rule.momentum or problem",
    ),
    "planted_toys.py:bowll gd --set learning_rate=.1": ("has no 'bowll'", "did you mean bowl?"),
    "planted_toys.py:needs_more gd --set learning_rate=.1": ("needs depth", "--set depth="),
    "planted_toys.py:raising gd --set learning_rate=.1": ("raised RuntimeError: first line second line", ""),
    "planted_toys.py:number gd --set learning_rate=.1": ("got float where a Problem is needed", ""),
    "planted_toys.py:vector_loss gd --set learning_rate=.1": ("must return one number", ""),
    "planted_toys.py:broken_loss gd --set learning_rate=.1": ("the loss of", "raised TypeError"),
    "planted_toys.py:not_finite gd --set learning_rate=.1 --observe loss": ("not finite at the start", ""),
    "quadratic optax:sign_sgd --set learning_rate=.1 eigenvalues=1 --observe edge_ratio": ("has no edge ratio", ""),
    "quadratic gd --set learning_rate=.1 eigenvalues=1 --out planted_toys.py": ("cannot be written", "--out DIR"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "planted_toys.py").write_text(PLANTED)
    return tmp_path


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(line, capsys, folder):
    says, suggests = BAD[line]
    assert main(["train", *line.split()]) == 2
    out, err = capsys.readouterr()
    lines = [one for one in err.splitlines() if "warning" not in one and "own words" not in one]
    assert out == "" and len(lines) == 1, err
    assert says in lines[0] and suggests in lines[0]
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["planted_toys.py"]


def test_a_run_is_the_library_s_own_and_is_saved_with_its_configuration(capsys, folder):
    assert main(["train", *QUADRATIC, "learning_rate=.6", "--steps", "40", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    run = toylab.load(told["file"])
    same = toylab.train(
        toylab.problems.quadratic([1, 2, 3]), optax.sgd(0.6), 40, toylab.observers(edge_ratio=True), diverge_above=3e6
    )
    np.testing.assert_array_equal(run.loss, same.loss)
    np.testing.assert_array_equal(run.edge_ratio, same.edge_ratio)
    assert told["status"] == "completed" and told["taken"] == 40
    assert told["edge_ratio"] == run.edge_ratio[-1] == pytest.approx(0.9, rel=1e-12)  # .6 * 3/2
    assert told["plateau"]["outcome"] == "never reached"
    assert run.config["rule"] == "gd" and run.config["problem_settings"] == {"eigenvalues": [1, 2, 3]}
    assert run.config["versions"]["toylab"]
    (file,) = (folder / "out" / "runs").iterdir()
    assert file.name.startswith("gd-quadratic-")


def test_files_of_the_user_prefixes_and_an_interrupt(capsys, folder, monkeypatch):
    assert main(["train", *BOWL, "rule.momentum=.5", "problem.momentum=2", "width=1", "--steps", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rule_settings"] == {"learning_rate": 0.5, "momentum": 0.5}
    assert told["problem_settings"] == {"momentum": 2, "width": 1, "seed": 0}
    assert main(["train", "planted_toys.py:READY", "optax:sign_sgd", "--set", "learning_rate=.1", "--steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert "has no linear edge, so no edge ratio is recorded" in err and "edge ratio" not in out

    def interrupted(*arguments, **choices):
        parts = original(*arguments, **choices)
        yield next(parts)
        yield next(parts)
        raise KeyboardInterrupt

    from toylab.training import runs

    original = runs.training
    monkeypatch.setattr(runs, "training", interrupted)
    assert main(["train", *BOWL, "--steps", "30", "--out", "stopped", "--json"]) == 130
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["status"] == "interrupted" and 0 < told["taken"] < 30
    assert "interrupted after" in err
    run = toylab.load(told["file"])
    assert run.status is toylab.Status.interrupted and len(run.loss) == told["taken"]


ENDLESS = "digits_mlp gd --set examples=50 --steps 100000000 --observe loss --json"


@pytest.mark.slow  # processes that train for seconds
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("line", ["train {} --set learning_rate=.2", "sweep {} --grid learning_rate=.1,.2"])
def test_a_run_that_is_stopped_leaves_a_readable_file(line, sent, folder, environment):
    command = [sys.executable, "-m", "toylab", *line.format(ENDLESS).split()]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("out/runs/*.npz")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, sent)
        out, _ = process.communicate(timeout=60)
    (file,) = folder.glob("out/runs/*.npz")
    run = toylab.load(file)
    assert (np.asarray(run.status) == toylab.Status.interrupted).all() and np.isfinite(run.loss).all()
    assert len(run.steps) > 0 and (np.asarray(run.taken) == len(run.steps)).all()
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert json.loads(out)["file"].endswith(file.name)
