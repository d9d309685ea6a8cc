"""The core keeps the precision of its input: float32 without x64, and float32 beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# prints one line "result field dtype" for each floating array that a small float32 run returns
RUN = """
import sys, jax, jax.numpy as jnp, optax, toylab

def loss(params):
    return 0.5 * jnp.sum(jnp.asarray([1.0, 4.0, 9.0], jnp.float32) * params["w"] ** 2)

problem = toylab.Problem(loss, {"w": jnp.ones(3, jnp.float32)})
observe = toylab.observers(loss=True, edge_ratio=True, sharpness=1)
rates = jnp.asarray([1e-2, 1e-1], jnp.float32)
run = toylab.train(problem, optax.adam(rates[0]), steps=4, observe=observe)
grid = toylab.sweep(problem, optax.adam, {"learning_rate": rates}, steps=4, observe=observe)
for name, result in {"run": run, "grid": grid}.items():
    for field in ("params", "loss", "edge_ratio", "sharpness"):
        for leaf in jax.tree.leaves(getattr(result, field)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                print(name, field, leaf.dtype)
"""


def returned(x64: bool) -> list[str]:
    """The lines of RUN in a fresh interpreter, where a down-cast that JAX warns of is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
        env={**os.environ, "JAX_ENABLE_X64": str(int(x64))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def promoted(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.endswith(" float32")]


# Without x64 nothing can be promoted: what is left to see there is a warning of a down-cast.
@pytest.mark.parametrize("x64", [pytest.param(False, marks=pytest.mark.slow), True])
def test_float32_stays_float32(x64):
    lines = returned(x64)
    assert {tuple(line.split()[:2]) for line in lines} >= {("run", "loss"), ("grid", "sharpness")}, lines
    assert promoted(lines) == []


def test_a_planted_promotion_is_seen():
    assert promoted(["run params float32", "grid loss float64"]) == ["grid loss float64"]
