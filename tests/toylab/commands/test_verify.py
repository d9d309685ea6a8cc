"""`toylab verify`: verdicts become a table, two files, one JSON object and an exit code."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest

from toylab.claims import equality
from toylab.cli import main

KEYS = {
    "id", "kind", "statement", "source", "predicted", "measured", "tolerance", "tolerance_reason",
    "resolution", "expected", "verdict", "finding", "seconds", "tier",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failing(claim):
    return dataclasses.replace(claim, id="fake/fails", measure=lambda sample: 3.0)


def blind(claim):
    cannot_fail = dataclasses.replace(equality(1e-6, "planted"), agrees=lambda p, m: p[:, 0] == p[:, 0])
    return dataclasses.replace(claim, id="fake/blind", comparison=cannot_fail)


def breaking(claim):
    return dataclasses.replace(claim, id="fake/breaks", measure=lambda sample: 1 / 0)


def verdicts(path):
    return {record["id"]: record["verdict"] for record in json.loads(path.read_text())["claims"]}


def test_all_as_expected(planted_claims, capsys, folder):
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fake/measured (measured): five")
    assert "2 claims: 1 confirmed, 1 measured" in out
    assert verdicts(folder / "out/report/results.json") == {
        "fake/holds": "confirmed",
        "fake/measured": "measured",
    }
    assert "| fake/holds |" in (folder / "out/report/results.md").read_text()
    assert sorted(path.name for path in (folder / "out/report").iterdir()) == ["results.json", "results.md"]


@pytest.mark.parametrize("plant", [failing, blind, breaking])
def test_a_verdict_that_is_not_expected_is_exit_1(planted_claims, plant, capsys):
    planted_claims.append(plant(planted_claims[0]))
    assert main(["verify"]) == 1
    assert "!" in capsys.readouterr().out


def talkative(sample):
    print("a claim that prints")  # noqa: T201
    return 2.0


def test_json_is_exactly_one_object_and_the_file(planted_claims, capsys, folder):
    planted_claims[0] = dataclasses.replace(planted_claims[0], measure=talkative)
    assert main(["verify", "--json", "--out", "here"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"claims", "environment"}
    assert all(set(record) == KEYS for record in answer["claims"])
    assert set(answer["environment"]) >= {"versions", "devices", "precision", "seed"}
    assert answer["environment"]["precision"] == "float64"
    assert answer == json.loads((folder / "here/results.json").read_text())


def test_sabotage_refutes_all_but_measurements_and_is_kept_apart(planted_claims, capsys, folder):
    assert main(["verify", "--sabotage"]) == 0
    assert not (folder / "out/report/results.json").exists()
    assert verdicts(folder / "out/report/sabotage/results.json") == {
        "fake/holds": "refuted",
        "fake/measured": "measured",
    }
    planted_claims.append(blind(planted_claims[0]))
    assert main(["verify", "--sabotage"]) == 1


def test_list_runs_nothing(planted_claims, capsys, folder):
    planted_claims.append(breaking(planted_claims[0]))
    assert main(["verify", "--list"]) == 0
    assert "slow/long" in capsys.readouterr().out
    assert main(["verify", "--list", "--json", "slow"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["claims"]
    assert record["id"] == "slow/long"
    assert not (folder / "out").exists()


def test_tiers_topics_and_ids(planted_claims, folder):
    assert main(["verify", "--long", "--out", "a"]) == 0
    assert set(verdicts(folder / "a/results.json")) == {"fake/holds", "fake/measured", "slow/long"}
    assert main(["verify", "slow/long", "--quick", "--out", "b"]) == 0
    assert set(verdicts(folder / "b/results.json")) == {"slow/long"}


def test_no_claims_is_not_success(planted_claims, capsys):
    planted_claims.clear()
    assert main(["verify"]) == 2
    assert "no claim to run" in capsys.readouterr().err


def test_an_interrupt_keeps_what_is_finished(planted_claims, interrupted_claim, capsys, folder):
    planted_claims.insert(1, interrupted_claim)
    assert main(["verify", "--json"]) == 130
    out, err = capsys.readouterr()
    assert [record["id"] for record in json.loads(out)["claims"]] == ["fake/holds"]
    assert "1 of 3 claims are saved" in err
    assert verdicts(folder / "out/report/results.json") == {"fake/holds": "confirmed"}


def test_resume_runs_the_rest_only(planted_claims, interrupted_claim, capsys, folder):
    planted_claims.insert(1, interrupted_claim)
    assert main(["verify"]) == 130
    planted_claims[:2] = [dataclasses.replace(planted_claims[0], measure=lambda sample: 1 / 0)]  # must not run
    assert main(["verify", "--resume"]) == 0
    assert verdicts(folder / "out/report/results.json") == {
        "fake/holds": "confirmed",
        "fake/measured": "measured",
    }


def test_resume_does_not_mix_seeds(planted_claims, capsys, folder):
    assert main(["verify"]) == 0
    planted_claims[0] = failing(planted_claims[0])
    capsys.readouterr()
    assert main(["verify", "--resume", "--seed", "1"]) == 1
    assert "starting afresh" in capsys.readouterr().err
    assert "fake/fails" in verdicts(folder / "out/report/results.json")


SCRIPT = """
import sys, time
import toylab.claims, toylab.commands.parts.shadowing
from toylab.claims import Claim, equality
from toylab.cli import main

def claim(name, measure):
    return Claim(id=name, statement="s", source="s", tier="quick", measure=measure,
                 comparison=equality(1e-6, "planted"), predicted=lambda sample: 2.0)

toylab.commands.parts.shadowing.shadowed = lambda names=(): []
FIRST = claim("fake/first", lambda s: 2.0)
SLOW = claim("fake/slow", lambda s: time.sleep(60) or 2.0)
toylab.claims.discovered = lambda: [FIRST, SLOW]
sys.exit(main(sys.argv[1:]))
"""


# a suite that runs in the background of a shell has inherited "interrupts are ignored"
HEAR = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def started(folder, environment, *arguments):
    (folder / "script.py").write_text(HEAR + SCRIPT)
    command = [sys.executable, "script.py", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def test_ctrl_c_in_a_process_of_its_own(folder, environment):
    process = started(folder, environment, "verify", "--json")
    deadline = time.monotonic() + 50
    results = folder / "out/report/results.json"
    while not results.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [record["id"] for record in json.loads(out)["claims"]] == ["fake/first"]
    assert verdicts(results) == {"fake/first": "confirmed"}


def test_a_reader_that_goes_away_is_no_traceback(folder, environment):
    process = started(folder, environment, "verify", "fake/first", "--list")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=50) == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
