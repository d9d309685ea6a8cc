"""What is saved comes back; what is half written never appears."""

import os
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toylab import Problem, Status, load, problems, sweep, train
from toylab.training import records


def same_tree(one, other) -> None:
    import jax

    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == b.dtype


def test_a_trajectory_comes_back(tmp_path) -> None:
    def loss(params) -> jnp.ndarray:
        return sum(jnp.sum(leaf**2) for leaf in (params["a"][0], params["a"][1][0], params["b"]))

    start = {"a": (jnp.ones(2), [jnp.zeros((2, 1))]), "b": jnp.ones((), jnp.float32), "none": None}
    run = train(Problem(loss, start, name="mine"), optax.sgd(0.1), 7, every=3)
    back = load(run.save(tmp_path / "run.npz"))
    same_tree(run.params, back.params)
    for name in run.records:
        np.testing.assert_array_equal(run.records[name], back.records[name])
    np.testing.assert_array_equal(run.steps, back.steps)
    assert back.status is Status.completed and back.taken == 7 and back.config == run.config
    assert back.config["problem"] == "mine" and back.config["versions"]["jax"]
    assert repr(back) == repr(run) == "Trajectory(completed after 7 steps; 5 steps observed: loss)"


def test_a_sweep_comes_back(tmp_path) -> None:
    runs = sweep(problems.quadratic([1.0, 2.0]), optax.sgd, {"learning_rate": [0.1, 5.0], "momentum": [0.0]}, 5)
    back = load(runs.save(tmp_path / "anything"))
    assert isinstance(back, records.Sweep) and list(back.grid) == ["learning_rate", "momentum"]
    np.testing.assert_array_equal(runs.loss, back.loss)
    np.testing.assert_array_equal(runs.status, back.status)
    np.testing.assert_array_equal(runs.grid["learning_rate"], back.grid["learning_rate"])
    told = "Sweep(2 learning_rate x 1 momentum x 1 seeds: 2 completed; 5 steps observed: loss)"
    assert repr(back) == repr(runs) == told


def test_other_containers_come_back_by_path(tmp_path) -> None:
    class Pair(NamedTuple):
        x: jnp.ndarray
        y: jnp.ndarray

    run = train(Problem(lambda p: p.x**2 + p.y**2, Pair(jnp.ones(()), jnp.ones(()))), optax.sgd(0.1), 1)
    assert list(load(run.save(tmp_path / "run.npz")).params) == [".x", ".y"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    run = train(problems.quadratic([1.0]), optax.sgd(0.1), 3)
    path = run.save(tmp_path / "run.npz")
    before = path.read_bytes()

    def broken(*arguments) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        run.save(path)
    assert os.listdir(tmp_path) == ["run.npz"] and path.read_bytes() == before


def test_foreign_files_are_refused(tmp_path) -> None:
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", x=np.ones(2))
    for name in ("text", "other.npz"):
        with pytest.raises(ValueError, match="not a record of toylab"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
