"""A held step count, rules inside wrappers, and the assumptions that a theorem states."""

import jax
import numpy as np
import optax
import pytest
import sympy as sp

import theory
from toylab import filters

eta, beta1 = sp.symbols("eta beta1", positive=True)
_TRACE = 2 * (1 + beta1) / eta
_NESTEROV = 2 * (1 + beta1) / (eta * (1 + 2 * beta1))
_EMA = 2 * (1 + beta1) / ((1 - beta1) * eta)


def plain(expression):
    """Symbols by name: the lab's carry assumptions."""
    return expression.xreplace({s: sp.Symbol(s.name, positive=True) for s in expression.free_symbols})


@pytest.mark.parametrize(
    ("factory", "t"),
    [
        (optax.adam, 1),
        (optax.adam, 5),
        (optax.adam, 50),
        (optax.adamw, 2),
        (optax.adan, 1),
        pytest.param(optax.adan, 5, marks=pytest.mark.slow),
    ],
)
def test_a_held_step_count_is_the_t_th_update(factory, t):
    """theory's t counts the update itself (the first is t = 1), the filter's count the updates before it."""
    edge = theory.edge(factory, t=t, learning_rate=0.1)
    reference = {n: float(v) for n, v in edge.reference.items() if n != "t"}
    assert any("quasi-static" in a for a in edge.assumptions)
    other = filters.held_filter(factory(**reference), count=t - 1)
    # 1 - b2^t for b2 = 0.999 loses three digits
    assert other.threshold == pytest.approx(edge.at(**reference).threshold, rel=1e-9)


def test_adam_held_at_t_is_its_limit_times_the_bias_corrections():
    """m/(1 - b1^t) and sqrt(nu/(1 - b2^t)): the step is larger by sqrt(1 - b2^t)/(1 - b1^t) once P = sqrt(nu)."""
    t, b1, b2 = 5, 0.9, 0.99
    at = theory.edge(optax.adam, t=t).at(learning_rate=0.1, b1=b1, b2=b2)
    expected = 20 * (1 + b1) / (1 - b1) * (1 - b1**t) / np.sqrt(1 - b2**t)
    assert at.threshold == pytest.approx(expected, rel=1e-12)


def wrapped_inject(learning_rate, b1=0.9):
    return optax.inject_hyperparams(optax.adam)(learning_rate=learning_rate, b1=b1)


def wrapped_schedule(learning_rate, b1=0.9):
    return optax.adam(optax.cosine_decay_schedule(3.0, 100, alpha=learning_rate / 3.0), b1=b1)


def wrapped_warmup(learning_rate, b1=0.9):
    return optax.adam(optax.linear_schedule(0.0, learning_rate, 10), b1=b1)


def wrapped_mask(learning_rate, b1=0.9):
    everything = lambda tree: jax.tree.map(lambda _: True, tree)  # noqa: E731
    return optax.chain(optax.masked(optax.adam(learning_rate, b1=b1), everything))


def wrapped_clip(learning_rate, b1=0.9):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate, b1=b1))


def wrapped_partition(learning_rate, b1=0.9):
    return optax.partition({"a": optax.adam(learning_rate, b1=b1)}, lambda tree: jax.tree.map(lambda _: "a", tree))


def wrapped_finite(learning_rate, b1=0.9):
    return optax.apply_if_finite(optax.adam(learning_rate, b1=b1), 5)


WRAPPED = {
    "inject": (wrapped_inject, None), "schedule": (wrapped_schedule, "step count"),
    "warmup": (wrapped_warmup, "step count"),
    "mask": (wrapped_mask, None), "clip": (wrapped_clip, "clipping"), "partition": (wrapped_partition, None),
    "finite": (wrapped_finite, None),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_do_not_break_the_edge_and_state_what_they_assume(name):
    factory, assumed = WRAPPED[name]
    edge = theory.edge(factory)
    assert edge.at(learning_rate=0.1, b1=0.8).threshold == pytest.approx(20 * 1.8 / 0.2, rel=1e-12)
    assert sp.simplify(plain(edge.threshold) - _EMA) == 0
    if assumed:
        assert any(assumed in a for a in edge.assumptions), edge.assumptions
    found = filters.held_filter(factory(0.1, b1=0.8))
    assert found.threshold == pytest.approx(180, rel=1e-11)  # poles of a 2 x 2 matrix


def test_coupled_decay_is_stated_and_shifts_the_matrix():
    def rule(learning_rate, weight_decay=0.1, momentum=0.9):
        return optax.chain(
            optax.add_decayed_weights(weight_decay), optax.trace(momentum), optax.scale_by_learning_rate(learning_rate)
        )

    edge = theory.edge(rule)
    assert edge.matrix == sp.Symbol("H") + edge.symbols["weight_decay"] * sp.Symbol("I")
    assert any("coupled" in a for a in edge.assumptions)
    assert sp.simplify(plain(edge.threshold) - _TRACE) == 0


def test_settings_choose_structure_and_reference():
    edge = theory.edge(optax.sgd, momentum=0.5, nesterov=True)
    assert edge.reference["momentum"] == sp.Rational(1, 2)
    assert sp.simplify(plain(edge.threshold) - _NESTEROV) == 0
    assert "momentum" not in theory.edge(optax.sgd).symbols
