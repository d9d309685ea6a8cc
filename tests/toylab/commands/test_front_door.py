"""Help, version, precision, shadowing and the doctor."""

import importlib.util
import json
import subprocess
import sys

import jax
import pytest

import toylab
from toylab.cli import main
from toylab.commands import COMMANDS
from toylab.commands.parts.shadowing import shadowed


def test_without_arguments_help_is_printed(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command, capsys):
    assert main([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_every_command_is_a_module_and_every_command_module_a_command():
    for name in COMMANDS:
        assert importlib.util.find_spec(f"toylab.commands.{name}") is not None


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, "float64"),
        *(pytest.param(*both, marks=pytest.mark.slow) for both in (("0", "float32"), ("1", "float64"))),
    ],
)
def test_the_precision_is_double_unless_the_user_chose(chosen, expected, tmp_path, environment):
    environment |= {} if chosen is None else {"JAX_ENABLE_X64": chosen}
    done = subprocess.run(
        [sys.executable, "-m", "toylab", "doctor", "--json"],
        capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["environment"]["precision"] == expected
    assert done.returncode == (0 if answer["ok"] else 1)
    assert answer["ok"], answer["checks"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("chosen", "switched"), [(None, [("jax_enable_x64", True)]), ("0", []), ("1", [])])
def test_a_precision_that_the_user_chose_is_left_alone(chosen, switched, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(jax.config, "update", lambda *change: calls.append(change))
    monkeypatch.delenv("JAX_ENABLE_X64", raising=False)
    if chosen is not None:
        monkeypatch.setenv("JAX_ENABLE_X64", chosen)
    assert main(["verify", "--list"]) == 0
    assert [change for change in calls if change[0] == "jax_enable_x64"] == switched


def test_nothing_of_this_installation_is_shadowed():
    assert shadowed() == []


def test_a_planted_package_is_seen(tmp_path, monkeypatch, capsys):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "figures"]:
        monkeypatch.delitem(sys.modules, name)
    (line,) = shadowed()
    assert f"figures is found in {tmp_path / 'figures'}" in line
    assert main(["figures", "--list"]) == 2
    assert capsys.readouterr().err.count("shadows the one of toylab") == 2  # the warning, and the refusal


def test_a_doctor_who_finds_something_says_so(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--json", "--out", str(tmp_path / "file")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert [check["name"] for check in answer["checks"] if not check["ok"]] == ["output"]


def test_this_process_stays_in_double_precision():
    assert jax.config.jax_enable_x64
    assert toylab.__file__


@pytest.mark.parametrize(("code", "said"), [(130, ""), (2, "torn down\n")])
def test_ctrl_c_ends_the_process_without_its_teardown(code, said):
    """A compilation in another thread would crash it."""
    source = (
        "import atexit, toylab.cli as cli\n"
        "atexit.register(print, 'torn down')\n"
        f"cli.main = lambda: {code}\n"
        "cli.entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (code, said)
