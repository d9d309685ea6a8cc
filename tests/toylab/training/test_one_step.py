"""`observe_step` in a loop that is not ours sees what `train` sees, in jit and out of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toylab
from toylab import observe_step, observers, problems
from toylab.rules.errors import NoLinearEdge

STEPS = 5
CHOICE = observers(edge_ratio=True, step_size=True, grad_norm=True)
PROBLEM = problems.quadratic(np.linspace(-0.5, 2.0, 6))
RULE = optax.rmsprop(1e-2, decay=0.9)


@pytest.fixture(scope="module")
def run():
    return toylab.train(PROBLEM, RULE, STEPS, CHOICE)


def own_loop(step):
    params, state, memory, seen = PROBLEM.params, RULE.init(PROBLEM.params), None, []
    for _ in range(STEPS):
        records, params, state, memory = step(params, state, memory)
        seen.append(records)
    return {name: np.stack([records[name] for records in seen]) for name in seen[0]}


def step(params, state, memory):
    records, memory = observe_step(PROBLEM, RULE, params, state, CHOICE, memory)
    updates, state = RULE.update(PROBLEM.gradient(params), state, params)
    return records, optax.apply_updates(params, updates), state, memory


def outside(params, state, memory):
    return step(params, state, memory)


@pytest.mark.parametrize("loop", [jax.jit(step), pytest.param(outside, marks=pytest.mark.slow)], ids=["jit", "plain"])
def test_it_sees_what_train_records(run, loop):
    seen = own_loop(loop)
    assert seen.keys() == run.records.keys()
    for name, values in run.records.items():
        # the same arithmetic in another program; residuals are rounding themselves
        np.testing.assert_allclose(seen[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_a_mini_batch_gradient_is_the_one_that_p_is_read_off():
    """RMSProp's P = sqrt((1 - decay) g^2) at the first step is of the gradient that the step uses."""
    rule, params = optax.rmsprop(1e-2, decay=0.9, eps=0.0), PROBLEM.params
    given = jnp.arange(1.0, 7.0)
    records, _ = observe_step(PROBLEM, rule, params, rule.init(params), grads=given)
    inverse = 1 / np.sqrt(0.1 * np.square(given))
    root = np.sqrt(inverse)
    top = np.linalg.eigvalsh(root[:, None] * np.asarray(jax.hessian(PROBLEM.value)(params)) * root)[-1]
    assert records["preconditioned_sharpness"] == pytest.approx(top, rel=1e-10)  # six dimensions: a full basis
    assert records["edge_ratio"] == pytest.approx(top * 1e-2 / 2, rel=1e-10)


def test_a_rule_without_edge_is_refused_only_where_the_edge_ratio_is_asked_for():
    rule, params = optax.sign_sgd(0.1), PROBLEM.params
    records, _ = observe_step(PROBLEM, rule, params, rule.init(params), observers(grad_norm=True))
    assert set(records) == {"loss", "grad_norm"}
    with pytest.raises(NoLinearEdge, match="held step"):
        observe_step(PROBLEM, rule, params, rule.init(params))


def test_a_state_or_an_optimizer_that_does_not_fit_is_named():
    params = PROBLEM.params
    with pytest.raises(ValueError, match="needs the state that"):
        observe_step(PROBLEM, optax.adam(0.1), params, optax.sgd(0.1).init(params), observers())
    with pytest.raises(ValueError, match="got list where an optimizer is needed"):
        observe_step(PROBLEM, [], params, ())
