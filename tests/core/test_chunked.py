"""Looking at a few examples at a time bounds the memory and changes values only by rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems
from toylab.problems.base import Model
from toylab.problems.criteria import CRITERIA
from toylab.problems.networks import mlp


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
    temporary = []
    network = mlp((3, 50, 50, 2))
    params = jax.eval_shape(network.init, jax.random.key(0))
    arrays = tuple(jax.ShapeDtypeStruct((1000, size), float) for size in (3, 2))
    for chunk in (None, 200, 25):
        problem = problems.Problem(Model(network.apply, CRITERIA["mse"]), params, arrays, chunk=chunk)
        compiled = jax.jit(lambda p: p.hvp(p.params, p.params)).lower(problem).compile()
        temporary.append(compiled.memory_analysis().temp_size_in_bytes)
    # what is in flight is proportional to the chunk, beside a part that is the size of weights and data
    assert temporary[1] < temporary[0] / 3 and temporary[2] < temporary[1] / 2, temporary


@pytest.mark.parametrize("chunk", [0, -1])
def test_chunks_that_are_refused(chunk) -> None:
    with pytest.raises(ValueError, match=r"chebyshev_mlp: .* at least 1") as refusal:
        problems.chebyshev_mlp(hidden=(), chunk=chunk)
    assert "\n" not in str(refusal.value)
