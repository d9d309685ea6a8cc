"""The numbers' own contract: state space, impulse, delay, windows, and P read off the rule's step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import filters
from toylab.optimizers import NAMED

RULES = {
    "gd": (optax.sgd(0.1), 0),
    "heavy_ball": (optax.sgd(0.1, momentum=0.8), 0),
    "adam": (optax.adam(0.1, b1=0.8), 0),
    "nadam": (optax.nadam(0.1, b1=0.8), 0),
    "delayed_1": (NAMED["delayed_gradient"](0.1), 1),
    "delayed_3": (NAMED["delayed_gradient"](0.1, delay=3), 3),
    "cascade": (NAMED["ema_cascade"](0.1), 0),
}


@pytest.fixture(scope="module")
def found():
    return {name: filters.held_filter(transform) for name, (transform, _) in RULES.items()}


@pytest.mark.parametrize("name", RULES)
def test_state_space_impulse_and_gains_are_one_filter(found, name):
    f = found[name]
    n = len(f.b)
    assert f.A.shape == (n, n) and f.c.shape == (n,)
    response = [f.d, *(f.c @ np.linalg.matrix_power(f.A, j) @ f.b for j in range(400))]
    assert f.delay == RULES[name][1]
    # sums of up to 400 numbers of order one, poles at most 0.9: the tail 0.9^400 is 1e-18
    assert -response[f.delay] == pytest.approx(f.impulse, rel=1e-12)
    assert np.allclose(response[: f.delay], 0, atol=1e-15)
    assert -sum(response) == pytest.approx(f.gain_dc, rel=1e-10)
    assert -sum(r * (-1) ** j for j, r in enumerate(response)) == pytest.approx(f.gain_nyquist, rel=1e-10)


@pytest.mark.parametrize("name", RULES)
def test_the_loop_is_marginal_exactly_at_the_threshold(found, name):
    f = found[name]
    for stretch, sign in ((1 - 1e-6, -1), (1 + 1e-6, 1)):
        lam, n = f.threshold * stretch, len(f.b)
        loop = np.zeros((n + 1, n + 1))
        loop[0, 0], loop[0, 1:] = 1 - f.decay + lam * f.d, f.c
        loop[1:, 0], loop[1:, 1:] = lam * f.b, f.A
        assert np.sign(np.abs(np.linalg.eigvals(loop)).max() - 1) == sign
    critical = np.linalg.eigvals(loop)
    leaving = critical[np.argmax(np.abs(critical))]
    assert abs(np.angle(leaving)) == pytest.approx(f.angle, abs=1e-4)
    assert (f.crossing == "flip") == (f.angle > np.pi - 1e-6)
    assert f.windows[0] == (0.0, f.threshold)


@settings(max_examples=10)  # compiles only once: the transform's numbers are data
@given(st.floats(-2, 2), st.floats(0.01, 4.0))
def test_preconditioner_is_read_off_adams_own_step(g, nu):
    """P = sqrt(nu+/(1 - b2^t)) (1 - b1^t) + eps terms, at the updated second moment (Kingma & Ba, Algorithm 1)."""
    transform = optax.adam(0.1, b1=0.9, b2=0.99, eps=1e-8)
    params = jnp.zeros(2)
    state = transform.init(params)
    adam = state[0]._replace(count=jnp.int32(6), nu=jnp.array([nu, 1.0]), mu=jnp.array([0.3, -0.2]))
    grads = jnp.array([g, 0.5])
    diagonal = filters.inverse_preconditioner(transform, filters.roles(transform, params), 0.1 * (1 - 0.9))
    mine = diagonal(grads, (adam, *state[1:]), params)
    updated = 0.99 * np.array([nu, 1.0]) + 0.01 * np.square([g, 0.5])
    expected = 1 / ((1 - 0.9**7) * (np.sqrt(updated / (1 - 0.99**7)) + 1e-8))
    np.testing.assert_allclose(mine, expected, rtol=1e-12)  # a dozen operations


def test_a_dead_coordinate_is_not_finite_and_leaves_the_others_alone():
    transform = optax.rmsprop(0.1, eps=0.0)
    params = jnp.zeros(2)
    diagonal = filters.inverse_preconditioner(transform, filters.roles(transform, params), 0.1)
    mine = np.asarray(diagonal(jnp.array([0.0, 1.0]), transform.init(params), params))
    assert not np.isfinite(mine[0])
    assert mine[1] == pytest.approx(1 / np.sqrt(0.1), rel=1e-12)  # nu+ = (1 - 0.9) g^2


def test_preconditioner_of_a_delayed_rule_waits_for_the_gradient():
    transform = NAMED["delayed_gradient"](0.1, delay=2)
    f = filters.held_filter(transform)
    params = {"a": jnp.zeros(2)}
    diagonal = filters.inverse_preconditioner(transform, filters.roles(transform, params), f.impulse, f.delay)
    mine = diagonal({"a": jnp.ones(2)}, transform.init(params), params)
    np.testing.assert_allclose(mine["a"], 1.0, rtol=1e-14)  # no preconditioner


def test_preconditioner_maps_over_states():
    transform = optax.adam(0.1)
    params = jnp.zeros(())
    state = transform.init(params)
    diagonal = filters.inverse_preconditioner(transform, filters.roles(transform, params), 0.1 * 0.1)
    grads = jnp.linspace(0.5, 2.0, 4)
    mapped = jax.vmap(lambda g: diagonal(g, state, params))(grads)
    np.testing.assert_allclose(mapped, [diagonal(g, state, params) for g in grads], rtol=1e-14)
    # the first step's bias corrections undo (1 - b2) and (1 - b1): the step is g/|g|, its held slope 1/|g| / (1 - b1)
    np.testing.assert_allclose(mapped, 1 / (grads + 1e-8) / 0.1, rtol=1e-7)


def test_a_nonlinear_rule_is_refused_with_one_line():
    with pytest.raises(filters.NoLinearEdge) as refusal:
        filters.held_filter(optax.sign_sgd(0.1))
    assert refusal.value.reason and "\n" not in refusal.value.reason and refusal.value.hint


def test_a_leaf_that_the_code_may_leave_alone_is_held_all_the_same():
    guarded = optax.apply_if_finite(optax.adam(0.1), 5)
    assert filters.held_filter(guarded).threshold == pytest.approx(380, rel=1e-12)  # as without the guard
