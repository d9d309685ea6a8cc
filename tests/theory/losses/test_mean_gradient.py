"""The mean gradient of an oscillation against automatic differentiation."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

from tests.theory.losses.smooth_losses import drawn, gradient, hessian, seeds, sharpness_slope
from theory.losses.mean_gradient import averaged_gradient
from theory.losses.taylor import NoExpansion
from theory.losses.taylor import x as x_


@settings(max_examples=10)
@given(seeds)
def test_the_mean_gradient_of_an_oscillation_gains_the_slope_of_the_sharpness(seed):
    weights, point, _ = drawn(seed)
    values, vectors = np.linalg.eigh(np.asarray(hessian(weights, point)))
    if values[-1] - values[-2] < 0.5:
        return
    u, slope = vectors[:, -1], sharpness_slope(weights, point)

    def left(size):
        both = sum(np.asarray(gradient(weights, point + sign * size * u)) for sign in (1, -1)) / 2
        return np.linalg.norm(both - np.asarray(gradient(weights, point)) - size**2 / 2 * slope)

    # the remainder is size^4/24 d^5L[u^4, .]: (1/2)^4 of it at half the size; 1e-9: the error of grad S
    assert left(0.05) <= left(0.1) / 16 * 1.1 + 1e-9


@pytest.mark.parametrize(("dimension", "order"), [(2, 5), (3, 3)])
def test_its_derivation_equates_the_second_order_with_half_the_slope(dimension, order):
    theorem = averaged_gradient(dimension, order)
    for j in range(dimension):
        mean = sp.Poly(theorem.expressions[f"mean_gradient_{j}"], x_)
        slope = theorem.expressions[f"sharpness_slope_{j}"]
        assert slope != 0 and sp.expand(2 * mean.coeff_monomial(x_**2) - slope) == 0
        assert mean.coeff_monomial(x_) == 0 and mean.coeff_monomial(x_**3) == 0
        if j > 0 and order >= 5:
            assert mean.coeff_monomial(x_**4) != 0  # the statement is tight


def test_too_small_a_jet_is_refused():
    for arguments in ((1, 5), (2, 2)):
        with pytest.raises(NoExpansion):
            averaged_gradient(*arguments)
