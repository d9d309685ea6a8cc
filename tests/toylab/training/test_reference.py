"""The optimizers follow the trajectories of an independent implementation for as long as rounding lets them."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from tests.toylab.training.reference import NAMES, arrays, begun, problem, rule
from toylab import Problem, observers, train
from toylab.curvature import dense_hessian
from toylab.filters import held_filter, inverse_preconditioner, roles
from toylab.models.optimizer import Discrete, discrete_steps
from toylab.optimizers import scalar_rmsprop

# Before the first oscillation that is seen in the loss: from there on differences of rounding grow to order one.
PREDICTABLE = {"gd": 200, "scalar_rmsprop": 60, "rmsprop": 60}
WINDOWS = {"gd": [(250, 420), (430, 600)], "scalar_rmsprop": [(320, 500)], "rmsprop": [(200, 292)]}
MEMBERS = 12  # runs whose weights are rounded as in float32, the first excepted

hessian = jax.jit(dense_hessian)


@lru_cache
def run(name):
    """What `discrete_steps` visits in the predictable steps: weights and states before each, and losses."""
    kernel, start = discrete_steps(problem(name), rule(name)), begun(name)

    def body(now, _):
        after, visited = kernel.step(now)
        return after, (now.params, now.state, visited.loss)

    return jax.lax.scan(body, Discrete(*start), None, PREDICTABLE[name])[1]


def preconditioner(name, state):
    """P (one number, or one a weight) from the state after the step, which is the P of that step."""
    if name == "gd":
        return 1.0
    of, eps = (state, 0.0) if name == "scalar_rmsprop" else (state[0], float(arrays(name)["eps"]))
    corrected = ravel_pytree(of.nu)[0] / (1 - float(arrays(name)["beta2"]) ** of.count)
    return np.asarray(jnp.sqrt(corrected) + eps)


@pytest.mark.parametrize("name", NAMES)
def test_losses_agree_until_rounding_decides(name):
    steps = PREDICTABLE[name]
    # float32 there: 1e-7 in each step, and the flow below the edge contracts
    np.testing.assert_allclose(run(name)[2], arrays(name)["loss"][:steps], rtol=1e-5)


@pytest.mark.parametrize("name", ["gd", *(pytest.param(one, marks=pytest.mark.slow) for one in NAMES if one != "gd")])
def test_preconditioned_eigenvalues_agree(name):
    """lambda(M^-1 H) with M = P/lr: 2 at the edge."""
    visited, states, _ = run(name)
    for t in (0, 25, 58):
        params = jax.tree.map(lambda leaf, t=t: leaf[t], visited)
        after = jax.tree.map(lambda leaf, t=t: leaf[t + 1], states)
        root = np.broadcast_to((preconditioner(name, after) / arrays(name)["lr"]) ** -0.5, (1124,))
        values = np.linalg.eigvalsh(np.asarray(hessian(problem(name), params)) * root[:, None] * root[None])[::-1]
        expected = arrays(name)["edge"][t]
        tracked = np.isfinite(expected)
        assert tracked[0]
        # a product with a float32 Hessian is right to 1e-6 or so, and its eigenvalues with it
        np.testing.assert_allclose(values[: len(expected)][tracked], expected[tracked], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scalar_rmsprop", "rmsprop"])
def test_the_preconditioner_is_read_off_the_step(name):
    """The same P from the rule's own code, and the edge at 2."""
    transform, at = rule(name), problem(name)
    edge = held_filter(transform)
    np.testing.assert_allclose(edge.threshold * arrays(name)["lr"], 2, rtol=1e-6)  # lr is stored in float32
    inverse = jax.jit(inverse_preconditioner(transform, roles(transform, at.params), edge.impulse, edge.delay))
    visited, states, _ = run(name)
    for t in (0, 25, 58):
        params, state = jax.tree.map(lambda leaf, t=t: leaf[t], (visited, states))
        found = ravel_pytree(inverse(at.gradient(params), state, params))[0]
        after = jax.tree.map(lambda leaf, t=t: leaf[t + 1], states)
        # beta2 is stored in float32, and divided by in 1 - beta2^t
        np.testing.assert_allclose(found * preconditioner(name, after), np.ones(1124), rtol=1e-5)


def test_the_second_moment_of_scalar_rmsprop():
    _, states, _ = run("scalar_rmsprop")
    recorded = arrays("scalar_rmsprop")["nu"][: PREDICTABLE["scalar_rmsprop"] - 1]  # after update t: before t + 1
    np.testing.assert_allclose(states.nu[1:], recorded, rtol=1e-5)  # as the losses


def rounded_runs(name):
    """Losses (MEMBERS, T) of all steps: the first run is exact, the others are rounded at random."""
    kernel, start = discrete_steps(problem(name), rule(name)), begun(name)
    _, unravel = ravel_pytree(start.params)

    def one(key, size):
        def body(now, key):
            after, visited = kernel.step(now)
            flat = ravel_pytree(after.params)[0]
            rounded = flat * (1 + size * jax.random.normal(key, flat.shape))
            return after._replace(params=unravel(rounded)), visited.loss

        return jax.lax.scan(body, Discrete(*start), jax.random.split(key, len(arrays(name)["loss"])))[1]

    sizes = 2.0**-24 * (jnp.arange(MEMBERS) > 0)
    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), MEMBERS), sizes))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_averages_agree_where_single_steps_cannot(name):
    """At the edge: the mean loss over a window lies where runs that are rounded as in float32 have theirs.

    An exact run is no such member: below the edge its oscillation shrinks to nothing, and its first spike comes later.
    """
    recorded = arrays(name)["loss"]
    losses = rounded_runs(name)
    assert np.all(np.isfinite(losses))
    for first, last in WINDOWS[name]:
        part, other = losses[:, first:last], recorded[first:last]
        assert np.abs(part[0] / other - 1).max() > 0.05  # or a comparison step by step were the sharper test
        means = part[1:].mean(axis=1)
        # one more draw of what the members are draws of: four of their standard deviations
        assert abs(other.mean() - means.mean()) <= 4 * means.std(ddof=1)
        assert means.std(ddof=1) < 0.02 * means.mean()  # or the line above said little


def test_scalar_rmsprop_on_one_weight_is_rmsprop():
    transforms = [scalar_rmsprop(0.1, 0.9, 1e-3, 0.5, corrected) for corrected in (False, True)]
    others = [
        optax.rmsprop(0.1, decay=0.9, eps=1e-3, initial_scale=0.5, bias_correction=corrected)
        for corrected in (False, True)
    ]
    for mine, other in zip(transforms, others, strict=True):
        states = [rule.init(jnp.zeros(())) for rule in (mine, other)]
        for gradient in jnp.asarray([1.0, -3.0, 0.0, 0.5]):
            (one, first), (two, second) = mine.update(gradient, states[0]), other.update(gradient, states[1])
            states = [first, second]
            np.testing.assert_allclose(one, two, rtol=1e-14)  # the same few operations in another order


@given(angle=st.floats(0, 6.3), scale=st.floats(1e-3, 1e3))
def test_scalar_rmsprop_turns_with_the_weights_and_forgets_the_scale_of_the_loss(angle, scale):
    transform = scalar_rmsprop(0.1, 0.9, bias_correction=True)
    turn = scale * jnp.asarray([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    straight = turned = transform.init(jnp.zeros(2))
    for gradient in jnp.asarray([[1.0, 2.0], [-0.5, 0.1], [3.0, 0.0]]):
        one, straight = transform.update(gradient, straight)
        two, turned = transform.update(turn @ gradient, turned)
        np.testing.assert_allclose(two, turn @ one / scale, atol=1e-14)  # steps of 0.1, a dozen roundings
    np.testing.assert_allclose(turned.nu, scale**2 * straight.nu, rtol=1e-13)


@pytest.mark.parametrize("corrected", [False, True])
def test_scalar_rmsprop_waits_for_a_first_gradient(corrected):
    """0/0 at the first step would be NaN for ever; it keeps the dtype of the weights."""
    transform = scalar_rmsprop(0.1, bias_correction=corrected)
    weights = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones((), jnp.float32)}
    still, state = transform.update(jax.tree.map(jnp.zeros_like, weights), transform.init(weights))
    moved, state = transform.update(weights, state)
    for leaf in jax.tree.leaves(still):
        np.testing.assert_array_equal(leaf, 0)
    for leaf in jax.tree.leaves(moved):
        assert leaf.dtype == jnp.float32 and jnp.all(leaf < 0)


def test_the_edge_of_scalar_rmsprop_is_that_of_rmsprop():
    found = held_filter(scalar_rmsprop(0.04, bias_correction=True))
    np.testing.assert_allclose(found.threshold, 2 / 0.04, rtol=1e-12)  # a root of a polynomial of degree one
    assert found.crossing == "flip" and found.delay == 0


def test_the_edge_ratio_of_scalar_rmsprop_is_a_sharpness_over_one_number():
    """Its P is one number for all weights: edge ratio = S eta/(2 sqrt(nu+)), where S = 4 and nu+ is a sum."""
    rate, decay, steps = 0.04, 0.99, 12
    quadratic = Problem(lambda w: (w["a"][0] ** 2 + 4 * w["b"] ** 2) / 2, {"a": jnp.ones(1), "b": jnp.ones(())})
    seen = train(quadratic, scalar_rmsprop(rate, decay), steps, observe=observers(edge_ratio=True, grad_norm=True))
    weights = (1 - decay) * decay ** np.arange(steps)
    moments = [weights[: t + 1] @ seen.grad_norm[t::-1] ** 2 for t in range(steps)]
    # two weights: the whole space is searched, and 1e-6 is the root of what its rounding is
    np.testing.assert_allclose(seen.edge_ratio, 4 * rate / 2 / np.sqrt(moments), rtol=1e-6)
