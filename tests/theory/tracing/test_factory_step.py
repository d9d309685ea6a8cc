"""Factories that are none, and numbers that no rule takes: refused in one line."""

import re

import optax
import optax.contrib
import pytest

import theory


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
