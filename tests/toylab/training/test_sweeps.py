"""A sweep is its single runs; members neither touch each other nor cost a program each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toylab import Problem, Status, observers, problems, sweep, train
from toylab.training.options import RunOptions
from toylab.training.sweeps import sweeping

SPECTRUM = np.linspace(0.1, 1.0, 18)


def rotated(key: jax.Array) -> Problem:
    return problems.quadratic(SPECTRUM[:4], key=key)


@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_sweep_is_its_single_runs(one_by_one: bool) -> None:
    choice = observers(edge_ratio=True)
    grid = {"learning_rate": [1e-3, 1e-2], "b1": [0.0, 0.9]}
    runs = sweep(
        rotated, optax.adam, grid, 9, seeds=2, observe=choice, every=4, fixed={"b2": 0.9}, one_by_one=one_by_one
    )
    assert runs.loss.shape == (2, 2, 2, 5) and runs.status.shape == (2, 2, 2)
    single = train(rotated(jax.random.key(1)), optax.adam(1e-2, b1=0.9, b2=0.9), 9, choice, every=4)
    # the same arithmetic with sums in another order; four dimensions: exact eigenpairs
    np.testing.assert_allclose(runs.loss[1, 1, 1], single.loss, rtol=1e-11)
    np.testing.assert_allclose(runs.edge_ratio[1, 1, 1], single.edge_ratio, rtol=1e-9)
    np.testing.assert_array_equal(runs.steps, single.steps)


def test_a_diverged_member_leaves_its_neighbours_bitwise_alone() -> None:
    problem = problems.quadratic(SPECTRUM, key=jax.random.key(1))
    wild, tame = (
        sweep(problem, optax.adam, {"learning_rate": [0.1, rate, 0.2]}, 40, observe=observers(edge_ratio=True))
        for rate in (1e200, 0.15)
    )
    assert wild.status.ravel().tolist() == [Status.completed, Status.diverged, Status.completed]
    assert np.isfinite(wild.params).all()
    for name in wild.records:
        np.testing.assert_array_equal(wild.records[name][::2], tame.records[name][::2], err_msg=name)
    np.testing.assert_array_equal(wild.params[::2], tame.params[::2])


def test_new_values_compile_nothing() -> None:
    traced = []

    def loss(params: jax.Array) -> jax.Array:
        traced.append(None)
        return jnp.sum(params**2)

    problem = Problem(loss, jnp.ones(2))
    sweep(problem, optax.sgd, {"learning_rate": [0.1, 0.2], "momentum": [0.1]}, 20, chunk=6)
    before = len(traced)
    runs = sweep(problem, optax.sgd, {"learning_rate": [0.3, 0.4], "momentum": [0.7]}, 15, chunk=6)
    assert len(traced) <= before + 1  # the shape check at the border, and no program
    assert runs.loss.shape == (2, 1, 1, 15)


def test_seeds_may_be_spectra() -> None:
    spectra = jnp.array([[1.0, 0.5], [2.0, 0.1]])
    runs = sweep(problems.quadratic, optax.sgd, {"learning_rate": [0.9, 1.1]}, 400, seeds=spectra, diverge_above=1e6)
    # gradient descent is stable up to 2 / 2 = 1 for the second spectrum and up to 2 for the first
    assert runs.status.tolist() == [[Status.completed] * 2, [Status.completed, Status.diverged]]


def test_a_sweep_that_is_stopped_is_the_beginning_of_the_whole_one() -> None:
    problem, grid = problems.quadratic([1.0]), {"learning_rate": [0.5, 3.0]}
    parts = list(sweeping(problem, optax.sgd, grid, RunOptions(20, every=4, chunk=4, diverge_above=50.0)))
    stopped, whole = parts[2].result(), parts[-1].result()
    assert [part.done for part in parts] == [4, 8, 12, 16, 20]
    # at rate 3 the loss is 2^(2 t)/2: it passes 50 at t = 4, within the second chunk
    assert stopped.status.ravel().tolist() == [Status.interrupted, Status.diverged]
    assert whole.status.ravel().tolist() == [Status.completed, Status.diverged]
    assert stopped.taken.ravel().tolist() == [12, 4] and whole.taken.ravel().tolist() == [20, 4]
    assert stopped.steps.tolist() == [0, 1, 4, 5, 8, 9]
    np.testing.assert_array_equal(stopped.loss, whole.loss[..., :6])
    np.testing.assert_array_equal(stopped.params.ravel(), [0.5**12, 16.0])  # powers of two


@pytest.mark.slow
def test_a_member_without_an_edge_has_no_ratio() -> None:
    grid = {"learning_rate": [0.1], "momentum": [0.5, 1.5]}
    runs = sweep(problems.quadratic(SPECTRUM), optax.sgd, grid, 4, observe=observers(edge_ratio=True))
    assert np.isfinite(runs.edge_ratio[0, 0]).all() and np.isnan(runs.edge_ratio[0, 1]).all()


def test_refusals() -> None:
    problem = problems.quadratic([1.0])
    for grid, message in [
        ({}, "empty grid"),
        ({"learning_rat": [0.1]}, "try learning_rate"),
        ({"learning_rate": []}, "list of finite numbers"),
        ({"learning_rate": [0.1, np.nan]}, "list of finite numbers"),
        ({"momentum": [0.1]}, "cannot be called"),
    ]:
        with pytest.raises(ValueError, match=message):
            sweep(problem, optax.sgd, grid, 5)
    grid = {"learning_rate": [0.1]}
    with pytest.raises(ValueError, match="depends on none"):
        sweep(problem, optax.sgd, grid, 5, seeds=3)
    with pytest.raises(ValueError, match="seeds=0"):
        sweep(problem, optax.sgd, grid, 5, seeds=0)
    with pytest.raises(ValueError, match="leave it in one"):
        sweep(problem, optax.sgd, grid, 5, fixed={"learning_rate": 1.0})
    with pytest.raises(ValueError, match="whole number"):
        sweep(problem, optax.sgd, grid, 0)
    with pytest.raises(ValueError, match="needs a function"):
        sweep(problem, optax.sgd(0.1), grid, 5)


def test_a_sweep_keeps_the_precision_of_the_weights() -> None:
    problem = problems.quadratic([1.0, 2.0])
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem)
    run = sweep(single, optax.rmsprop, {"learning_rate": [0.01], "decay": [0.9]}, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves((run.params, run.state)) if leaf.dtype.kind == "f"} == {
        np.dtype("f4")
    }
