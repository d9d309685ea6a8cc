"""The numbers of a filter, derived a second time: from the loop's polynomials, the moving root, the drift of orbits."""

import pytest
import sympy as sp

import theory
from theory.edges import filter_numbers as law
from theory.edges.transfer import z
from theory.edges.unit_circle import value
from theory.losses.plane_jet import ALPHA
from theory.self_stabilization.multiple_scales import cubic_motion, eta
from toylab.optimizers import NAMED

RULES = ["gd", "heavy_ball", "nesterov", "ema_momentum", "optimistic_gd", "quasi_hyperbolic", "adam"]


def test_gradient_descent_by_hand():
    expected = {law.K: 2, law.KAPPA: 1, law.BEND: 0, law.Q1: 1, law.ADVANCE: 0, law.LAMBDA: 1}
    assert law.filter_values(sp.Integer(1)) == expected


def test_heavy_ball_by_hand():
    """Q = z/(z - b), so k = (1 - z)(z - b)/z = -z + 1 + b - b/z."""
    b = sp.Symbol("b", positive=True)
    values = law.filter_values(z / (z - b))
    expected = {
        law.K: 2 * (1 + b), law.KAPPA: 1 / (1 - b), law.BEND: 2 * b, law.Q1: 1 / (1 - b), law.ADVANCE: -b / (1 - b),
        law.LAMBDA: (1 + b) / (1 - b) ** 2,
    }  # fmt: skip
    assert all(sp.simplify(values[name] - e) == 0 for name, e in expected.items())


@pytest.mark.parametrize("rule", RULES)
def test_kappa_is_the_quotient_rule_and_the_speed_of_the_critical_root(rule):
    edge = theory.cached_edge(NAMED[rule])
    kappa = law.envelope_growth(law.loop_inverse(edge.loop))
    at = sp.Integer(-1)
    (a, da), (b, db) = ((value(p, at), value(slope(p), at)) for p in (edge.loop.a, edge.loop.b))
    assert sp.simplify(kappa - b**2 / (da * b - a * db)) == 0
    assert sp.simplify(kappa - edge.growth) == 0  # d|z|/dk, from the characteristic polynomial


def slope(p):
    return [(len(p) - 1 - i) * c for i, c in enumerate(p[:-1])]


@pytest.mark.parametrize("rule", RULES)
def test_the_loop_and_the_filter_give_the_same_numbers_without_decay(rule):
    edge = theory.cached_edge(NAMED[rule])
    values, k = law.filter_values(edge.filter), law.loop_inverse(edge.loop)
    assert sp.simplify(values[law.K] - edge.threshold * edge.parameters.eta) == 0
    assert sp.simplify(values[law.K] - law.at_flip(k)) == 0
    assert sp.simplify(values[law.BEND] - law.at_flip(k, 2)) == 0
    assert sp.simplify(values[law.Q1] + 1 / law.at_one(k, 1)) == 0  # k'(1) = -1/Q(1)
    assert sp.simplify(values[law.Q1] - edge.gain_dc) == 0


def test_decoupled_decay_is_in_the_loop_and_not_in_the_filter():
    edge = theory.cached_edge(NAMED["adamw"])
    omega, rate = edge.symbols["weight_decay"], edge.parameters.eta
    k = law.loop_inverse(edge.loop)
    expected = law.filter_values(edge.filter)[law.K] * (2 - rate * omega) / 2
    assert sp.simplify(law.at_flip(k) - expected) == 0
    assert sp.simplify(law.at_one(k) + rate * omega / edge.gain_dc) == 0  # k(1) = -eta omega/Q(1)


@pytest.mark.parametrize("rule", RULES)
def test_the_lag_is_that_of_the_drift_by_multiple_scales(rule):
    """drift = 2 alpha eta^2 kappa^2 Lambda in the cubic model, expanded without the definition of Lambda."""
    values = law.filter_values(theory.cached_edge(NAMED[rule]).filter)
    lag = sp.cancel(cubic_motion().drift / (2 * ALPHA * eta**2 * law.KAPPA**2)).xreplace(values)
    assert sp.simplify(values[law.LAMBDA] - lag) == 0


@pytest.mark.parametrize("rule", RULES)
def test_the_floats_are_the_formulas(rule):
    edge = theory.cached_edge(NAMED[rule])
    point = edge.parameters.numbers()
    formulas = {s: float(e.xreplace(point)) for s, e in law.filter_values(edge.filter).items()}
    numbers = law.numbers_of(edge.filter.xreplace(point), 0.1, formulas[law.K], None)
    found = [numbers.critical, numbers.kappa, numbers.bend, numbers.gain, numbers.advance, numbers.lag]
    expected = [formulas[s] for s in (law.K, law.KAPPA, law.BEND, law.Q1, law.ADVANCE, law.LAMBDA)]
    assert found == pytest.approx(expected, rel=1e-12)  # both are rounded once, from 15 and from 20 digits


def test_a_pair_has_no_lags_and_its_kappa_is_the_speed_of_its_root():
    edge = theory.cached_edge(NAMED["delayed_gradient"])
    at = edge.at()
    numbers = law.numbers_of(edge.filter.xreplace(edge.parameters.numbers()), at.eta, at.k, at.angle)
    assert numbers.advance is None and numbers.bend is None and numbers.lag is None
    assert numbers.kappa == pytest.approx(at.growth, rel=1e-12)  # d|z|/dk in double precision
    assert numbers.threshold() == pytest.approx(at.threshold, rel=1e-12)
