"""No linear edge: refused with a true reason in one line, by the symbols and by the numbers; never a formula."""

import re

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import theory
from toylab import filters

LEARNING_RATE = 0.1


def not_a_number(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (learning_rate * g / (0.0 * g), s))


def one_sided(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (-learning_rate * jnp.maximum(g, 0.0), s))


def quadratic_step(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (-learning_rate * g * jnp.abs(g), s))


def deaf(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (0.0 * learning_rate * g, s))


def weight_scaled(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (-learning_rate * g * (1 + p**2), s))


def unstable_inside(learning_rate):
    return optax.chain(optax.trace(1.5), optax.scale_by_learning_rate(learning_rate))


def parameter_scaling(learning_rate):
    return optax.adafactor(learning_rate, multiply_by_parameter_scale=True)


# rule, settings, words of which one must stand in the reason
NO_EDGE = {
    "sign_sgd": (optax.sign_sgd, {}, "sign|grow with the gradient"),
    "signum": (optax.signum, {}, "sign|grow with the gradient|linear"),
    "lion": (optax.lion, {}, "sign|grow with the gradient|linear"),
    "lamb": (optax.lamb, {}, "size of the weights|trust|linear|norm|mixes"),
    "lars": (optax.lars, {}, "size of the weights|trust|linear|norm|mixes"),
    "fromage": (optax.fromage, {}, "size of the weights|trust|linear|norm|mixes"),
    "normalized": (
        lambda learning_rate: optax.chain(optax.normalize_by_update_norm(), optax.sgd(learning_rate)),
        {}, "normalised|norm|grow with the gradient|linear|mixes",
    ),
    "adafactor": (parameter_scaling, {}, "size of the weights|linear|trace|branches|state|scaling|even"),
    "noisy_sgd": (
        lambda learning_rate: optax.noisy_sgd(learning_rate, key=jax.random.key(0)), {}, "random|odd|translation",
    ),
    "rprop": (optax.rprop, {}, "sign|odd|linear|grow|translation|schedule"),
    "muon": (optax.contrib.muon, {}, "matrix|mixes|linear|translation|factory"),
    "polyak_sgd": (optax.polyak_sgd, {}, "extra argument|value"),
    "lbfgs": (optax.lbfgs, {}, "extra argument|value|structure|hyperparameter"),
    "sm3": (optax.sm3, {}, "mixes|matrix|linear|slow"),
    "adam_uphill": (optax.scale_by_adam, {}, "uphill"),
    "unstable": (unstable_inside, {}, "unstable"),
    "nan": (not_a_number, {}, "finite|odd|derivative|NaN|proportion"),
    "one_sided": (one_sided, {}, "odd|derivative|sign"),
    "quadratic_step": (quadratic_step, {}, "proportion|linear"),
    "deaf": (deaf, {}, "proportion|never reaches|respond"),
    "weight_scaled": (weight_scaled, {}, "size of the weights|linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_EDGE)
def test_a_rule_without_edge_is_refused_with_its_reason(name):
    factory, given_, words = NO_EDGE[name]
    with pytest.raises(theory.Refusal) as refusal:
        theory.edge(factory, **given_)
    reason = refusal.value.reason
    assert reason and "\n" not in reason and len(reason) < 400
    assert re.search(words, reason), reason
    assert refusal.value.hint and "\n" not in refusal.value.hint


SLOW = pytest.mark.slow  # muon compiles for ten seconds
NUMBERS = [pytest.param(n, marks=SLOW) if n == "muon" else n for n in NO_EDGE]


@pytest.mark.parametrize("name", [n for n in NUMBERS if n not in ("polyak_sgd", "lbfgs", "adam_uphill")])
def test_the_numbers_refuse_the_built_transform_as_well(name):
    factory, given_, _ = NO_EDGE[name]
    with pytest.raises(filters.NoLinearEdge) as refusal:
        filters.held_filter(factory(LEARNING_RATE, **given_))
    assert "\n" not in refusal.value.reason


@pytest.mark.parametrize(
    "built", [optax.polyak_sgd(), optax.lbfgs(), optax.scale_by_adam()], ids=["polyak_sgd", "lbfgs", "adam_uphill"]
)
def test_the_numbers_refuse_what_has_no_learning_rate(built):
    with pytest.raises(filters.NoLinearEdge):
        filters.held_filter(built)


def slow_factory(learning_rate):
    import time

    time.sleep(5)
    return optax.sgd(learning_rate)


def slow_expressions(learning_rate):
    def update(g, s, p=None):
        for _ in range(60):
            g = jnp.sin(g) * jnp.exp(g) + g * learning_rate
        return -learning_rate * g, s

    return optax.GradientTransformation(lambda p: (), update)


@pytest.mark.parametrize("factory", [slow_factory, slow_expressions])
def test_a_derivation_that_runs_away_is_stopped(factory):
    import time

    start = time.perf_counter()
    with pytest.raises(theory.DerivationTimeout, match="1 s"):
        theory.edge(factory, time_limit=1.0)
    # one uninterruptible call into C may pass before the signal is seen
    assert time.perf_counter() - start < 4
    assert theory.edge(optax.sgd).threshold is not None  # and the next derivation is not harmed


def test_a_hidden_unstable_mode_is_refused_by_both():
    """Its state overflows although the weight never feels it."""

    def hidden(learning_rate):
        return optax.GradientTransformation(jnp.zeros_like, lambda g, s, p=None: (-learning_rate * g, 2.0 * s + g))

    with pytest.raises(theory.NoLinearEdge, match="unstable by itself"):
        theory.edge(hidden)
    with pytest.raises(filters.NoLinearEdge):
        filters.held_filter(hidden(LEARNING_RATE))


def test_decay_between_an_average_and_its_preconditioner_is_refused_by_both():
    """w+ = w - eta (m + omega w)/P: no function of lambda(P^-1 H) alone tells whether it is stable."""

    def rule(learning_rate):
        return optax.chain(
            optax.ema(0.9, debias=False), optax.add_decayed_weights(0.1), optax.scale_by_rms(0.99),
            optax.scale_by_learning_rate(learning_rate),
        )  # fmt: skip

    with pytest.raises(theory.NoLinearEdge, match=r"slow state|preconditioner"):
        theory.edge(rule)
    with pytest.raises(filters.NoLinearEdge):
        filters.held_filter(rule(LEARNING_RATE))


def test_another_branch_of_the_code_is_not_answered_with_this_branchs_formula():
    def rule(learning_rate, momentum=0.9):
        return optax.chain(
            optax.ema(momentum, debias=False), optax.scale(jnp.where(momentum > 0.5, 1.0, 2.0)),
            optax.scale_by_learning_rate(learning_rate),
        )  # fmt: skip

    edge = theory.edge(rule)
    assert edge.at(learning_rate=0.1, momentum=0.9).threshold == pytest.approx(380)
    try:
        other = edge.at(learning_rate=0.1, momentum=0.2).threshold
    except theory.Refusal:
        return
    assert other == pytest.approx(15)  # 2 (1 + b)/((1 - b) eta)/2


def test_refusals_are_value_errors_with_hints():
    for kind in (theory.BadFactory, theory.CannotTrace, theory.NoLinearEdge, theory.DerivationTimeout):
        assert issubclass(kind, theory.Refusal) and issubclass(kind, ValueError)
        assert kind("reason").reason == "reason" and kind("reason").hint
        assert kind("reason", "do this").hint == "do this"


def test_rules_with_an_edge_are_not_refused():
    """The guard of this file: the same machinery lets linear rules through, also in the company of a clip."""
    for factory in (optax.sgd, lambda learning_rate: optax.chain(optax.clip(1.0), optax.sgd(learning_rate))):
        assert theory.edge(factory).at(learning_rate=LEARNING_RATE).threshold == pytest.approx(20)
        assert filters.held_filter(factory(LEARNING_RATE)).threshold == pytest.approx(20)
    assert jax.config.jax_enable_x64
