"""A compiled run against optax's own loop; freezing, sampling, chunks, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toylab
from toylab import Problem, Status, observers, problems, train

RULES = {
    "sgd": optax.sgd(0.5, momentum=0.5, nesterov=True),
    "adam": optax.adam(1e-2, b2=0.99),
    "rmsprop": optax.rmsprop(1e-2, 0.9),
}
SMALL = {"hidden": (4,), "examples": 20}


def own_loop(problem: Problem, transform: optax.GradientTransformation, steps: int) -> tuple[np.ndarray, object]:
    """Optax's loop as its documentation writes it."""

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(problem.value)(params)
        updates, state = transform.update(grads, state, params)
        return loss, optax.apply_updates(params, updates), state

    params, state, losses = problem.params, transform.init(problem.params), []
    for _ in range(steps):
        loss, params, state = step(params, state)
        losses.append(float(loss))
    return np.array(losses), params


@pytest.mark.parametrize("name", RULES)
def test_a_run_is_optax_own_loop(name: str) -> None:
    problem = problems.digits_mlp(**SMALL)
    run = train(problem, RULES[name], 60)
    losses, params = own_loop(problem, RULES[name], 60)
    # relative to the running maximum; the same arithmetic in another order, far from any edge
    assert np.abs(run.loss - losses).max() <= 1e-12 * losses.max()
    for ours, theirs in zip(jax.tree.leaves(run.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert run.status is Status.completed and run.taken == 60


def test_a_diverged_run_freezes_at_its_last_finite_iterate() -> None:
    problem = problems.quadratic([1.0])
    run = train(problem, optax.sgd(1e60), 20)
    finite = np.isfinite(run.loss).sum()
    assert run.status is Status.diverged and run.taken == finite < 20
    assert np.isinf(run.loss[finite]) and np.isnan(run.loss[finite + 1 :]).all()
    np.testing.assert_allclose(run.params, [(1 - 1e60) ** run.taken], rtol=1e-12)  # a few roundings
    assert np.isfinite(jax.flatten_util.ravel_pytree(run.params)[0]).all()


def test_what_a_frozen_run_did_not_see_is_not_converged() -> None:
    run = train(problems.quadratic([1.0]), optax.sgd(3.0), 9, observers(sharpness=1), diverge_above=100.0)
    reached = np.isfinite(run.sharpness)  # up to step 4, as below
    np.testing.assert_array_equal(run.sharpness_converged, reached)
    assert run.sharpness_converged.dtype == bool and 0 < reached.sum() < 9


def test_a_rule_without_state_has_an_empty_record_of_it() -> None:
    run = train(problems.quadratic([1.0]), optax.sgd(0.5), 5, observers(state=True), every=3, chunk=3)
    np.testing.assert_array_equal(run.steps, [0, 1, 3, 4])
    assert run.state_rms.shape == (4, 0) and np.isfinite(run.loss).all()


def test_a_bound_on_the_loss_ends_a_run() -> None:
    run = train(problems.quadratic([1.0]), optax.sgd(3.0), 50, diverge_above=100.0)
    # w doubles in size each step from loss 1/2: 2^(2 t) / 2 > 100 first at t = 4
    assert run.status is Status.diverged and run.taken == 4
    np.testing.assert_array_equal(run.params, [16.0])


def test_a_start_that_is_not_finite_is_named() -> None:
    problem = problems.quadratic([1.0], start=[np.inf])
    run = train(problem, optax.sgd(0.1), 5)
    assert run.status is Status.nonfinite_input and run.taken == 0


@pytest.mark.parametrize(("every", "expected"), [(1, [*range(11)]), (2, [*range(11)]), (5, [0, 1, 5, 6, 10])])
def test_observed_in_consecutive_pairs(every: int, expected: list[int]) -> None:
    problem = problems.quadratic([1.0])
    run = train(problem, optax.sgd(0.5), 11, every=every)
    np.testing.assert_array_equal(run.steps, expected)
    np.testing.assert_allclose(run.loss, 0.5 * 0.25 ** np.array(expected), rtol=1e-14)  # exact powers of two


@pytest.mark.slow
def test_chunks_do_not_change_a_run() -> None:
    problem = problems.quadratic(np.linspace(0.1, 1, 20))
    choice = observers(edge_ratio=True, grad_norm=True)
    whole, parts = (train(problem, RULES["adam"], 50, choice, every=4, chunk=chunk) for chunk in (1000, 7))
    for name in whole.records:
        np.testing.assert_array_equal(whole.records[name], parts.records[name], err_msg=name)
    np.testing.assert_array_equal(whole.params, parts.params)


def test_one_program_for_all_chunks_and_the_short_last_one() -> None:
    traced = []

    def loss(params: jax.Array) -> jax.Array:
        traced.append(None)
        return jnp.sum(params**2)

    problem, transform = Problem(loss, jnp.ones(2)), optax.sgd(0.1)
    train(problem, transform, 20, chunk=5)
    before = len(traced)
    train(problem, transform, 23, chunk=5)
    assert len(traced) <= before + 1  # the shape check at the border, and no program


def test_progress_tells_what_was_seen_last() -> None:
    heard = []
    run = train(
        problems.quadratic([1.0]), optax.sgd(0.5), 11, every=4, chunk=4, progress=lambda *news: heard.append(news)
    )
    assert [news[:2] for news in heard] == [(4, 11), (8, 11), (11, 11)]
    assert [float(news[2]["loss"]) for news in heard] == [run.loss[i] for i in (1, 3, 5)]


def test_edge_ratio_of_gradient_descent_is_the_sharpness_times_half_the_learning_rate() -> None:
    spectrum = np.linspace(-1, 1.5, 24)
    run = train(problems.quadratic(spectrum), optax.sgd(0.8), 6, observers(edge_ratio=True, sharpness=2))
    # error <= residual^2 / relative gap, with a residual of at most 1e-2 and a gap of 0.07
    np.testing.assert_allclose(run.edge_ratio, 0.5 * 0.8 * 1.5, rtol=1.5e-3)
    np.testing.assert_allclose(run.sharpness[:, 0], 1.5, rtol=1.5e-3)
    assert run.sharpness.shape == (6, 2) and (run.excluded == 0).all()


def test_edge_ratio_of_adam_is_that_of_its_dense_matrix() -> None:
    spectrum = np.array([0.3, 1.0, 2.0])
    run = train(problems.quadratic(spectrum), optax.adam(1e-2, b1=0.9, b2=0.9, eps=0.0), 3, observers(edge_ratio=True))
    weights, second, first, expected = np.ones(3), np.zeros(3), np.zeros(3), []
    for t in range(1, 4):
        gradient = spectrum * weights
        first, second = 0.9 * first + 0.1 * gradient, 0.9 * second + 0.1 * gradient**2
        # threshold 2 (1 + b1) / ((1 - b1) eta); read off the step, P = sqrt(nu) holds both bias corrections
        root = np.sqrt(second / (1 - 0.9**t)) * (1 - 0.9**t)
        expected.append((spectrum / root).max() * 1e-2 * 0.1 / (2 * 1.9))
        weights = weights - 1e-2 * first / root
    np.testing.assert_allclose(run.edge_ratio, expected, rtol=1e-9)  # the threshold comes from roots


def test_refusals() -> None:
    problem, rule = problems.quadratic([1.0]), optax.sgd(0.1)
    for steps in (0, -3, 2.5):
        with pytest.raises(ValueError, match="needs a whole number"):
            train(problem, rule, steps)
    with pytest.raises(ValueError, match="needs a whole number"):
        train(problem, rule, 5, every=0)
    with pytest.raises(ValueError, match="Problem is needed"):
        train(lambda params: params, rule, 5)
    with pytest.raises(ValueError, match="optimizer is needed"):
        train(problem, optax.sgd, 5)
    with pytest.raises(ValueError, match="one number"):
        train(Problem(lambda params: params, jnp.ones(2)), rule, 5)
    with pytest.raises(ValueError, match="floating"):
        train(Problem(lambda params: params, 1), rule, 5)
    with pytest.raises(ValueError, match="cannot be called"):
        train(problem, optax.polyak_sgd(), 5)
    with pytest.raises(ValueError, match="held step"):
        train(problem, optax.sign_sgd(0.1), 5, observers(edge_ratio=True))
    with pytest.raises(ValueError, match="loss function"):
        Problem(3.0, jnp.ones(2))
    with pytest.raises(AttributeError, match="observe=toylab"):
        _ = train(problem, rule, 2).edge_ratio


def test_the_public_door_opens() -> None:
    assert all(getattr(toylab, name) is not None for name in toylab.__all__)
    assert toylab.__version__
