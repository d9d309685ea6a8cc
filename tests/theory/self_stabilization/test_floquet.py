"""The multipliers of the 2-cycle of every rule against maps written by hand."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

from tests.theory.handwritten import RULES, gradient, model, momentum, slow_pair, two_cycle
from tests.theory.self_stabilization.points import at_point
from theory.self_stabilization.any_rule import cached_stabilization
from theory.self_stabilization.floquet import PUSH, cycle_multipliers, cycle_polynomial, growth_by_series
from toylab.optimizers import NAMED


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("push", [0.2, 1e-2, 1e-4])
def test_multipliers_are_those_of_the_rule_written_by_hand(rule, push):
    eta, (theorem, named, numbers) = 0.3, at_point(rule)
    c = model(numbers.threshold(), push / eta**2, 1.7)
    v, twice = two_cycle(RULES[rule](named), eta, c)
    np.testing.assert_allclose(v[:2], [np.sqrt(2 * push / 1.7) / eta, 0], atol=1e-10)
    symbols = theorem.edge.symbols
    hyper = {symbols[n]: sp.Float(x, 30) for n, x in (named | {"learning_rate": eta}).items()}
    found = cycle_multipliers(theorem.edge.loop, hyper, push) ** 2
    truth = np.linalg.eigvals(twice)
    # the hand-written state is not minimal: what is left over decays at once, as its doubles do not couple
    for multiplier in found:
        assert np.min(np.abs(truth - multiplier)) < 1e-6, (rule, push, multiplier, truth)
    # eigenvalues of a matrix, double roots at zero among them, are known to the square root of rounding
    biggest = np.sort(np.abs(truth))[::-1][: len(found)]
    np.testing.assert_allclose(np.sort(np.abs(found))[::-1], biggest, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_small_orbits_turn_and_grow_as_predicted(rule):
    """Pure cubic model: angle eta sqrt(2 alpha kappa Q(1)), growth alpha eta^2 kappa Lambda = drift/(2 kappa)."""
    eta, (theorem, named, numbers) = 0.3, at_point(rule, scale=0.5)
    pushes, errors = np.array([4e-5, 1e-5]), []
    for push in pushes:
        alpha = push / eta**2
        growth, angle = slow_pair(two_cycle(RULES[rule](named), eta, model(numbers.threshold(), alpha, 0.6))[1])
        drift = theorem.numeric("drift")(learning_rate=eta, sharpening_rate=alpha, **named)
        np.testing.assert_allclose(alpha * eta**2 * numbers.kappa * numbers.lag, float(drift) / (2 * numbers.kappa))
        errors.append([angle / numbers.frequency(alpha) - 1, float(drift) / (2 * numbers.kappa * push) - growth / push])
    # both corrections are of the order of the push: a quarter of it a quarter of them; at most some ten times the push
    small, big = np.abs(errors[1]), np.abs(errors[0])
    assert np.all(small < 100 * pushes[1]) and np.all(small <= 0.26 * big + 1e-7)


def test_the_polynomial_of_gradient_descent_by_hand():
    """(log|x|, y) has the Jacobian [[1, eta], [-2 eta alpha, 1]] at lowest order: z^2 - 2 z + 1 + 2 eta^2 alpha = 0."""
    found = cycle_polynomial(cached_stabilization(NAMED["gd"]).edge.loop)
    z = sp.Symbol("z")
    by_hand = z**2 - 2 * z + 1 + 2 * PUSH
    assert sp.expand(found - sp.Poly(found, z).LC() * by_hand) == 0


NAMES = [rule for rule in NAMED if rule not in ("ema_cascade", "delayed_gradient")]


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "optimistic_gd"])
def test_the_series_of_the_multipliers_gives_frequency_and_lag(rule):
    """Two derivations: Taylor expansion of the Floquet polynomial; multiple scales.  rho = kappa Lambda, exactly."""
    _series_agrees(cached_stabilization(NAMED[rule]))


@pytest.mark.slow
@pytest.mark.parametrize("rule", NAMES)
def test_the_series_agrees_for_every_named_rule(rule):
    _series_agrees(cached_stabilization(NAMED[rule]))


def _series_agrees(theorem):
    parameters = theorem.edge.parameters
    point = {symbol: sp.Rational(n + 2, n + 5) / 3 for n, symbol in enumerate(sorted(parameters.numbers(), key=str))}
    exact = {z: value.xreplace(point) for z, value in (("k", theorem.kappa), ("g", theorem.gain), ("l", theorem.lag))}
    loop = theorem.edge.loop
    over, under = (tuple(sp.sympify(c).xreplace(point) for c in p) for p in (loop.numerator, loop.denominator))
    there = replace(loop, numerator=over, denominator=under)
    square, rho = growth_by_series(there)
    assert sp.simplify(square - 2 * exact["k"] * exact["g"]) == 0
    assert sp.simplify(rho - exact["k"] * exact["l"]) == 0


def test_heavy_ball_by_hand_is_the_optimizer():
    """The oracle itself: two steps of optax's heavy ball on the model."""
    c, (step, _, _) = model(3.0, 0.4, 1.3, 0.2, 0.1, 0.3, 0.5, 0.2, 0.1), momentum(0.7)
    rule = NAMED["heavy_ball"](0.1, momentum=0.7)
    w = jnp.array([0.3, -0.2])
    state, v = rule.init(w), np.array([0.3, -0.2, 0, 0])
    for _ in range(2):
        update, state = rule.update(jnp.asarray(gradient(w, c)), state, w)
        w, v = w + update, step(v, 0.1, c)
    np.testing.assert_allclose(w, v[:2], rtol=1e-14)
