"""Every observer against its definition on problems where that can be computed otherwise, and mini-batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import toylab
from toylab import curvature, observers, train
from toylab.curvature import dense_hessian
from toylab.observing.batches import drawn_batch
from toylab.observing.motion import sketch

EVERYTHING = observers(
    accuracy=True, grad_norm=True, sharpness=2, edge_ratio=2, midpoint_sharpness=1,
    projections=2, alignment=True, position=10_000, step_size=True, state=True, batch_sharpness=100,
)  # fmt: skip

GD = optax.sgd(0.1)  # one object, so that runs share a compiled program


@pytest.fixture(scope="module")
def problem() -> toylab.Problem:
    return toylab.problems.digits_mlp(hidden=(3,), examples=12)


@pytest.fixture(scope="module")
def run(problem: toylab.Problem) -> toylab.Trajectory:
    return train(problem, optax.adam(0.05), 6, EVERYTHING)


def flat(tree: object) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def test_observers_against_their_definitions(problem: toylab.Problem, run: toylab.Trajectory) -> None:
    hessian = jax.jit(lambda params: dense_hessian(problem, params))
    slope = jax.jit(problem.gradient)
    weights = run.position  # there are fewer weights than numbers asked for: then they are stored as they are
    np.testing.assert_array_equal(weights[0], flat(problem.params))
    _, unravel = ravel_pytree(problem.params)
    midpoints = 0.25 * (weights[:-2] + 2 * weights[1:-1] + weights[2:])
    for t in range(1, 5):
        params, midpoint = unravel(weights[t]), unravel(midpoints[t - 1])
        gradient = flat(slope(params))
        values, vectors = np.linalg.eigh(hessian(params))
        top = vectors[:, ::-1][:, :2].T
        # the solver's tolerance 1e-2 of the residual leaves about its square in the values
        np.testing.assert_allclose(run.sharpness[t], values[::-1][:2], rtol=1e-3)
        middle = np.linalg.eigvalsh(hessian(midpoint))[-1]
        np.testing.assert_allclose(run.midpoint_sharpness[t, 0], middle, rtol=1e-3)
        swing = weights[t] - midpoints[t - 1]
        np.testing.assert_allclose(run.oscillation[t], np.linalg.norm(swing), rtol=1e-10)  # roundings of differences
        # eigenvectors are as good as the residual over the gap; compared up to sign
        np.testing.assert_allclose(np.abs(run.projections[t]), np.abs(top @ swing), atol=0.03 * np.linalg.norm(swing))
        np.testing.assert_allclose(
            np.abs(run.gradient_projections[t]), np.abs(top @ gradient), atol=0.03 * np.linalg.norm(gradient)
        )
        np.testing.assert_allclose(run.grad_norm[t], np.linalg.norm(gradient), rtol=1e-12)
        product = gradient @ hessian(params) @ gradient / (gradient @ gradient)
        # batches of all examples: 16 times the same number, summed in other orders
        np.testing.assert_allclose(run.batch_sharpness[t], product, rtol=1e-10)
        assert run.batch_sharpness_error[t] < 1e-12 * product
        moved = np.linalg.norm(weights[t + 1] - weights[t])
        np.testing.assert_allclose([run.step_norm[t], run.effective_step[t] * run.grad_norm[t]], moved, rtol=1e-10)

        step = 1e-5 * gradient  # central difference of the dense sharpness: error O(step^2), noise 1e-16/step
        ahead, behind = (np.linalg.eigvalsh(hessian(unravel(weights[t] + s * step)))[-1] for s in (1, -1))
        rate = -(ahead - behind) / 2e-5
        # first order in the error of the eigenvector
        np.testing.assert_allclose(run.sharpening_rate[t], rate, atol=0.03 * abs(rate) + 1e-4)
    outputs = problem.loss.apply(unravel(weights[5]), problem.data[0])
    right = np.mean(np.argmax(outputs, 1) == np.argmax(problem.data[1], 1))
    assert abs(run.accuracy[5] - right) < 1e-6  # a mean of booleans in single precision
    np.testing.assert_array_equal(run.edge_ratio, run.edge_ratios[:, 0])
    threshold = 2 * (1 + 0.9) / ((1 - 0.9) * 0.05)  # Cohen et al. 2022: 38/eta at b1 = 0.9
    # the program finds the threshold as a root of a small polynomial
    np.testing.assert_allclose(run.preconditioned_sharpness, threshold * run.edge_ratio, rtol=1e-10)
    # at step 0 nothing has been accumulated; from then on mu, and nu are what state_rms shows
    assert run.state_rms.shape == (6, 8) and not run.state_rms[0].any() and (run.state_rms[1:] > 0).all()


@pytest.mark.slow
def test_without_preconditioner_both_midpoints_agree(problem: toylab.Problem) -> None:
    seen = observers(midpoint_sharpness=1, midpoint_edge_ratio=1, critical=3, sharpness=3)
    run = train(problem, GD, 20, seen)
    # 2/eta = 20; the solver's tolerance of the value
    np.testing.assert_allclose(run.midpoint_edge_ratio, run.midpoint_sharpness[:, 0] / 20, rtol=1e-3)
    critical = np.where(run.sharpness / 20 > 0.9, run.sharpness / 20, np.nan)
    np.testing.assert_allclose(run.critical_ratios, critical, rtol=1e-3)


CURVED = observers(
    sharpness=2, edge_ratio=2, midpoint_sharpness=2, midpoint_edge_ratio=2, critical=2, projections=2, alignment=True
)
MARKS = {
    "sharpness_converged": (2,),
    "edge_converged": (),
    "edges_converged": (2,),
    "midpoint_converged": (2,),
    "midpoint_edge_converged": (),
    "midpoint_edges_converged": (2,),
    "critical_converged": (2,),
    "projections_converged": (2,),
    "alignment_converged": (),
}


def test_every_followed_pair_has_a_mark(problem: toylab.Problem) -> None:
    seen, _ = jax.eval_shape(lambda w: toylab.observe_step(problem, GD, w, GD.init(w), CURVED), problem.params)
    assert {name: mark.shape for name, mark in seen.items() if name.endswith("_converged")} == MARKS
    assert all(seen[name].dtype == bool for name in MARKS)
    assert seen["midpoint_edge_residuals"].shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [96, 1])  # products for each pair: the default, and too few
def test_the_marks_tell_what_converged(problem: toylab.Problem, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curvature, "follow", partial(curvature.follow, limit=limit))
    run = train(problem, optax.sgd(2.0), 1, CURVED)  # a rule of its own: the program is traced anew
    assert {name: bool(run.records[name].all()) for name in MARKS} == dict.fromkeys(MARKS, limit > 1)
    assert {name: bool(run.records[name].any()) for name in MARKS} == dict.fromkeys(MARKS, limit > 1)


@pytest.mark.slow
def test_a_batch_of_all_examples_is_the_full_batch(problem: toylab.Problem) -> None:
    whole = train(problem, optax.adam(0.01), 8, every=3)
    batch = train(problem, optax.adam(0.01), 8, every=3, batch_size=12, batch_seed=5)
    np.testing.assert_allclose(batch.loss, whole.loss, rtol=1e-12)  # another order of summation
    np.testing.assert_allclose(flat(batch.params), flat(whole.params), rtol=1e-8, atol=1e-12)


def test_mini_batches_are_drawn_from_the_seed_and_without_replacement(problem: toylab.Problem) -> None:
    indices = np.stack([drawn_batch(jax.random.key(i), 12, 5) for i in range(400)])
    assert all(len(set(row)) == 5 for row in indices)
    counts = np.bincount(indices.ravel(), minlength=12)
    # each index is in a batch with probability 5/12: mean 167, standard deviation 9.9; five of them
    assert np.abs(counts - 400 * 5 / 12).max() < 50
    one, again, other = (train(problem, GD, 5, batch_size=4, batch_seed=seed).loss for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one[1:] != other[1:]).all()
    with pytest.raises(ValueError, match="at most the 12 examples"):
        train(problem, GD, 5, batch_size=13)


@pytest.mark.slow
def test_a_sweep_with_mini_batches_repeats_its_runs(problem: toylab.Problem) -> None:
    grid = toylab.sweep(
        lambda key: toylab.problems.digits_mlp(hidden=(3,), examples=12, seed=key),
        optax.sgd, {"learning_rate": [0.1, 0.2]}, 5, seeds=2, batch_size=4,
    )  # fmt: skip
    assert grid.loss.shape == (2, 2, 5)
    assert (grid.loss[:, 0] != grid.loss[:, 1]).all()
    # common random numbers: after one step from the same start the losses differ by the learning rate only
    np.testing.assert_array_equal(grid.loss[0, :, 0], grid.loss[1, :, 0])


def test_sketches_keep_distances() -> None:
    random = np.random.default_rng(0)
    differences = random.normal(size=(200, 5000)) * random.exponential(size=5000)
    sketched = jax.vmap(lambda x: sketch(x, 400))(jnp.asarray(differences))
    ratios = np.sum(np.asarray(sketched) ** 2, axis=1) / np.sum(differences**2, axis=1)
    # relative standard deviation of the square at most sqrt(2/400) = 0.07, here over 200 differences
    assert np.std(ratios) < 0.1 and abs(np.mean(ratios) - 1) < 0.02


def test_distance_of_two_runs(problem: toylab.Problem) -> None:
    slow, fast = (
        train(problem, optax.sgd(rate), 9, observers(position=10_000), every=k) for rate, k in ((0.1, 1), (0.2, 4))
    )
    steps, apart = toylab.distance(slow, fast)
    np.testing.assert_array_equal(steps, [0, 1, 4, 5, 8])
    assert apart[0] == 0
    np.testing.assert_allclose(apart[1], 0.1 * np.linalg.norm(flat(problem.gradient(problem.params))), rtol=1e-10)
    with pytest.raises(ValueError, match="position=500"):
        toylab.distance(slow, train(problem, GD, 2))


def test_choosing_observers() -> None:
    assert observers() == observers(edge_ratio=False)
    assert hash(observers(sharpness=2)) == hash(observers(sharpness=2))
    assert observers(edge_ratio=True).needs_edge and not observers(sharpness=1).needs_edge
    assert observers(sharpness=3, projections=1, alignment=True).pairs == 3
    with pytest.raises(ValueError, match="try sharpness"):
        observers(sharpnes=2)
    with pytest.raises(ValueError, match="needs True, False or a count"):
        observers(sharpness=-1)


def test_what_a_problem_cannot_show_is_refused() -> None:
    quadratic = toylab.problems.quadratic([1.0, 2.0])
    for name in ("accuracy", "test_loss"):
        with pytest.raises(ValueError, match="needs"):
            train(quadratic, GD, 2, observers(**{name: 1}))
