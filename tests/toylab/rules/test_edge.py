"""A rule is analysed once: whoever asks again, for the same built rule, gets the same answer without a probe."""

import collections

import jax
import jax.numpy as jnp
import optax
import pytest

from toylab import max_learning_rate, observe_step, observers, problems, train
from toylab.models.comparison.run import compare
from toylab.optimizers import NAMED
from toylab.rules import parities
from toylab.rules.edge import edge_data, rule_filter

PROBLEM = problems.quadratic([2.0, 1.0, 0.5])
ONCE = {"classify": 1, "_are_roles": 2}
"""One search, on a single weight, and two checks of its result, on a vector and on a matrix of weights."""


@pytest.fixture
def probes(monkeypatch):
    """How often the state's roles were searched for and checked."""
    counts = collections.Counter()

    def counting(name):
        original = getattr(parities, name)

        def counted(*arguments):
            counts[name] += 1
            return original(*arguments)

        monkeypatch.setattr(parities, name, counted)

    for name in ONCE:
        counting(name)
    return counts


def test_one_analysis_serves_whoever_asks(probes):
    rule = optax.sgd(0.1, momentum=0.5)
    train(PROBLEM, rule, 2, observers(edge_ratio=True))
    assert probes == ONCE
    state = rule.init(PROBLEM.params)
    jax.eval_shape(lambda w: observe_step(PROBLEM, rule, w, state)[0], PROBLEM.params)  # while tracing
    observe_step(PROBLEM, rule, PROBLEM.params, state)
    edge_data(rule, {"another": jnp.zeros((2, 2)), "shape": jnp.zeros(3, jnp.float32)})
    assert rule_filter(rule).threshold == pytest.approx(2 * 1.5 / 0.1, rel=1e-12)
    assert probes == ONCE
    edge_data(optax.sgd(0.1, momentum=0.5), PROBLEM.params)  # another object: what it does could differ
    assert probes == {name: 2 * count for name, count in ONCE.items()}


def test_the_first_to_ask_may_be_tracing(probes):
    rule = optax.sgd(0.2)
    threshold = jax.jit(lambda w: jnp.sum(w) * 0 + edge_data(rule, w)[1].threshold)(PROBLEM.params)
    assert threshold == pytest.approx(10.0, rel=1e-12)  # 2 / eta, a root of a polynomial of degree one
    assert edge_data(rule, PROBLEM.params)[1].threshold == pytest.approx(10.0, rel=1e-12)
    assert probes == ONCE


def test_equal_settings_are_one_rule_to_the_step_limit(probes):
    limits = [max_learning_rate(PROBLEM, NAMED["heavy_ball"], PROBLEM.params, momentum=0.3) for _ in range(2)]
    assert limits[0] == limits[1]
    assert probes == ONCE


@pytest.mark.slow
def test_a_comparison_analyses_its_rule_once(probes):
    compare(PROBLEM, optax.sgd(0.1), 4, models=["central_map"], count=1, every=1)
    assert probes == ONCE


class Unhashable(list):
    """A rule that cannot be a key."""

    def __init__(self, rule):
        super().__init__()
        self.init, self.update = rule


def test_a_rule_that_cannot_be_hashed_is_analysed_each_time(probes):
    rule = Unhashable(optax.sgd(0.1))
    for times in (1, 2):
        assert edge_data(rule, jnp.zeros(2))[1].threshold == pytest.approx(20.0, rel=1e-12)
        assert probes == {name: times * count for name, count in ONCE.items()}


def test_roles_that_do_not_carry_over_are_searched_for(probes):
    """A rule whose only state is a momentum of a single weight, but the average of squares of more of them."""

    def update(updates, state, params=None):
        del params
        scalar = updates.ndim == 0
        state = 0.9 * state + (updates if scalar else updates**2)
        return -0.1 * (state if scalar else updates), state

    rule = optax.GradientTransformation(jnp.zeros_like, update)
    single, many = (parities.roles(rule, jnp.zeros(shape)) for shape in ((), (3,)))
    assert (single.fast, many.slow) == ((0,), (0,))
    assert parities.confirmed_roles(single, rule, jnp.zeros(3)) == many
    assert probes == {"classify": 3, "_are_roles": 1}


def test_a_state_that_is_not_shaped_like_that_of_a_weight_is_probed(probes):
    rule = optax.GradientTransformation(
        lambda params: tuple(map(jnp.zeros_like, jax.tree.leaves(params))),
        lambda updates, state, params=None: (
            updates,
            tuple(0.9 * m + g for m, g in zip(state, jax.tree.leaves(updates), strict=True)),
        ),
    )
    single = parities.roles(rule, jnp.zeros(()))
    assert parities.leaf_roles(single, rule, {"a": jnp.zeros(2), "b": jnp.zeros(3)}).fast == (0, 1)
    assert probes == {"classify": 2}
