"""No linear edge: refused with a true reason in one line, by the symbols and by the numbers; never a formula."""

import math
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


def every_third(learning_rate):
    return optax.chain(optax.sgd(learning_rate), optax.apply_every(3))


def every_other(learning_rate):
    halve = optax.conditionally_transform(optax.scale(0.5), lambda step: step % 2 == 0)
    return optax.chain(optax.sgd(learning_rate), halve)


def gathered(learning_rate):
    return optax.MultiSteps(optax.sgd(learning_rate), 3).gradient_transformation()


def sine(learning_rate):
    return optax.chain(optax.scale_by_schedule(lambda n: 1 + 0.5 * jnp.sin(n)), optax.sgd(learning_rate))


PERIODIC = {
    every_third: "every 3 steps .count",
    gathered: "every 3 steps .mini_step",
    every_other: "repeats itself .* modulo 2",
    sine: "goes on oscillating",
}


@pytest.mark.parametrize("factory", PERIODIC)
def test_a_rule_that_never_settles_is_refused_as_such(factory):
    with pytest.raises(theory.NoLinearEdge, match=PERIODIC[factory]) as refusal:
        theory.edge(factory)
    assert "\n" not in refusal.value.reason + refusal.value.hint


def test_stairs_that_end_are_no_period():
    """A step number divided by whole numbers is taken modulo them by JAX, and all the same it settles."""

    def rule(learning_rate):
        stairs = optax.exponential_decay(1.0, 10, 0.5, staircase=True, end_value=0.1)
        steps = optax.scale_by_schedule(lambda n: jnp.where(n // 30 > 2, 0.5, 1.0))
        return optax.chain(optax.scale_by_schedule(stairs), steps, optax.sgd(learning_rate))

    assert theory.edge(rule).at(learning_rate=LEARNING_RATE).threshold == pytest.approx(2 / (0.05 * LEARNING_RATE))


# ---------------------------------------------------------------------------------------------------------------
# Parities that do not show in a run from rest


def opposite_start(learning_rate):
    """A momentum that starts at 1, and a second moment that starts from it."""

    def init(params):
        return jnp.ones_like(params), jnp.ones_like(params)

    def update(g, state, params=None):
        m = 0.9 * state[0] + g
        nu = 0.9 * state[1] + 0.1 * m**2
        return -learning_rate * m / (jnp.sqrt(nu) + 1e-8), (m, nu)

    return optax.GradientTransformation(init, update)


def asleep(learning_rate):
    """A leaf at zero that only a large gradient wakes up: odd, for the step adds it to the gradient."""

    def update(g, s, params=None):
        return -learning_rate * (g + 0.5 * s), jnp.where(jnp.abs(g) > 1e3, g, 0.5 * s)

    return optax.GradientTransformation(jnp.zeros_like, update)


def long_queue(learning_rate):
    return optax.GradientTransformation(
        lambda p: [0 * p for _ in range(7)], lambda g, s, p=None: (-learning_rate * s[0], [*s[1:], g])
    )


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (opposite_start, 38.0),  # heavy ball: 2 (1 + b)/eta
        (asleep, 20.0),  # the sleeper does not hear small gradients
        (long_queue, 2 * math.sin(math.pi / 30) / LEARNING_RATE),  # z^7 (z - 1) + k = 0 on the circle
    ],
)
def test_parities_that_a_run_from_rest_does_not_show(factory, expected):
    assert theory.edge(factory).at(learning_rate=LEARNING_RATE).threshold == pytest.approx(expected)
    assert filters.held_filter(factory(LEARNING_RATE)).threshold == pytest.approx(expected)


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


# ---------------------------------------------------------------------------------------------------------------
# Factories that are none


def raises(learning_rate):
    raise KeyError("boom")


def raises_in_init(learning_rate):
    def init(params):
        raise RuntimeError("no memory")

    return optax.GradientTransformation(init, lambda g, s, p=None: (g, s))


def raises_in_update(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: {}["missing"])


def returns_one_thing(learning_rate):
    return optax.GradientTransformation(lambda p: (), lambda g, s, p=None: g)


def returns_a_number(learning_rate):
    return 3.0 * learning_rate


def nothing_to_turn():
    return optax.sgd(0.1)


@pytest.mark.parametrize(
    ("factory", "given_", "words"),
    [
        (raises, {}, "raised KeyError"),
        (raises_in_init, {}, "RuntimeError"),
        (raises_in_update, {}, "KeyError"),
        (returns_one_thing, {}, "returned|pair|unpack|state"),
        (returns_a_number, {}, "returned .* was needed"),
        (nothing_to_turn, {}, "no numeric hyperparameter"),
        (3, {}, "got int"),
        (optax.adam, {"foo": 1.0}, "no parameter 'foo'"),
        (optax.adam, {"learning_rate": "fast"}, "learning_rate|fast"),
        (optax.sgd, {"learning_rate": -0.1}, "learning_rate|positive|negative|uphill"),
        (optax.adam, {"b1": 1.5}, "b1|unit|limit|unstable"),
        (optax.adam, {"learning_rate": float("nan")}, "nan|NaN|finite|learning_rate"),
    ],
)
def test_bad_factories_and_settings_give_one_line(factory, given_, words):
    with pytest.raises(theory.Refusal) as refusal:
        theory.edge(factory, **given_)
    assert "\n" not in refusal.value.reason
    assert re.search(words, refusal.value.reason), refusal.value.reason


@pytest.mark.parametrize(
    "numbers",
    [
        {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"learning_rate": 0.0},
        {"learning_rate": -1.0}, {"b1": 1.0}, {"b1": 1.5}, {"b1": -1.5}, {"beta": 0.5},
    ],
)  # fmt: skip
def test_numbers_outside_every_stable_region_are_refused(numbers):
    with pytest.raises(theory.Refusal):
        theory.edge(optax.adam).at(**numbers)


@pytest.mark.parametrize("t", [0, -3])
def test_steps_are_counted_from_one(t):
    with pytest.raises(theory.Refusal):
        theory.edge(optax.adam, t=t)


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
