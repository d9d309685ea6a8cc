"""The jet in the plane of u and grad S_perp against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

from tests.theory.losses.smooth_losses import (
    SAME,
    drawn,
    gradient,
    hessian,
    seeds,
    sharpness_slope,
    smooth,
    tensors,
)
from theory.losses.plane_jet import Jet, local_jet, symbolic_jet
from theory.losses.taylor import NoExpansion
from theory.losses.taylor import s as s_
from theory.losses.taylor import x as x_


def test_a_kink_within_the_loss_is_refused_by_its_jet():
    for kink in (jnp.abs, lambda t: jax.nn.relu(t) ** 2):
        with pytest.raises(NoExpansion, match="does not exist"):
            local_jet(lambda w, kink=kink: kink(w[0]) + 2 * w[0] ** 2 + w[1] ** 2 + w[0] ** 2 * w[1], [0.0, 0.0])


@settings(max_examples=3)
@given(seeds)
def test_the_jet_of_a_loss_is_that_of_its_sharpness(seed):
    weights, point, _ = drawn(seed)
    values, vectors = np.linalg.eigh(np.asarray(hessian(weights, point)))
    if values[-1] - values[-2] < 0.5 or values[-1] < 0.1:
        return  # eigenvalues bend like 1/gap: central differences would need smaller steps
    jet, u = local_jet(lambda w: smooth(weights, w), point.tolist()), vectors[:, -1]
    slope, g = sharpness_slope(weights, point), np.asarray(gradient(weights, point))
    across = slope - (slope @ u) * u
    n = across / np.linalg.norm(across)
    # fifth derivatives of lambda_max, some thousands at a gap of 0.5, times step^4 = 1e-12; rounding 1e-16/step
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(float(jet.sharpness), values[-1], **SAME)
    np.testing.assert_allclose(float(jet.grad_sharpness_sq), across @ across, **close)
    np.testing.assert_allclose(float(jet.sharpening_rate), -g @ across, **close)
    # u is known up to its sign: what is odd in x comes with it
    np.testing.assert_allclose(abs(float(jet.third)), abs(slope @ u), **close)
    np.testing.assert_allclose(float(jet.third * jet.tilt), (slope @ u) * (-g @ u), **close)
    truth = tensors(weights, point, np.stack([u, n]))
    np.testing.assert_allclose(float(jet.transverse), truth[2][1, 1], **close)
    np.testing.assert_allclose(float(jet.bend * jet.third), truth[3][0, 1, 1] * truth[3][0, 0, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(float(jet.quartic_mixed), truth[4][0, 0, 1, 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(float(jet.fourth), truth[4][0, 0, 0, 0], **SAME)
    np.testing.assert_allclose(truth[2][0, 1], 0, atol=1e-9)  # u is an eigenvector


@pytest.mark.parametrize(
    ("loss", "point", "why"),
    [
        (lambda w: jnp.sum(w**2) + w[0] ** 3, [0.0, 0.0], "not simple"),
        (lambda w: w[0] ** 2, [1.0], "not simple"),
        (lambda w: 2 * w[0] ** 2 + w[1] ** 2 + w[0] ** 3, [0.0, 0.0], "orthogonal to u"),
    ],
    ids=["double eigenvalue", "one dimension", "grad S along u"],
)
def test_a_point_without_a_frame_is_refused(loss, point, why):
    with pytest.raises(NoExpansion, match=why):
        local_jet(loss, point)


def test_the_expansion_of_a_jet_returns_the_jet():
    names = symbolic_jet()
    d = names.expansion(4).derivative
    root = sp.sqrt(names.grad_sharpness_sq)
    again = Jet(d(2, 0), -root * d(0, 1), d(2, 1) ** 2, d(3, 0), d(4, 0), -d(1, 0), d(0, 2), d(1, 2), d(2, 2))
    assert again == names
    assert d(1, 1) == 0 and d(0, 3) == 0 and d(1, 3) == 0 and d(3, 1) == 0


def test_the_floor_of_a_bent_valley_is_level():
    """With alpha = f = h = 0: the loss on the curve where dL/dx = 0 vanishes to fourth order in s."""
    loss = Jet(2, 0, 3, bend=sp.Rational(7, 5)).expansion(4).polynomial
    floor = -sp.Rational(7, 5) * s_**2 / 4
    assert sp.expand(sp.diff(loss, x_).xreplace({x_: floor})).coeff(s_, 2) == 0
    left = sp.Poly(sp.expand(loss.xreplace({x_: floor})), s_)
    assert all(left.coeff_monomial(s_**n) == 0 for n in range(5))
