"""Adding a rule, a problem, an observer, a model, a claim or a figure is one new file or one entry, and no other edit.

A copy of the sources gets one of each and is used as anybody would use it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

NEW = {
    "toylab/problems/planted_bowls.py": '''
"""A bowl of three weights."""

import jax.numpy as jnp

from toylab.problems.problem import Problem


def planted_bowl(curvature: float = 2.0) -> Problem:
    """L(w) = (c w_1^2 + w_2^2 + w_3^2/10)/2, c = `curvature`."""
    scales = jnp.array([curvature, 1.0, 0.1])
    return Problem(lambda w: jnp.sum(scales * w**2) / 2, jnp.ones(3), name="planted_bowl")


PROBLEMS = {"planted_bowl": planted_bowl}
''',
    "toylab/observing/planted_norm.py": '''
"""How long the weights are."""

import jax.numpy as jnp

from toylab.observing.observer import Observer, stateless


def _weight_norm(option: int) -> Observer:
    """`planted_norm`: Euclidean norm of weights that are one array, ()."""
    return stateless(lambda moment: {"planted_norm": jnp.linalg.norm(moment.params)})


OBSERVERS = {"planted_norm": _weight_norm}
''',
    "toylab/models/planted_model.py": '''
"""A model that says what the stable flow says."""

from toylab.models.model import Appearance, Coverage, Model
from toylab.models.stable_flow import stable_flow_steps

MODEL = Model(
    name="planted_model",
    steps=stable_flow_steps,
    covers=Coverage.linear_edge,
    appearance=Appearance("planted model", "#123456", (0, (1.0, 3.0)), "P"),
)
''',
    "toylab/claims/planted/__init__.py": '"""A topic of its own."""\n',
    "toylab/claims/planted/bowls.py": '''
"""The edge of gradient descent on the bowl."""

import theory
import toylab
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.optimizers import NAMED

RATE = 0.4


def _predicted(sample: object) -> float:
    return float(theory.edge(NAMED["gd"]).at(learning_rate=RATE).threshold)


def _measured(sample: object) -> float:
    """The curvature at which a step would turn the first weight round, from how far it turns at curvature 2."""
    run = toylab.train(toylab.problems.planted_bowl(2.0), NAMED["gd"](RATE), steps=1)
    return float(2 * 2.0 / (1 - run.params[0]))


CLAIMS = [
    Claim(
        id="planted/bowl",
        tier="quick",
        statement="the first weight turns round at 2/eta",
        source="here",
        comparison=equality(1e-12, "rounding of a few operations"),
        predicted=_predicted,
        measure=_measured,
    )
]
''',
    "figures/planted_line.py": '''
"""A line."""

import numpy as np
from matplotlib.figure import Figure

NAME, TITLE = "planted_line", "A planted line"


def compute(quick: bool) -> dict[str, np.ndarray]:
    """The line, (3,)."""
    return {"x": np.arange(3.0)}


def draw(data: dict[str, np.ndarray]) -> Figure:
    """The line, drawn."""
    figure = Figure()
    figure.add_subplot().plot(data["x"])
    return figure
''',
}
RULE = """
NAMED["planted_rule"] = lambda learning_rate, shrink=0.25: optax.sgd(shrink * learning_rate)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the packages with one new file of each sort, and one entry for the rule."""
    root = tmp_path_factory.mktemp("house")
    for package in ("theory", "toylab", "figures", "docs"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, source in NEW.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source.lstrip())
    with (root / "toylab" / "optimizers.py").open("a") as file:
        file.write(RULE)
    return root


SESSION = """
import contextlib, importlib, io, json, pathlib, sys
from toylab.cli import main

answers = []
for broken, arguments in json.loads(sys.argv[1]):
    for name, source in broken.items():
        pathlib.Path(name).write_text(source)
    importlib.invalidate_caches()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    answers.append((code, out.getvalue(), err.getvalue()))
    for name in broken:
        pathlib.Path(name).unlink()
print(json.dumps(answers))
"""


def session(house: Path, steps: list) -> list:
    """(exit code, stdout, stderr) of command lines run in that house by one process, each with files that are there
    only while it runs.
    """
    done = subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps(steps)],
        env={**os.environ, "PYTHONPATH": str(house), "MPLBACKEND": "agg"},
        cwd=house, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


RUN = ("planted_bowl", "planted_rule", "--set", "learning_rate=.5", "--steps", "4")
USED = {
    "claims": ("verify", "--list", "--json"),
    "claim": ("verify", "planted", "--json", "--out", "claims"),
    "rule": ("derive", "planted_rule", "--json"),
    "run": ("train", *RUN, "--every", "1", "--observe", "planted_norm", "edge_ratio", "--out", "runs"),
    "model": ("flows", *RUN, "--eigenvalues", "1", "--models", "planted_model", "--json", "--out", "flows"),
    "figures": ("figures", "--list"),
    "figure": ("figures", "planted_line", "--out", "drawn"),
}


@pytest.fixture(scope="module")
def used(house) -> dict[str, str]:
    """What each command prints that uses what is new."""
    answers = session(house, [({}, arguments) for arguments in USED.values()])
    assert [code for code, _, _ in answers] == [0] * len(USED), answers
    return {name: out for name, (_, out, _) in zip(USED, answers, strict=True)}


def test_a_claim_is_listed_and_run(used):
    assert "planted/bowl" in {claim["id"] for claim in json.loads(used["claims"])["claims"]}
    ran = json.loads(used["claim"])["claims"]
    assert [(claim["id"], claim["verdict"]) for claim in ran] == [("planted/bowl", "confirmed")]


def test_a_rule_is_derived(used):
    assert json.loads(used["rule"])["crossing"] == "flip"


def test_a_problem_an_observer_and_a_rule_meet_in_a_run(house, used):
    (saved,) = (house / "runs").glob("*.npz")
    with np.load(saved) as arrays:
        assert next(arrays[name] for name in arrays if "planted_norm" in name)[0] == pytest.approx(3**0.5)


def test_a_figure_is_listed_and_drawn(house, used):
    assert "planted_line" in used["figures"]
    assert {path.suffix for path in (house / "drawn").glob("planted_line.*")} == {".npz", ".pdf", ".png"}


def test_a_model_runs_beside_the_optimizer_and_is_drawn(house, used):
    assert [one["name"] for one in json.loads(used["model"])["models"]] == ["stable_flow", "planted_model", "twin"]
    assert {path.suffix for path in (house / "flows").glob("flows.*")} == {".json", ".npz", ".pdf", ".png"}


def test_the_docs_list_what_is_new(house):
    listed = "from docs import build; print(*(build.TABLES[name]() for name in {names!r}))"
    names = ("problems", "observers", "figures", "models", "claims")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", listed.format(names=names)],
        env={**os.environ, "PYTHONPATH": str(house)},
        cwd=house, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    for name in ("planted_bowl", "planted_norm", "planted_line", "planted_model", "planted/bowl"):
        assert name in done.stdout, done.stderr


OWN_NAME = 'def hidden():\n    """No."""\n\n\nPROBLEMS = {"hidden": hidden}\n'
TRAIN = ("train", *RUN, "--observe", "accuracy")
BROKEN = [  # what is found once is remembered: problems are broken before a run finds them
    ("toylab/problems/broken.py", "X = 1\n", (*TRAIN, "--json"), "declares no PROBLEMS"),
    ("toylab/problems/hidden.py", OWN_NAME, TRAIN, "module's own name"),
    ("toylab/observing/broken.py", "import no_such_module\n", TRAIN, "cannot be imported: ModuleNotFoundError"),
    ("toylab/models/broken.py", "MODEL = 1 / 0\n", ("flows", *RUN), "ZeroDivisionError"),
    ("toylab/claims/edge/broken.py", "CLAIMS = [1 / 0]\n", ("verify", "--list"), "ZeroDivisionError"),
    (
        "figures/broken.py",
        'NAME, TITLE, compute, draw = "root_loci", "twice", print, print\n',
        ("figures", "--list", "--json"),
        "declared twice",
    ),
]


def test_a_broken_file_is_one_line_with_its_name(house):
    answers = session(house, [({name: source}, arguments) for name, source, arguments, _ in BROKEN])
    for (name, _, arguments, complaint), (code, out, err) in zip(BROKEN, answers, strict=True):
        told = json.loads(out)["error"] if "--json" in arguments else err
        assert code == 2, told
        assert complaint in told
        assert Path(name).name in told
        assert len(told.strip().splitlines()) == 1
