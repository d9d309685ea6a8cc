"""Each guard of tests/conftest.py and pyproject.toml, seen to fail on one planted example."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[2]

PLANTED = """
import warnings
import jax.numpy as jnp
import pytest
from hypothesis import given, strategies

def test_a_warning_is_an_error():
    warnings.warn("planted")

def test_ranks_are_not_promoted():
    jnp.ones((3, 2)) + jnp.ones(2)

def test_an_expected_failure_that_passes_fails():
    pass

test_an_expected_failure_that_passes_fails = pytest.mark.xfail(test_an_expected_failure_that_passes_fails)

def test_double_precision(key):
    assert jnp.ones(1).dtype == jnp.float64

@pytest.mark.slow
def test_slow():
    raise AssertionError("must be deselected")

@given(strategies.integers(0, 3).map(lambda n: n // 0))
def test_a_property(n):
    pass
"""


def planted(folder: Path, *arguments: str, source: str = PLANTED) -> str:
    """What pytest says of `source` under a copy of this repository's configuration."""
    tests = folder / "tests"
    tests.mkdir(exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / "tests" / "conftest.py", tests)
    (tests / "test_planted.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    # a worker's own variables would make the inner run believe that it is one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=environment
    ).stdout


def test_planted_failures_are_seen(tmp_path):
    report = planted(tmp_path)
    assert "4 failed, 1 passed, 1 deselected" in report, report
    for seen in ("UserWarning: planted", "rank_promotion", "XPASS(strict)", "ZeroDivisionError"):
        assert seen in report, report


def test_an_unknown_marker_is_refused(tmp_path):
    report = planted(tmp_path, source="import pytest\n@pytest.mark.slwo\ndef test_a():\n    pass\n")
    assert "'slwo' not found" in report, report


def test_slow_tests_run_on_demand(tmp_path):
    assert "must be deselected" in planted(tmp_path, "-m", "slow")


def test_this_run_is_strict(key):
    assert jax.config.jax_enable_x64
    assert jnp.zeros(1).dtype == jnp.float64
    assert jax.config.jax_numpy_rank_promotion == "raise"
    assert settings().deadline is None
    assert settings().max_examples >= 30
    assert jax.random.uniform(key) == jax.random.uniform(jax.random.key(0))
