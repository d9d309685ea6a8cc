"""Derivatives beside a curve of minima against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp

import theory
from theory.self_stabilization.minima_curves import curve_of_minima
from toylab import problems


@pytest.mark.slow
@pytest.mark.parametrize("name", ["product_regression", "minimalist", "hyperbolic_product"])
def test_jets_are_derivatives_of_the_loss(name):
    problem = problems.NAMED[name]()
    p = sp.Symbol("p", positive=True)
    found = curve_of_minima(problem.value, (p, 1 / p), (p,))

    @jax.jit
    def by_autodiff(s):
        """At (e^s, e^-s): sharpness, its two derivatives in arc length, and the loss's along u."""

        def top(s):  # the other eigenvalue is zero
            return jnp.trace(jax.hessian(problem.value)(jnp.stack([jnp.exp(s), jnp.exp(-s)])))

        length, stretch = jnp.sqrt(2 * jnp.cosh(2 * s)), 2 * jnp.sinh(2 * s)  # r = |d(e^s, e^-s)/ds|, r dr/ds
        first, second = jax.grad(top)(s), jax.grad(jax.grad(top))(s)
        bend = second / length**2 - first * stretch / length**4
        u = jnp.stack([jnp.exp(-s), jnp.exp(s)]) / length

        def third(a):
            line = lambda b: problem.value(jnp.stack([jnp.exp(s), jnp.exp(-s)]) + b * u)  # noqa: E731
            return jax.grad(jax.grad(jax.grad(line)))(a)

        return top(s), (first / length) ** 2, bend, third(0.0), jax.grad(third)(0.0)

    for where in (1.2, 3.0):
        sharpness, slope_sq, bend, third, fourth = by_autodiff(jnp.log(where))
        values = {n: float(found.numeric(n)(p=where)) for n in found.expressions}
        np.testing.assert_allclose(values["sharpness"], sharpness, rtol=1e-12)  # roundings, here and below
        np.testing.assert_allclose(values["grad_sharpness_sq"], slope_sq, rtol=1e-10)
        np.testing.assert_allclose(values["sharpness_curvature"], bend, rtol=1e-10)
        np.testing.assert_allclose(abs(values["cubic"]), abs(third), rtol=1e-10)  # the sign of u is free
        np.testing.assert_allclose(values["quartic"], fourth, rtol=1e-10)


def test_points_off_the_curve_are_refused():
    value = problems.minimalist().value
    with pytest.raises(theory.Refusal, match="not on a curve of minima"):
        curve_of_minima(value, (sp.Integer(2), sp.Integer(1)))
    with pytest.raises(theory.Refusal, match="not constant along a curve"):
        curve_of_minima(lambda w: w[0] ** 2 / 2 + w[1] ** 4, (sp.Integer(0), sp.Integer(0)))
