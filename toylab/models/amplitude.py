"""Self-stabilization with the oscillation averaged out: an amplitude and the excess of the sharpness."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.models.kernel import Kernel


class Amplitude(NamedTuple):
    """The logarithm of the amplitude a of x_t = (-1)^t a_t along u, and y = grad S_perp . (w - w_dagger)."""

    log_amplitude: Array
    excess: Array


class Orbit(NamedTuple):
    """The point that a step leaves: the amplitude a, the excess y of the sharpness, and the conserved quantity E."""

    amplitude: Array
    excess: Array
    energy: Array


def amplitude_dynamics(
    learning_rate: ArrayLike,
    sharpening_rate: ArrayLike = 1.0,
    grad_sharpness_sq: ArrayLike = 1.0,
    kappa: ArrayLike = 1.0,
    gain: ArrayLike = 1.0,
    substeps: int = 1,
) -> Kernel:
    """Kernel of the averaged equations of self-stabilization; time unit: one step of the optimizer.

        a' = kappa eta y a,    y' = Q(1) eta (alpha - beta a^2/2),

    a the amplitude of the oscillation along the top eigenvector, y the sharpness's excess over the edge k*/eta;
    alpha = `sharpening_rate`, beta = `grad_sharpness_sq`, `kappa` = -1/k'(-1) for k(z) = (1 - z)/Q(z) and `gain` =
    Q(1) of the rule (both 1 for gradient descent).  They conserve

        E = kappa y^2/2 + Q(1) (beta a^2/4 - alpha log a).

    Assumes: one critical eigenvalue crossing at z = -1, eta sqrt(alpha) small, everything else constant.  In (log a,
    y) the equations are Hamiltonian with H = eta E, and separable: a step is `substeps` compositions of fourth order
    by Yoshida (Phys. Lett. A 150, 1990), symplectic, so that E does not drift; its error in E is O(substeps^-4).

    `init(amplitude, excess)` takes a > 0, or x itself (its absolute value); `step` gives the `Orbit` that it leaves.
    Source: Damian, Nichani & Lee, arXiv:2209.15594, for gradient descent.  Raises ValueError for substeps < 1.
    """
    if substeps < 1:
        raise ValueError(f"got substeps={substeps}, needs a whole number of at least 1")
    eta, alpha, beta = (jnp.asarray(one, dtype=float) for one in (learning_rate, sharpening_rate, grad_sharpness_sq))
    envelope, drift = eta * kappa, eta * gain
    outer = 1 / (2 - 2 ** (1 / 3))
    weights = (outer, 1 - 2 * outer, outer)

    def init(amplitude: ArrayLike, excess: ArrayLike) -> Amplitude:
        return Amplitude(jnp.log(jnp.abs(jnp.asarray(amplitude, dtype=float))), jnp.asarray(excess, dtype=float))

    def orbit(state: Amplitude) -> Orbit:
        square = jnp.exp(2 * state.log_amplitude)
        energy = kappa * state.excess**2 / 2 + gain * (beta * square / 4 - alpha * state.log_amplitude)
        return Orbit(jnp.exp(state.log_amplitude), state.excess, energy)

    def substep(_: Array, state: Amplitude) -> Amplitude:
        log_amplitude, excess = state
        for weight in weights:
            half = weight / substeps / 2
            log_amplitude = log_amplitude + half * envelope * excess
            push = alpha - beta * jnp.exp(2 * log_amplitude) / 2
            excess = excess + 2 * half * drift * push
            log_amplitude = log_amplitude + half * envelope * excess
        return Amplitude(log_amplitude, excess)

    def step(state: Amplitude) -> tuple[Amplitude, Orbit]:
        return lax.fori_loop(0, substeps, substep, state), orbit(state)

    return Kernel(init, step)
