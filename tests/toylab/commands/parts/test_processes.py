"""Claims in several processes: the same records as in one, and none is missing."""

import os
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest

from tests.toylab.commands.conftest import HOLDS
from toylab.claims import discovered, run_claim
from toylab.cli import main
from toylab.commands.parts.processes import families, run_apart, usual_jobs

HOW = {"tier": "quick", "seed": 3, "sabotage": False}


def test_claims_of_one_module_stay_together():
    claims = discovered()
    found = families(claims)
    assert sorted(name for family in found for name in family) == sorted(claim.id for claim in claims)
    together = {name: index for index, family in enumerate(found) for name in family}
    assert together["flows/central_map_closer"] == together["flows/variance"] != together["flows/comes_to_rest"]
    assert usual_jobs() >= 1


@pytest.mark.slow  # as below; what is run for every change, `verify --quick`, goes through them, too
def test_processes_give_the_records_of_one(capfd):
    """And a claim whose process breaks, here because it is not a claim of toylab, is an error and no hole."""
    (real,) = [claim for claim in discovered() if claim.id == "scalar_nets/two_weights_bound"]
    records = {record["id"]: record for record in run_apart([HOLDS, real], 2, **HOW)}
    alone = run_claim(real, **HOW).to_json()
    assert {**records[real.id], "seconds": 0} == {**alone, "seconds": 0}
    lost = records[HOLDS.id]
    assert lost["verdict"] == "error" and "process ended with code 1" in lost["finding"]
    assert "KeyError" in capfd.readouterr().err


def test_planted_claims_of_one_module_need_no_processes(planted_claims, monkeypatch, tmp_path):
    monkeypatch.setattr("toylab.commands.parts.processes.run_apart", partial(pytest.fail, "they are one family"))
    assert main(["verify", "--jobs", "4", "--out", str(tmp_path)]) == 0


def test_a_number_of_processes_is_at_least_one(planted_claims, capsys):
    assert main(["verify", "--jobs", "0"]) == 2
    assert "--jobs got 0" in capsys.readouterr().err


PARENT = """
import toylab.claims.noise.mean_square
from toylab.claims import discovered
from toylab.commands.parts.processes import run_apart

if __name__ == "__main__":
    claims = [claim for claim in discovered() if claim.topic == "noise"]
    for record in run_apart(claims, 2, tier="quick", seed=0, sabotage=False):
        print(record["id"], flush=True)
"""


def children(parent):
    """Processes whose parent is the given one."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.slow  # three processes import everything
@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps to look with")
def test_they_end_with_the_process_that_started_them(tmp_path, environment):
    """However that one ends: here it is killed and can clean nothing up."""
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline().startswith(b"noise/")
        workers = children(parent.pid)
        assert len(workers) >= 2
        parent.kill()
        parent.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(worker) for worker in workers)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
