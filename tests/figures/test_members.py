"""Members of one compiled sweep are the rules that they name, and means of pairs are free of a period of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from figures.members import numbered, paired
from toylab.optimizers import NAMED

MEMBERS = [
    ("gd", {"learning_rate": 0.3}),
    ("heavy_ball", {"learning_rate": 0.2, "momentum": 0.9}),
    ("heavy_ball", {"learning_rate": 0.1, "momentum": 0.5}),
    ("nesterov", {"learning_rate": 0.1, "momentum": 0.8}),
]
SPECTRUM = jnp.array([3.0, 1.0, 0.2])


def path(rule, steps=4):
    weights, seen = jnp.array([1.0, -2.0, 0.5]), []
    state = rule.init(weights)
    for _ in range(steps):
        update, state = rule.update(SPECTRUM * weights, state, weights)
        seen.append(weights := weights + update)
    return jnp.stack(seen)


@pytest.mark.parametrize("members", [MEMBERS, MEMBERS[1:3]], ids=["several rules", "one rule"])
def test_each_member_is_its_rule(members):
    found = jax.jit(jax.vmap(lambda member: path(numbered(members)(member))))(jnp.arange(len(members)))
    for mine, (rule, settings) in zip(found, members, strict=True):
        # the same operations in another order of compilation: rounding only
        np.testing.assert_allclose(mine, path(NAMED[rule](**settings)), rtol=1e-12)


def test_means_of_pairs_lose_an_oscillation_of_period_two():
    steps = np.array([0, 1, 10, 11, 20])  # the last one is alone
    when, values = paired(steps, np.stack([steps + (-1.0) ** steps, 0 * steps]))
    np.testing.assert_allclose(when, [0.5, 10.5])
    np.testing.assert_allclose(values, [[0.5, 10.5], [0, 0]], atol=1e-15)
