"""The central map against the rules themselves, on a minimum that moves while they oscillate about it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.formulas import formula
from theory.averages.central_map import cached_central_map, central_map_law
from theory.edges.filter_numbers import K
from theory.edges.transfer import z
from theory.errors import NoLinearEdge
from theory.self_stabilization.multiple_scales import eta as ETA_SYMBOL
from theory.self_stabilization.multiple_scales import general_motion
from toylab.optimizers import NAMED
from toylab.rules.held import held_step
from toylab.rules.parities import classify

RULES = {
    "gd": {},
    "nesterov": {"momentum": 0.7},
    "ema_momentum": {"momentum": 0.9},
    "adam": {"b1": 0.9},
    "nadam": {"b1": 0.8},
}
ETA, STEPS = 0.3, 600


def held(rule):
    """The optax rule with P held at 1: the step is cut at the updated second moments, the step count at its limit."""
    made = NAMED[rule](ETA, **RULES[rule], **({"b2": 0.9, "eps": 0.0} if "b1" in RULES[rule] else {}))
    roles = classify(made, made.init(jnp.zeros(())), jnp.zeros(()))
    cut = held_step(made, roles)
    state = jax.tree.map(lambda leaf: leaf + 10**4 if leaf.dtype == jnp.int32 else leaf, made.init(jnp.zeros(())))
    return state, lambda g, state, x: cut(g, state, x, [jnp.ones(()) for _ in roles.slow])


@cache
def runner(rule):
    begin, update = held(rule)

    @jax.jit
    def run(sharpness, minimum, start):
        def step(carry, here):
            x, state = carry
            change, after = update(sharpness * (x - here), state, x)
            return (x + change, after), x

        return jax.lax.scan(step, (start, begin), minimum)[1]

    return run


def positions(rule, sharpness, minimum, start):
    """Positions (steps,) of the optax rule on S (x - x_min)^2/2 with the minimum (steps,) moving, P held at 1."""
    return runner(rule)(sharpness, minimum, start)


def midpoint(x):
    return (x[:-2] + 2 * x[1:-1] + x[2:]) / 4


def respond(ratio, minimum, values, settled):
    """The recursion of a transfer function in z, fed with the minimum, from rest at its value there."""
    above, below = (
        [float(c) for c in sp.Poly(e.xreplace(values), z).all_coeffs()] for e in sp.fraction(sp.cancel(ratio))
    )
    above = [0.0] * (len(below) - len(above)) + above
    x = [settled] * len(below)
    past = [0.0 * minimum[0] + settled] * len(below)
    out = []
    for here in minimum:
        # below[0] x+ = sum above u - sum below x, both over the past from the newest to the oldest
        out.append(x[0])
        past = [here, *past[:-1]]
        new = sum(a * u for a, u in zip(above[1:], past, strict=False)) - sum(
            b * v for b, v in zip(below[1:], x, strict=False)
        )
        x = [new / below[0], *x[:-1]]
    return np.array(out)


def numbers(rule, names):
    law = cached_central_map(NAMED[rule])
    return [float(law.numeric(name)(learning_rate=ETA, **RULES[rule])) for name in names]


def at_edge(rule):
    law = cached_central_map(NAMED[rule])
    return float(law.edge.numeric("threshold")(learning_rate=ETA, **RULES[rule]))


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_lags_behind_a_minimum_that_drifts(rule):
    """The midpoint of the optax rule, which keeps oscillating, is v n - lag v, with lag = 1/(k* Q(1)); so is nothing
    else that the theorem names.
    """
    speed = 0.01
    minimum = speed * np.arange(STEPS)
    x = np.asarray(positions(rule, at_edge(rule), minimum, jnp.asarray(0.3)))
    mean = midpoint(x)[-200:]
    lag, map_lag, error, newton = numbers(rule, ("lag", "map_lag", "lag_error", "newton_lag_error"))
    # the modes beside the oscillation have faded by 0.9^400
    np.testing.assert_allclose((minimum[1:-1][-200:] - mean) / speed, lag, rtol=1e-6, atol=1e-9)
    assert np.abs(np.diff(x[-200:])).min() > 10 * speed  # while it oscillates all the time
    np.testing.assert_allclose([map_lag - lag, newton], [error, 1 - lag], rtol=1e-12)
    np.testing.assert_allclose(error, 0.5, rtol=1e-12)
    edge = cached_central_map(NAMED[rule]).edge
    product = at_edge(rule) * ETA * float(edge.numeric("gain_dc")(learning_rate=ETA, **RULES[rule]))
    np.testing.assert_allclose(lag * product, 1, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_the_map_is_the_rules_mean_half_a_step_on(rule):
    """For any motion of the minimum, not only slow drift: midpoint(n) = (map(n) + map(n + 1))/2, exactly."""
    n = np.arange(STEPS)
    minimum = np.sin(0.9 * n) + 0.3 * np.cos(0.13 * n) + 0.01 * n
    law = cached_central_map(NAMED[rule])
    values = {law.edge.symbols[name]: sp.Float(v, 30) for name, v in RULES[rule].items()}
    x = np.asarray(positions(rule, at_edge(rule), minimum, jnp.asarray(0.3)))
    followed = respond(law.map_response, minimum, values, 0.0)
    late = slice(STEPS - 200, STEPS - 2)
    halfway = ((followed[:-1] + followed[1:]) / 2)[1:][late]
    # rounding of 600 steps at the edge of stability, where it adds up
    np.testing.assert_allclose(midpoint(x)[late], halfway, atol=1e-9)
    assert np.abs(midpoint(x)[late] - followed[1:][late]).max() > 1e-3  # without the half step it is another curve


@pytest.mark.parametrize("rule", ["gd", "nadam"])
def test_order_of_the_lag_law(rule):
    """Against x_min - lag x_min' the mean is right to second order in the frequency; Newton's step to first order."""
    lag, newton = numbers(rule, ("lag", "newton_lag_error"))
    frequencies, errors, plain = np.array([0.04, 0.02, 0.01]), [], []
    n = np.arange(STEPS)
    for frequency in frequencies:
        minimum = np.sin(frequency * n)
        mean = midpoint(np.asarray(positions(rule, at_edge(rule), minimum, jnp.asarray(0.3))))
        late, here = slice(-300, None), n[1:-1]
        slope = frequency * np.cos(frequency * here)
        errors.append(np.abs(mean - (minimum[1:-1] - lag * slope))[late].max())
        plain.append(np.abs(mean - np.sin(frequency * (here - 1)))[late].max())
    rates = np.diff(np.log(errors)) / np.diff(np.log(frequencies))
    np.testing.assert_allclose(rates, 2, atol=0.1)  # the next order is a frequency smaller, up to 4%
    rates = np.diff(np.log(plain)) / np.diff(np.log(frequencies))
    np.testing.assert_allclose(rates, 1, atol=0.1)
    np.testing.assert_allclose(plain[-1] / frequencies[-1], newton, rtol=0.05)


@pytest.mark.parametrize("rule", ["ema_momentum", "nesterov", "optimistic_gd", "adamw"])
@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_the_rest_is_stable_and_the_lag_error_is_half_a_step(rule, seed):
    law = cached_central_map(NAMED[rule])
    point = law.edge.draw(np.random.default_rng(seed))
    values = {law.edge.symbols[name]: sp.Float(v, 30) for name, v in point.items()}
    at = law.edge.at(**point)
    if at.crossing != "flip":  # the formulas are those of the flip
        return
    rest = sp.Poly(law.rest.xreplace(values), z)
    assert all(abs(r) < 1 for r in rest.nroots(n=20)) if rest.degree() else True
    gain, lag, map_lag = (float(formula(law, name)(**point)) for name in ("gain", "lag", "map_lag"))
    np.testing.assert_allclose(map_lag - lag, gain / 2, rtol=1e-9)
    # (z + 1) r(z) is the held step's characteristic polynomial at the threshold
    eigenvalue = sp.Float(at.threshold, 30) * values[law.edge.symbols["learning_rate"]]
    polynomial = law.edge.characteristic_polynomial.xreplace({**values, sp.Symbol("k"): eigenvalue})
    difference = sp.Poly(sp.expand(polynomial - (z + 1) * law.rest.xreplace(values)), z)
    assert max(abs(float(c)) for c in difference.all_coeffs()) < 1e-8  # the threshold's own rounding


def test_in_closed_form():
    """Gradient descent: x+ = x_min, the Newton step; one-pole averages keep the mode -b and gain (1 + b)/(z + b)."""
    gd, adam = cached_central_map(NAMED["gd"]), cached_central_map(NAMED["adam"])
    b = adam.edge.symbols["b1"]
    assert sp.cancel(gd.map_response - 1 / z) == 0 and gd.rest == 1
    assert sp.cancel(adam.map_response - (1 + b) / (z + b)) == 0 and sp.expand(adam.rest - z - b) == 0
    assert sp.cancel(adam.lag - (1 - b) / (2 * (1 + b))) == 0
    assert gd.lag == sp.Rational(1, 2) and cached_central_map(NAMED["heavy_ball"]).lag_error == sp.Rational(1, 2)


def test_the_minimum_of_the_mean_force_is_where_multiple_scales_put_the_offset():
    """Newton's step goes to the zero of the mean force on x; the multiple scales find the mean of x there too."""
    motion = general_motion()
    a, level = (s for name in ("A", "s") for s in motion.offset.free_symbols if s.name == name)
    c3, f, m = sp.symbols("c3 f m", real=True)
    # d/dx of S x^2/2 + c3 x^3/6 - f x + m x s^2/2, averaged over x = B + A and B - A, at leading order
    force = K / ETA_SYMBOL * motion.offset + c3 * a**2 / 2 - f + m * level**2 / 2
    assert sp.expand(force) == 0


# ---------------------------------------------------------------------------------------------------------------
# The rule's own step


@settings(max_examples=5)
@given(st.integers(0, 2**31))
def test_off_the_critical_directions_the_map_is_the_rules_own_step(seed):
    """One Adam step of optax with the mean gradient, the second moments with the oscillation's share besides."""
    rng, law = np.random.default_rng(seed), cached_central_map(NAMED["adam"])
    hyper = {"learning_rate": 0.1, "b1": rng.uniform(0, 0.9), "b2": rng.uniform(0.5, 0.99), "eps": 1e-3}
    w, mu, gradient, penalty = rng.normal(size=(4, 3))
    nu, spread = rng.uniform(0.1, 2, size=(2, 3))
    mean = gradient + penalty / 2
    moved = formula(law, "nu_next")(**hyper, nu=nu, mean_gradient=mean, gradient_variance=spread)
    made = NAMED["adam"](**hyper)
    (state, *others) = made.init(jnp.asarray(w))
    # optax averages g^2: phases mean +- sqrt(spread) at equal odds
    both = []
    for sign in (1, -1):
        fed = state._replace(count=jnp.asarray(10**6), mu=jnp.asarray(mu), nu=jnp.asarray(nu))
        both.append(made.update(jnp.asarray(mean + sign * np.sqrt(spread)), (fed, *others))[1][0])
    np.testing.assert_allclose(moved, (both[0].nu + both[1].nu) / 2, rtol=1e-12)
    memory = formula(law, "mu_next")(**hyper, mu=mu, gradient=gradient, penalty=penalty)
    np.testing.assert_allclose(memory, (both[0].mu + both[1].mu) / 2, rtol=1e-12)
    after = formula(law, "w_next")(**hyper, w=w, mu=mu, nu=moved, gradient=gradient, penalty=penalty)
    # the held step is linear: with P of the averaged moments, the mean of the steps is the step of the mean
    np.testing.assert_allclose(after, w - hyper["learning_rate"] * memory / (np.sqrt(moved) + hyper["eps"]), rtol=1e-12)


@pytest.mark.parametrize("rule", ["delayed_gradient", "schedule_free_sgd"])
def test_refusals(rule):
    with pytest.raises(NoLinearEdge):
        central_map_law(NAMED[rule])
