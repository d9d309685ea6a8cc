"""Entering and leaving the edge: the central flow against another integrator that stops at both events."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toylab import Problem
from toylab.models import rollout
from toylab.models.central_flow import central_flow_steps
from toylab.rules.edge import edge_data

ETA, PUSH, STEPS = 0.3, 0.02, 420
EDGE = 2 / ETA
RULE = optax.sgd(ETA)


def sharpness(y):
    """It rises along the push and falls again, beyond pi/2."""
    return 6 + y[0] + 0.9 * jnp.sin(y[1])


def loss(w):
    return sharpness(w[1:]) * w[0] ** 2 / 2 - PUSH * w[2]


def legs():
    """Times of both events and the last point: gradient flow, along the edge, gradient flow."""
    fall = jnp.array([0.0, PUSH])  # -grad L at x = 0
    grad = jax.grad(sharpness)

    def along(t, y, args):
        slope = grad(y)
        return ETA * (fall - slope * (fall @ slope) / (slope @ slope))  # V = 2 alpha/beta, half of it times grad S

    def free(t, y, args):
        return ETA * fall

    def leg(field, time, y, stop):
        event = None if stop is None else diffrax.Event(stop)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Dopri8(), time, STEPS, 0.1, y, event=event, max_steps=20_000,
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12, dtmax=0.05),
        )  # fmt: skip

    first = leg(free, 0.0, jnp.zeros(2), lambda t, y, args, **_: sharpness(y) - EDGE)
    second = leg(along, first.ts[-1], first.ys[-1], lambda t, y, args, **_: fall @ grad(y))
    third = leg(free, second.ts[-1], second.ys[-1], None)
    return [np.asarray(x) for x in (first.ts[-1], second.ts[-1], third.ys[-1])]


@pytest.mark.slow  # the other integrator compiles for long
def test_it_enters_and_leaves_the_edge_with_the_events_of_another_integrator():
    enters, leaves, end = legs()
    assert 100 < enters < leaves - 50 < STEPS - 100
    problem = Problem(loss, jnp.zeros(3))
    kernel = central_flow_steps(problem, RULE, edge_data(RULE, problem.params), count=2)
    said = jax.jit(lambda begun: rollout(kernel, begun, STEPS + 1)[1])(kernel.init(problem.params))
    assert np.all(said.converged)
    # it is oscillating between the events, up to the step in which they are
    swinging = np.flatnonzero(np.asarray(said.variances)[:, 0] > 1e-6)
    assert abs(swinging[0] - enters) < 1.5 and abs(swinging[-1] - leaves) < 1.5
    np.testing.assert_array_equal(np.asarray(said.params)[:, 0], 0)
    # events are found to .05 steps, and the flow is of first order in substeps of half a step: half a substep times
    # what the velocity, .006, changes by in all
    np.testing.assert_allclose(np.asarray(said.params)[-1, 1:], end, atol=1.5e-3)
    assert np.linalg.norm(end) > 2
