"""Bad input is one clear line, exit 2, no traceback, nothing left behind, one JSON object under --json."""

import json
import re
import subprocess
import sys

import pytest

from toylab.cli import main

RULES = """
import optax

LEARNING_RATE = 0.1

def good_rule(learning_rate, b1=0.9):
    return optax.sgd(learning_rate, momentum=b1)

def raising(learning_rate):
    raise RuntimeError("first line\\nsecond line")

def returns_number(learning_rate):
    return learning_rate

def needs_function(learning_rate, schedule):
    return optax.sgd(schedule(learning_rate))

def no_numbers(nesterov=True):
    return optax.sgd(0.1, nesterov=nesterov)
"""

# arguments of derive -> what the line must say and what it must suggest
BAD_RULES = {
    "adamm": ("no rule is called 'adamm'", "did you mean adam?"),
    "sgd": ("no rule is called 'sgd'", "did you mean optax:sgd?"),
    "zzzzqqqq": ("no rule is called 'zzzzqqqq'", "file.py:factory"),
    "optax:adm": ("optax has no 'adm'", "did you mean adam?"),
    "optax:contrib.ademamics": ("has no 'contrib.ademamics'", "did you mean ademamix?"),
    "optax:__version__": ("is a str, needed a callable", ""),
    "no_such_module_here:rule": ("there is no module no_such_module_here", "file.py:factory"),
    "not a module:rule": ("names no module", "file.py:factory"),
    "nowhere.py:rule": ("there is no file nowhere.py", ""),
    "rule.py:good_rule": ("there is no file rule.py", "did you mean rules.py?"),
    "rules.py:better_rule": ("rules.py has no 'better_rule'", "did you mean good_rule?"),
    "rules.py:zzzz": (
        "rules.py has no 'zzzz'",
        "it has good_rule, needs_function, no_numbers, raising, returns_number",
    ),
    "rules.py": ("names no rule", "it has good_rule"),
    "rules.py:": ("names no rule", "it has good_rule"),
    "rules.py:LEARNING_RATE": ("is a float, needed a callable", "it has good_rule"),
    "rules.py:raising": ("raised RuntimeError: first line second line", "--set"),
    "rules.py:returns_number": ("returned a float, needed an optax.GradientTransformation", ""),
    "rules.py:needs_function": ("raised TypeError", "--set"),
    "rules.py:no_numbers": ("no numeric hyperparameter", "learning_rate"),
    "broken.py:rule": ("importing broken.py raised SyntaxError", ""),
    "quits.py:rule": ("importing quits.py raised SystemExit", ""),
    "imports.py:rule": ("importing imports.py raised ModuleNotFoundError", ""),
    "optax:exponential_decay": ("needed an optax.GradientTransformation", ""),
}

BAD_SETTINGS = {
    "learning_rate=-1": ("got -1, needed a number > 0", ""),
    "learning_rate=0": ("needed a number > 0", ""),
    "learning_rate=nan": ("got nan, needed a finite number", ""),
    "learning_rate=inf": ("got inf, needed a finite number", ""),
    "learning_rate=": ("got no value", ""),
    "learning_rate=fast": ("got 'fast', needed a number", ""),
    "learning_rate=1,2": ("got (1, 2), needed a number", ""),
    "b1=1": ("got 1, needed a number in [0, 1)", ""),
    "b1=-.1": ("got -0.1, needed a number in [0, 1)", ""),
    "eps=-1": ("needed a number >= 0", ""),
    "b9=.1": ("has no parameter 'b9'", "did you mean b"),
    "b1": ("needed name=value", "before --set"),
    "1b=.9": ("needed the name of a parameter", ""),
    "b1=.9 b1=.8": ("got b1 twice", ""),
    "t=-3": ("needed an integer >= 1", ""),
    "t=1.5": ("needed an integer >= 1", ""),
}

BAD_COMMANDS = {
    "deriv adam": ("no command is called 'deriv'", "did you mean derive?"),
    "--zzz": ("unrecognized arguments: --zzz", "toylab --help"),
    "derive": ("RULE", "toylab derive --help"),
    "derive adam --zzz": ("unrecognized arguments", "--help"),
    "derive adam --time-limit soon": ("invalid float value", "toylab derive --help"),
    "derive adam --time-limit 0": ("needed a number of seconds > 0", ""),
    "derive adam --time-limit nan": ("needed a number of seconds > 0", ""),
    "verify --quick --long": ("not allowed with", "toylab verify --help"),
    "verify --seed x": ("invalid int value", ""),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "broken.py").write_text("def rule(:\n")
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "imports.py").write_text("import no_such_module_here\n")
    return tmp_path


def contents(folder):
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in str(path))


def refused(arguments, capsys, says="", suggests=""):
    """Run in both forms and check everything that every refusal promises."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "warning" not in line]
    assert out == ""
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert says in lines[0]
    assert suggests in lines[0]
    assert main([*arguments, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"error", "hint"}
    assert says in answer["error"]
    assert suggests in answer["hint"]


@pytest.mark.parametrize("rule", BAD_RULES)
def test_rules(rule, capsys, folder):
    before = contents(folder)
    refused(["derive", rule], capsys, *BAD_RULES[rule])
    assert contents(folder) == before


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_settings(setting, capsys):
    refused(["derive", "adam", "--set", *setting.split()], capsys, *BAD_SETTINGS[setting])


@pytest.mark.parametrize("line", BAD_COMMANDS)
def test_commands(line, capsys):
    refused(line.split(), capsys, *BAD_COMMANDS[line])


@pytest.mark.parametrize("command", ["verify", "figures"])
@pytest.mark.parametrize("place", ["a_file", "a_file/below/it", "/proc/nowhere/below", "null\0byte"])
def test_a_folder_that_cannot_be_written_leaves_nothing(
    command, place, capsys, folder, planted_claims, planted_figures
):
    (folder / "a_file").write_text("kept")
    before = contents(folder)
    refused([command, "--out", place], capsys, "cannot be written", "--out DIR")
    assert contents(folder) == before
    assert (folder / "a_file").read_text() == "kept"


def test_claims_and_topics(capsys, planted_claims):
    refused(
        ["verify", "fake/holdz"],
        capsys,
        "no claim or topic is called 'fake/holdz'",
        "did you mean fake/holds?",
    )
    refused(["verify", "fakee"], capsys, "no claim or topic", "did you mean fake?")
    refused(["verify", "--seed", "-1"], capsys, "--seed got -1", "--seed 0")


def test_figures(capsys, planted_figures):
    refused(["figures", "planteed"], capsys, "no figure is called 'planteed'", "did you mean planted?")


def test_a_results_file_that_cannot_be_resumed(capsys, folder, planted_claims):
    (folder / "results.json").write_text("{")
    refused(["verify", "--resume", "--out", "."], capsys, "cannot be resumed", "leave out --resume")
    assert (folder / "results.json").read_text() == "{"


def test_a_process_of_its_own_ends_the_same_way(environment):
    command = [sys.executable, "-m", "toylab", "derive", "adamm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(r"^toylab: no rule is called 'adamm' \(did you mean adam", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
