"""The averaged equations of self-stabilization: their invariant, their limits, their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab.claims import observed_order
from toylab.models import rollout
from toylab.models.amplitude import amplitude_dynamics

positive = st.floats(0.3, 3.0)


def path(kernel, amplitude, excess, steps):
    return rollout(kernel, kernel.init(amplitude, excess), steps)[1]


@jax.jit
def energies(beta, kappa, gain, amplitude, excess):
    """E along six steps at alpha = 1/2, each of 2, 4, 8 and 16 substeps, (4, 6); length .8, in units of the period
    over 2 pi, amplitude in units of the centre and excess in units that go with it."""
    eta, amplitude, excess = 0.8 / jnp.sqrt(kappa * gain), amplitude / jnp.sqrt(beta), excess * jnp.sqrt(gain / kappa)
    kernels = [amplitude_dynamics(eta, 0.5, beta, kappa, gain, substeps) for substeps in (2, 4, 8, 16)]
    return jnp.stack([path(kernel, amplitude, excess, 6).energy for kernel in kernels])


@settings(max_examples=10)
@given(positive, positive, positive, st.floats(0.4, 0.9), st.floats(-0.6, 0.6))
def test_the_conserved_quantity_is_conserved_to_fourth_order(beta, kappa, gain, amplitude, excess):
    energy = energies(beta, kappa, gain, amplitude, excess)
    errors = np.max(np.abs(energy - energy[:, :1]), axis=1)
    # regressed over a factor of eight; where the leading coefficient nearly vanishes the slope is larger
    assert observed_order(1 / np.array([2, 4, 8, 16]), errors) > 3.7 or errors.max() < 1e-10


@pytest.mark.parametrize(("kappa", "gain"), [(1.0, 1.0), (0.3, 2.5)])
def test_small_orbits_have_the_harmonic_period(kappa, gain):
    eta, alpha, beta = 0.1, 0.02, 1.7
    period = 2 * np.pi / (eta * np.sqrt(2 * alpha * kappa * gain))
    steps = 400
    kernel = amplitude_dynamics(eta * period / steps, alpha, beta, kappa, gain, 1)
    centre, small = np.sqrt(2 * alpha / beta), 1e-4
    found = path(kernel, centre * (1 + small), 0.0, steps + 1)
    # the period changes with the square of the amplitude, and the phase of 400 fourth-order steps by (2 pi/400)^4
    np.testing.assert_allclose(found.amplitude[-1] / centre - 1, small, rtol=1e-3)
    np.testing.assert_allclose(found.amplitude[steps // 2] / centre - 1, -small, rtol=1e-3)


def test_the_centre_rests_and_without_oscillation_the_sharpness_grows_steadily():
    kernel = amplitude_dynamics(0.5, 0.02, 2.0, gain=3.0)
    rest = path(kernel, -np.sqrt(0.02), 0.0, 50)
    np.testing.assert_allclose(rest.amplitude, np.sqrt(0.02), rtol=1e-14)  # rounding
    silent = path(kernel, 1e-200, -1.0, 5)
    np.testing.assert_allclose(silent.excess, -1 + 3 * 0.5 * 0.02 * np.arange(5), rtol=1e-14)  # rounding


def test_it_runs_backwards_to_where_it_came_from():
    forward, backward = (amplitude_dynamics(sign * 0.3, 0.5, 1.0, substeps=2) for sign in (1, -1))
    there, _ = rollout(forward, forward.init(0.3, 0.4), 100)
    back, _ = rollout(backward, there, 100)
    # a symmetric composition is its own inverse in reversed time, up to the rounding of 200 steps
    np.testing.assert_allclose(jnp.stack(back), [np.log(0.3), 0.4], rtol=1e-11)


def test_members_do_not_disturb_each_other():
    def last(eta, alpha):
        return path(amplitude_dynamics(eta, alpha), 0.1, 0.0, 20).amplitude[-1]

    etas, alphas = jnp.array([0.1, 0.2]), jnp.array([0.3, 0.4])
    together = jax.vmap(last)(etas, alphas)
    np.testing.assert_allclose(
        together, [last(*pair) for pair in zip(etas, alphas, strict=True)], rtol=1e-13
    )  # rounding of 20 steps


def test_no_substeps_are_refused():
    with pytest.raises(ValueError, match="substeps=0"):
        amplitude_dynamics(0.1, substeps=0)
