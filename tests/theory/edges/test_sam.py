"""SAM's edge: against a dense Jacobian of the step, the formula of the literature, and the cycle by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

from theory.edges.sam import perturbed_gradient, sam_cycle, sam_edge


def test_the_formula_of_the_literature() -> None:
    eta, rho, norm, gain = sp.symbols("eta rho G k_star", positive=True)
    known = norm / (2 * rho) * (sp.sqrt(1 + 8 * rho / (eta * norm)) - 1)
    assert sp.simplify(sam_edge().expressions["threshold"].subs(gain, 2) - known) == 0
    assert not sam_edge(False).expressions["threshold"].has(norm)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_multiplier_at_the_edge_is_minus_one(normalised: bool) -> None:
    eta, rho, norm = 0.3, 0.05, 2.0
    threshold = sam_edge(normalised).numeric("threshold")(learning_rate=eta, rho=rho, gradient_norm=norm, edge_gain=2.0)

    def step(x: jax.Array) -> jax.Array:
        w = jnp.stack([x, jnp.zeros(())])
        gradient = jax.grad(lambda q: threshold * q[0] ** 2 / 2 + norm * q[1])
        g = gradient(w)
        scale = jnp.sqrt(g @ g) if normalised else 1.0
        return (w - eta * gradient(w + rho * g / scale))[0]

    np.testing.assert_allclose(jax.grad(step)(jnp.asarray(0.0)), -1, rtol=1e-13)  # a few roundings


def test_the_cycle_returns_after_two_steps_and_attracts() -> None:
    eta, rho, curvature = 0.3, 0.05, 4.0
    numbers = {"learning_rate": eta, "rho": rho, "curvature": curvature}
    size = float(sam_cycle().numeric("amplitude")(**numbers))
    x = size
    for sign in (-1, 1):
        x = x - eta * curvature * (x + rho * np.sign(x))
        np.testing.assert_allclose(x, sign * size, rtol=1e-13)  # a few roundings
    near = [s - eta * curvature * (s + rho) for s in (size, size * 1.01)]
    slope = (near[1] - near[0]) / (0.01 * size)
    np.testing.assert_allclose(slope, float(sam_cycle().numeric("multiplier")(**numbers)), rtol=1e-10)  # a difference
    assert sam_cycle().expressions["identity"] == 2


def test_far_from_rest_the_perturbed_gradient_is_that_of_a_kink() -> None:
    x, rho, curvature, norm = sp.symbols("x rho lambda_ G", positive=True)
    real = sp.Symbol("x", real=True)
    perturbed = perturbed_gradient(True).subs(real, x)
    assert sp.simplify(perturbed.subs(norm, 0) - curvature * (x + rho)) == 0
