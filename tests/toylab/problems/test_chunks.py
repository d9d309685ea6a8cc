"""Looking at a few examples at a time bounds the memory and changes values only by rounding."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import observe_step, observers, problems
from toylab.observing import Observers
from toylab.problems import cifar10
from toylab.problems.criteria import CRITERIA
from toylab.problems.datasets import Dataset
from toylab.problems.networks import mlp
from toylab.problems.problem import NetworkLoss

GD = optax.sgd(0.1)


def abstract(chunk: int | None) -> problems.Problem:
    """A network on 1000 examples to train on and as many others: shapes only."""
    network = mlp((3, 50, 50, 2))
    arrays = tuple(jax.ShapeDtypeStruct((1000, size), float) for size in (3, 2))
    params = jax.eval_shape(network.init, jax.random.key(0))
    return problems.Problem(NetworkLoss(network.apply, CRITERIA["mse"]), params, arrays, "", arrays, chunk)


def hessian_product(problem: problems.Problem) -> Any:
    """What is to be computed in little memory."""
    return problem.hvp(problem.params, problem.params)


def records(choice: Observers, problem: problems.Problem) -> dict[str, jax.Array]:
    """What the observers say at the start."""
    return observe_step(problem, GD, problem.params, GD.init(problem.params), choice)[0]


def temporary(function, problem: problems.Problem) -> int:
    """The bytes that the compiled function needs beside its arguments and results."""
    return jax.jit(function).lower(problem).compile().memory_analysis().temp_size_in_bytes


def loss(params, data):
    """A mean over examples that is not quadratic."""
    inputs, targets = data
    return jnp.mean(jnp.tanh(inputs @ params - targets) ** 2)


@settings(max_examples=4)  # each compiles its own shapes
@given(st.data())
def test_chunks_do_not_change_the_loss_its_gradient_nor_its_hessian(data) -> None:
    examples = data.draw(st.integers(1, 9), "examples")
    chunk = data.draw(st.integers(1, examples + 1), "chunk")
    random = np.random.default_rng(examples)
    arrays = (jnp.asarray(random.standard_normal((examples, 3))), jnp.asarray(random.standard_normal(examples)))
    params, vector = jnp.asarray(random.standard_normal((2, 3)))

    @jax.jit
    def everything(problem: problems.Problem):
        value, gradient = problem.value_and_gradient(params)
        by_value = jax.value_and_grad(problem.value)(params)  # differentiated through the chunks
        return value, gradient, problem.hvp(params, vector), problem.hessian(params)(vector), by_value

    whole = everything(problems.Problem(loss, params, arrays))
    parts = everything(problems.Problem(loss, params, arrays, chunk=chunk))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-13)  # sums of numbers of order one, reordered


def test_memory_falls_with_the_chunk() -> None:
    # what is in flight is proportional to the chunk, beside a part that is the size of weights and data
    whole, some, few = (temporary(hessian_product, abstract(chunk)) for chunk in (None, 200, 25))
    assert some < whole / 3 and few < some / 2, (whole, some, few)


@pytest.mark.parametrize(
    "looked", ["accuracy", "test_accuracy", "test_loss", pytest.param("alignment", marks=pytest.mark.slow)]
)
def test_observers_look_at_chunks(looked) -> None:
    whole, few = (temporary(partial(records, observers(**{looked: 1})), abstract(chunk)) for chunk in (None, 25))
    assert few < whole / 3, (whole, few)  # beside the chunk there are the weights and the eigenvector


def test_a_mini_batch_is_looked_at_in_chunks() -> None:
    whole, few = (
        temporary(lambda p: hessian_product(p.take(jnp.arange(900))), abstract(chunk)) for chunk in (None, 25)
    )
    assert few < whole / 3, (whole, few)  # beside the chunk there are the weights and the batch itself


def test_what_is_seen_in_chunks_is_what_is_seen_at_once() -> None:
    whole = problems.digits_mlp(hidden=(), examples=20, test_examples=10)
    look = jax.jit(partial(records, observers(accuracy=True, test_accuracy=True, test_loss=True)))
    one, other = (look(problem) for problem in (whole, replace(whole, chunk=7)))
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-12, err_msg=name)  # sums in another order


def test_a_chunk_of_all_examples_is_no_chunk() -> None:
    few, exact, more = (
        str(jax.make_jaxpr(lambda p: p.expanded(p.params)[0])(abstract(chunk))) for chunk in (999, 1000, 5000)
    )
    assert "scan" in few and "scan" not in exact + more


@pytest.mark.parametrize("name", ["cifar10_mlp", "cifar10_cnn", "gaussian_mixture_mlp"])
def test_a_hessian_product_of_a_large_problem_needs_less_than_two_gigabytes(name, monkeypatch) -> None:
    def images(folder, examples, test_examples):
        del folder, test_examples
        return Dataset((np.zeros((examples, 32, 32, 3), np.float32), np.zeros((examples, 10), np.float32)))

    monkeypatch.setattr(cifar10, "images_of", images)
    build: Any = problems.NAMED[name]
    problem = jax.eval_shape(lambda: build("nowhere") if name.startswith("cifar10") else build())
    assert problem.examples == 5000 and temporary(hessian_product, problem) < 2e9


@pytest.mark.parametrize("chunk", [np.int64(3), 3.0])
def test_chunks_that_are_whole_numbers(chunk) -> None:
    problem = problems.Problem(lambda w, x: jnp.mean(w * x), jnp.ones(()), jnp.arange(5.0), chunk=chunk)
    assert problem.value(problem.params) == pytest.approx(2.0, rel=1e-15)  # a rounding


@pytest.mark.parametrize("chunk", [0, -1, 1.5, float("nan"), float("inf"), True, "3", (3,)])
def test_chunks_that_are_refused(chunk) -> None:
    with pytest.raises(ValueError, match=r"chebyshev_mlp: .* at least 1") as refusal:
        problems.chebyshev_mlp(hidden=(), chunk=chunk)
    assert "\n" not in str(refusal.value)
