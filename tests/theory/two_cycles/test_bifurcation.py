"""The theory of 2-cycles: the balance against iteration, two derivations against each other, limits, refusals."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from theory.losses.scalar_jet import NotAMinimum, loss_jet
from theory.two_cycles import bifurcation, harmonic_balance, multipliers, normal_form
from theory.two_cycles.centre_manifold import reduced_map
from toylab.optimizers import NAMED
from toylab.problems import scalar

a, c3, c4 = sp.Symbol("a", positive=True), *sp.symbols("c3 c4", real=True)


@cache
def theorem(rule="gd"):
    return bifurcation.period_two(NAMED[rule])


@cache
def numeric(name, rule="gd"):
    return theorem(rule).numeric(name)


def test_the_normal_form_of_gradient_descent():
    # Chen & Bruna 2022 and Ma et al. 2022, worked out by hand
    found = theorem().expressions
    assert sp.expand(found["criterion"] - (3 * c3**2 - a * c4)) == 0
    assert sp.cancel(found["amplitude_sq_1"] - 6 * a**2 / (3 * c3**2 - a * c4)) == 0
    cubic = normal_form.second_iterate().expressions["cubic"]
    assert sp.cancel(cubic - 2 * (a * c4 - 3 * c3**2) / (3 * a**2)) == 0


@pytest.mark.parametrize("rule", ["heavy_ball", "nesterov", "adam"])
def test_without_decay_the_orbit_is_gradient_descents(rule):
    names = ("criterion", "amplitude_sq_1", "amplitude_sq_2", "centre_1", "centre_2")
    for name in names:
        assert sp.cancel(theorem(rule).expressions[name] - theorem().expressions[name]) == 0


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "nesterov", "adamw"])
def test_the_centre_manifold_agrees_with_the_balance(rule):
    one, other = reduced_map(NAMED[rule]).expressions, theorem(rule).expressions
    assert sp.cancel(sp.together(one["rate"] + other["growth"])) == 0
    assert sp.cancel(sp.together(one["cubic"] - other["landau"])) == 0
    # the mean of the orbit is bend A^2
    assert sp.cancel(sp.together(one["bend"] * other["amplitude_sq_1"] - other["centre_1"])) == 0


def test_decay_makes_the_flip_subcritical():
    found = theorem("adamw")
    at = {"learning_rate": 0.1, "b1": 0.9, "a": 1.0, "c3": 1.0, "c4": 2.999}
    assert found.numeric("criterion")(**at, weight_decay=0.0) > 0 > found.numeric("criterion")(**at, weight_decay=1.0)


@given(st.floats(-1, 1), st.floats(-2, 0.5), st.floats(0.5, 2))
def test_gradient_descent_settles_on_the_orbit(third, fourth, curvature):
    criterion = 3 * third**2 - curvature * fourth
    if criterion < 0.3:
        return
    excess = 2e-3
    given_jet = {"a": curvature, "c3": third, "c4": fourth, "c5": 0.0, "c6": 0.0, "d": excess}
    x = 0.05
    for _ in range(4000):  # the approach fades like (1 - 4 d)^n = 1e-14
        x -= 2 / curvature * (1 + excess) * (curvature * x + third * x**2 / 2 + fourth * x**3 / 6)
    y = x - 2 / curvature * (1 + excess) * (curvature * x + third * x**2 / 2 + fourth * x**3 / 6)
    # what is left out is of third order in d; its coefficient grows like powers of 1/criterion < 4
    scale = 1 / criterion
    assert abs((x - y) ** 2 / 4 - float(numeric("amplitude_sq")(**given_jet))) < 1e4 * scale * excess**3
    assert abs((x + y) / 2 - float(numeric("centre")(**given_jet))) < 1e4 * scale * excess**3


@given(st.floats(-2, 4), st.floats(-2, 4))
def test_the_multiplier_of_gradient_descent_is_a_product(plus, minus):
    (root,) = theorem().multipliers(k_plus=plus, k_minus=minus)
    np.testing.assert_allclose(root, (1 - plus) * (1 - minus), atol=1e-13)  # products of a few roundings


@given(st.floats(0.01, 0.95), st.floats(0, 4))
def test_equal_gains_give_squares_of_the_roots(momentum, gain):
    found = theorem("heavy_ball").multipliers(k_plus=gain, k_minus=gain, momentum=momentum, learning_rate=1.0)
    roots = np.roots([1, -(1 + momentum - gain), momentum])
    # compared by their symmetric functions: double roots are known to the square root of rounding only
    np.testing.assert_allclose(np.poly(found), np.poly(roots**2), atol=1e-12)


def test_an_even_quartic_loses_symmetry_at_half():
    for rule in ("gd", "heavy_ball"):
        found = theorem(rule)
        d, gain = harmonic_balance.d, found.expressions["critical_gain"]
        # eta P^-1 f'' = k* (3 - 2 (1 + d)) at both points, where A^2 = 6 (1 - 1/(1 + d)) f''/|f''''|
        put = {multipliers.k_plus: gain * (1 - 2 * d), multipliers.k_minus: gain * (1 - 2 * d), multipliers.Z: 1}
        at_one = sp.factor(found.expressions["multiplier_polynomial"].subs(put))
        assert at_one.subs(d, sp.Rational(1, 2)) == 0
        assert at_one.subs(d, 0) == 0


@pytest.mark.parametrize(
    ("loss", "at", "parameters", "expected"),
    [
        (scalar.mean_log_cosh, 0, {"curvature": 2}, (2, 0, -4, 0, 32)),
        (scalar.mean_catenary, 0, {"curvature": 3}, (3, 0, 3, 0, 3)),
        (scalar.mean_soft_label, 0, {"probability": sp.Rational(1, 2)}, (sp.Rational(1, 4), 0, -sp.Rational(1, 8), 0)),
    ],
)
def test_jets_are_read_off_the_code(loss, at, parameters, expected):
    assert loss_jet(loss, at, **parameters).derivatives[: len(expected)] == expected


def test_kinds_are_decided_from_the_code():
    kinds = {
        loss: bifurcation.period_two(NAMED["gd"], loss_jet(loss, 0, curvature=2)).kind
        for loss in (scalar.mean_log_cosh, scalar.mean_catenary)
    }
    assert list(kinds.values()) == ["supercritical", "subcritical"]


def test_what_is_refused():
    with pytest.raises(bifurcation.NoFlip, match="complex pair"):
        bifurcation.period_two(NAMED["delayed_gradient"])
    with pytest.raises(NotAMinimum, match="first derivative"):
        loss_jet(lambda x: x**2 + x)
    with pytest.raises(NotAMinimum, match="second derivative"):
        loss_jet(lambda x: -(x**2))
    with pytest.raises(NotAMinimum, match="smooth"):
        loss_jet(lambda x: jnp.abs(x))
