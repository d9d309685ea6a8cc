"""The central flow of any rule: variances, edges and speeds against simulated rules, rest, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.formulas import formula
from tests.theory.runs import simulate
from theory.averages.any_rule import cached_central_flow, central_flow_law
from theory.errors import NoLinearEdge
from toylab.optimizers import NAMED

seeds = st.integers(0, 2**31)
# Closed forms of some ten operations.
SAME = {"rtol": 1e-11, "atol": 1e-13}


MADE = {
    "adam": lambda eta, b2: optax.adam(eta, b1=0.1, b2=b2, eps=1e-30),
    "nadam": lambda eta, b2: optax.nadam(eta, b1=0.5, b2=b2, eps=1e-30),
}
MOMENTUM = {"adam": 0.1, "nadam": 0.5}
STEPS = 4000


@partial(jax.jit, static_argnames="rule")
def adaptive_run(rule, eta, b2, rate, push, swing):
    def loss(w):
        return jnp.exp(rate * w[1]) * w[0] ** 2 / 2 - push * w[1]

    w, state = simulate(MADE[rule](eta, b2), loss, jnp.stack([swing, 0.0]), STEPS)
    return w, [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2][-1]


@pytest.mark.parametrize("rule", MADE)
@settings(max_examples=5)
@given(st.floats(1e-4, 1e-2), st.floats(0.98, 0.99), st.floats(0.7e-4, 1.2e-4))
def test_adaptive_rules_keep_this_variance(rule, eta, b2, growth):
    """The sharpness grows by itself, so that both the oscillation and the second moments have to follow.

    Adam only with little momentum: from b1 of about 0.2 on its second moments do not settle at the edge but circle it,
    and its mean <x^2> lies some ten percent above (b1 = 0.5, b2 = 0.99).
    """
    law, rate = cached_central_flow(NAMED[rule]), growth / eta
    hyper = {"learning_rate": eta, "b1": MOMENTUM[rule], "b2": b2, "eps": 1e-30}
    critical = float(formula(law, "critical")(**hyper))
    push = rate * (eta / critical) ** 2  # half of it is the penalty on the sharpness, at S = 1
    w, nu = map(np.asarray, adaptive_run(rule, eta, b2, rate, push, eta / critical))
    late = slice(STEPS // 2, STEPS)
    x, sharpness, (mx, my) = w[late, 0], np.exp(rate * w[late, 1]), np.sqrt(nu[late].T) / eta
    at = partial(formula(law, "preconditioner_rate"), **hyper, nu=nu[late, 0], mean_gradient=0.0)
    still = at(gradient_variance=0.0) / eta
    moved = at(gradient_variance=sharpness**2) / eta - still
    inner = {"sharpening": push * rate * sharpness / my, "slope_sq": (rate * sharpness) ** 2 / my}
    variance = np.asarray(formula(law, "variance")(**hyper, **inner, still=still, moved=moved))
    # second order in the growth per step over 1 - beta2, (1.2e-4/0.01)^2 = 1.4e-4; 0.99^2000 is left of the start
    np.testing.assert_allclose((x**2).mean(), variance.mean(), rtol=2e-4)
    assert (x**2).mean() / np.mean(nu[late, 0] / sharpness**2) - 1 > 2e-3  # not merely nu = S^2 x^2
    np.testing.assert_allclose(np.mean(sharpness / mx), critical, rtol=5e-4)
    excess = np.mean(sharpness * x**2 / 2)
    found = formula(law, "mean_loss_excess")(**hyper, variance=variance, mass=mx).mean()
    np.testing.assert_allclose(excess, found, rtol=2e-3)


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "ema_momentum"])
def test_mean_loss_on_a_two_cycle_needs_the_rules_own_edge(rule):
    """The cubic model's 2-cycle: <x^2> = 2 alpha/beta for every filter, and L + k* <x^2>/(2 eta) for its mean loss."""
    law, eta, alpha, beta = cached_central_flow(NAMED[rule]), 0.2, 0.3, 1.7
    settings_ = {name: 0.6 for name in ("momentum",) if name in law.edge.symbols}
    critical = float(formula(law, "critical")(learning_rate=eta, **settings_))
    swing = float(formula(law, "variance")(sharpening=eta * alpha, slope_sq=eta * beta)) ** 0.5

    def loss(w):
        return (critical / eta + np.sqrt(beta) * w[1]) * w[0] ** 2 / 2 - alpha / np.sqrt(beta) * w[1]

    def slope(w):
        along = (critical / eta + np.sqrt(beta) * w[1]) * w[0]
        return jnp.stack([along, np.sqrt(beta) * w[0] ** 2 / 2 - alpha / np.sqrt(beta)])

    rule_ = NAMED[rule](eta, **settings_)
    start = jnp.array([swing, 0.0])
    state = rule_.init(start)
    if settings_:  # the momentum of a gradient that alternates: v = b v + c g with g -> -g, at rest in the other weight
        gradient = slope(start)
        gain = 1 - settings_["momentum"] if rule == "ema_momentum" else 1.0
        memory = -gain * gradient / (1 + settings_["momentum"])
        state = jax.tree.map(lambda leaf: memory if leaf.ndim else leaf, state)
    w = [start]
    for _ in range(5):
        update, state = rule_.update(slope(w[-1]), state, w[-1])
        w.append(w[-1] + update)
    w = np.asarray(w)
    np.testing.assert_allclose(w[:, 0], swing * (-1.0) ** np.arange(6), rtol=1e-9)  # the cycle is exact
    excess = np.mean([loss(v) - loss(np.array([0.0, v[1]])) for v in w])
    found = formula(law, "mean_loss_excess")(learning_rate=eta, variance=swing**2, mass=1 / eta, **settings_)
    np.testing.assert_allclose(excess, found, rtol=1e-8)
    np.testing.assert_allclose(found, critical * swing**2 / (2 * eta), rtol=1e-12)


# k* and what the flow of <x^2> must be for every rule without second moments
PAPERS = {
    "gd": (lambda b: 2.0, lambda b: 1.0, lambda b: 0.0),
    "heavy_ball": (lambda b: 2 * (1 + b), lambda b: 1 / (1 - b), lambda b: b / (1 - b)),
    "ema_momentum": (lambda b: 2 * (1 + b) / (1 - b), lambda b: 1.0, lambda b: b / (1 - b)),
    "nesterov": (lambda b: 2 * (1 + b) / (1 + 2 * b), lambda b: 1 / (1 - b), lambda b: b**2 / (1 - b)),
    "rmsprop": (lambda b: 2.0, lambda b: 1.0, lambda b: 0.0),
    "adam": (lambda b: 2 * (1 + b) / (1 - b), lambda b: 1.0, lambda b: b / (1 - b)),
    "nadam": (lambda b: 2 * (1 + b) / ((1 - b) * (1 + 2 * b)), lambda b: 1.0, lambda b: b**2 / (1 - b)),
}


@pytest.mark.parametrize("rule", PAPERS)
@pytest.mark.parametrize("b", [0.3, 0.9])
def test_edge_speed_and_delay(rule, b):
    law = cached_central_flow(NAMED[rule])
    named = {name: b for name in ("momentum", "b1") if name in law.edge.symbols}
    found = [float(formula(law, name)(learning_rate=0.2, **named)) for name in ("critical", "speed", "delay")]
    np.testing.assert_allclose(found, [f(b) for f in PAPERS[rule]], **SAME)


@given(seeds)
@settings(max_examples=10)
def test_the_edge_is_kept_and_the_loss_accounted_for(seed):
    """One random instance in coordinates: d/dt (k* M - H) = 0 along u, dL/dt = -|w'|_M^2/Q(1) - k* V u^T M' u/2."""
    rng, law, n = np.random.default_rng(seed), cached_central_flow(optax.adam), 6
    hyper = {"learning_rate": rng.uniform(0.01, 1), "b1": rng.uniform(0, 0.95), "b2": rng.uniform(0.5, 0.999)}
    hyper["eps"] = 1e-8
    nu, g, d, u = rng.uniform(0.1, 2, n), rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    m = (np.sqrt(nu) + hyper["eps"]) / hyper["learning_rate"]
    critical = float(formula(law, "critical")(**hyper))

    def rates(variance):
        share = variance * u**2
        mean = g + variance * d / 2
        velocity = formula(law, "w_rate")(**hyper, nu=nu, gradient=g, penalty=variance * d)
        moment = formula(law, "gradient_variance_at_edge")(**hyper, nu=nu, share=share)
        np.testing.assert_allclose(moment, variance * (critical * m * u) ** 2, rtol=1e-10)
        p_rate = formula(law, "preconditioner_rate")(**hyper, nu=nu, mean_gradient=g, gradient_variance=moment)
        np.testing.assert_allclose(velocity, -mean / m, rtol=1e-10)  # Q(1) = 1
        return np.asarray(velocity), np.asarray(p_rate) / hyper["learning_rate"]

    still = rates(0.0)[1] @ u**2
    moved = rates(1.0)[1] @ u**2 - still
    inner = {"sharpening": -g @ (d / m), "slope_sq": d @ (d / m), "gradient_sq": g @ (g / m)}
    held = float(formula(law, "variance")(**hyper, **inner, still=still, moved=moved))
    velocity, m_rate = rates(held)
    size = np.abs(velocity) @ np.abs(d) + critical * np.abs(m_rate) @ u**2
    np.testing.assert_allclose(velocity @ d, critical * m_rate @ u**2, atol=1e-9 * size)
    loss_rate = float(formula(law, "loss_rate")(**hyper, **inner, variance=held))
    np.testing.assert_allclose(loss_rate, g @ velocity, atol=1e-9 * (np.abs(g) @ np.abs(velocity)))
    accounted = -(velocity**2) @ m - critical * held * (m_rate @ u**2) / 2
    np.testing.assert_allclose(loss_rate, accounted, atol=1e-9 * (size * (1 + abs(held)) + velocity**2 @ m))


def test_a_shrinking_preconditioner_can_raise_the_loss():
    law = cached_central_flow(optax.rmsprop)
    inner = {"sharpening": 1.0, "slope_sq": 1.0, "gradient_sq": 1.2}  # Cauchy and Schwarz: 1 <= 1.2
    held = formula(law, "variance")(**inner, still=-0.2, moved=0.0)
    assert float(formula(law, "loss_rate")(**inner, variance=held)) > 0
    held = formula(law, "variance")(**inner, still=0.0, moved=0.0)
    assert float(formula(law, "loss_rate")(**inner, variance=held)) < 0


def test_where_decoupled_decay_comes_to_rest():
    """AdamW on a gentle bowl far away: the decay, not the loss, brings the weights to rest, at grad L = -omega P w."""
    push, bend, decay = jnp.array([1.0, -0.5]), 0.2, 0.8

    @jax.jit
    def run():
        rule = optax.adamw(0.02, weight_decay=decay, b2=0.9, eps=1e-12)
        w, state = simulate(rule, lambda w: push @ w + bend * (w @ w) / 2, jnp.array([0.1, -0.2]), 3000)
        return w[-1], [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2][-1][-1]

    w, nu = map(np.asarray, run())
    found = formula(cached_central_flow(optax.adamw), "rest_gradient")(weight=w, nu=nu, weight_decay=decay, eps=1e-12)
    # (1 - eta omega)^3000 = 1e-21
    np.testing.assert_allclose(np.asarray(push) + bend * w, found, rtol=1e-10)
    assert np.all(np.abs(found) > 0.1)


def test_formulas_become_jax_functions():
    """`Theorem.numeric` under jit and grad, against the NumPy functions of these tests."""
    law = cached_central_flow(optax.adam)
    inner = {"b1": 0.3, "sharpening": 0.4, "slope_sq": 1.3, "still": 0.1, "moved": 0.7}
    found = jax.jit(law.numeric("variance"))(**inner)
    np.testing.assert_allclose(found, formula(law, "variance")(**inner), **SAME)
    slope = jax.grad(lambda s: law.numeric("variance")(**{**inner, "sharpening": s}))(0.4)
    np.testing.assert_allclose(
        slope * 0.4 + formula(law, "variance")(**{**inner, "sharpening": 0.0}), found, rtol=1e-10
    )


@pytest.mark.parametrize("rule", ["delayed_gradient", "schedule_free_sgd", "novograd"])
def test_refusals(rule):
    with pytest.raises(NoLinearEdge):
        central_flow_law(NAMED[rule])


def test_what_is_shared_by_weights_is_said():
    def plain(learning_rate, b1=0.9, b2=0.25):
        return optax.novograd(learning_rate, b1, b2)

    law = central_flow_law(plain)
    assert [str(s) for s in law.state.shared] == ["nu"] and any("sum G^2" in a for a in law.assumptions)


def test_a_preconditioner_without_a_rate_stays_open():
    law = cached_central_flow(NAMED["amsgrad"])
    assert "preconditioner_rate" not in law.expressions and {"m0", "m1"} <= {str(s) for s in law.variance.free_symbols}
