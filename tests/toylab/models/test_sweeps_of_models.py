"""Models under vmap: members of a sweep over learning rates and seeds, in single precision, are runs of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.toylab.models.cubic_models import edge_of, one_eigenvalue, problem
from toylab.models import central_flow_steps, rollout, stable_flow_steps
from toylab.models.mean_step import plain_learning_rate
from toylab.rules.edge import EdgeData, RuleStructure
from toylab.rules.parities import Roles

STEPS = 12


@pytest.mark.slow  # compiles each model twice
@pytest.mark.parametrize("model", [stable_flow_steps, central_flow_steps])
def test_members_over_rates_and_seeds_are_runs_of_their_own(model):
    data = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), one_eigenvalue(0.02, 0.3))

    def member(rate, key):
        start = jnp.zeros(5, jnp.float32).at[1].set(2 / rate - 0.01)
        start = start.at[2:].add(0.01 * jax.random.normal(key, (3,), jnp.float32))
        steps = model(problem(data), optax.sgd(rate), edge_of("gd", {"rate": rate}), count=1)
        return rollout(steps, steps.init(start), STEPS)[1]

    rates, keys = jnp.array([0.3, 0.5], jnp.float32), jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(jax.vmap(member, (None, 0)), (0, None)))(rates, keys)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(together)} <= {"float32", "int32", "bool"}
    assert together.params.shape == (2, 2, STEPS, 5)
    alone = jax.jit(member)
    for i, rate in enumerate(rates):
        for j, key in enumerate(keys):
            # weights of order ten, known to 1e-6 of themselves, that drift by some rounding in each of the steps
            np.testing.assert_allclose(together.params[i, j], alone(rate, key).params, atol=1e-4)
    assert np.all(together.converged)


def test_a_learning_rate_that_is_not_known_yet():
    nothing = RuleStructure(Roles((), (), ()), 0)

    def read(rate, decay):
        return plain_learning_rate(
            optax.sgd(0.1), jnp.zeros(1), (nothing, EdgeData(2 / rate, rate, 0.0, rate, decay)), ""
        )

    rates, decays = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.01])
    np.testing.assert_array_equal(jax.vmap(read)(rates, decays), [0.1, np.nan])
