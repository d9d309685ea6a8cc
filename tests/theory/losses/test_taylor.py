"""Local expansions against automatic differentiation and finite differences of the real loss; what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.errors import CannotTrace
from theory.losses.mean_gradient import averaged_gradient
from theory.losses.plane_jet import Jet, local_jet, symbolic_jet
from theory.losses.taylor import NoExpansion, expand
from theory.losses.taylor import s as s_
from theory.losses.taylor import x as x_

N = 3
seeds = st.integers(0, 2**32 - 1)


def smooth(weights, w):
    """A loss with derivatives of every order and no symmetry: a wave, an exponential, a product, a bowl."""
    wave, ridge, bowl = weights
    return jnp.sin(wave @ w + 0.3) + jnp.exp(ridge @ w) + w[0] * w[1] ** 2 * w[2] / 3 + jnp.sum(bowl * w**2)


def drawn(seed):
    """Weights of `smooth`, a point and an orthonormal frame (its rows)."""
    random = np.random.default_rng(seed)
    weights = (1.5 * random.normal(size=N), 0.5 * random.normal(size=N), random.uniform(0.5, 1.5, N))
    frame = np.linalg.qr(random.normal(size=(N, N)))[0]
    return weights, random.normal(size=N), frame


@jax.jit
def tensors(weights, point, frame):
    """Derivatives of order 0 to 4 in the frame's coordinates, by nested forward mode."""

    def local(c):
        return smooth(weights, point + c @ frame)

    out, rows = [local], jnp.zeros(frame.shape[0])
    for _ in range(4):
        out.append(jax.jacfwd(out[-1]))
    return [f(rows) for f in out]


gradient = jax.jit(jax.grad(smooth, 1))
hessian = jax.jit(jax.hessian(smooth, 1))


# Two ways of forming the same products of a few numbers of order one, third powers of normal deviates among them.
SAME = {"rtol": 1e-10, "atol": 1e-10}


@settings(max_examples=3)
@given(seeds)
def test_every_derivative_is_that_of_automatic_differentiation(seed):
    weights, point, frame = drawn(seed)
    found = expand(lambda w: smooth(weights, w), point.tolist(), frame[:2].tolist(), 4)
    truth = tensors(weights, point, frame[:2])
    for i, j in itertools.product(range(5), repeat=2):
        if i + j <= 4:
            at = (0,) * i + (1,) * j
            np.testing.assert_allclose(float(found.derivative(i, j)), truth[i + j][at], **SAME, err_msg=f"{i}, {j}")


@settings(max_examples=3)
@given(seeds, st.integers(1, 4))
def test_the_remainder_has_the_order_that_is_stated(seed, order):
    weights, point, frame = drawn(seed)
    found = expand(lambda w: smooth(weights, w), point.tolist(), frame[:2].tolist(), order)
    along = np.array([0.6, 0.8])
    sizes = np.array([0.02, 0.01])

    def errors(size):
        c = dict(zip((x_, s_), size * along, strict=True))
        truth = np.asarray(gradient(weights, point + size * along @ frame[:2]))
        off = [float(g.subs(c)) - truth @ d for g, d in zip(found.gradient(), frame[:2], strict=True)]
        return [float(found.polynomial.subs(c) - smooth(weights, point + size * along @ frame[:2])), *off]

    big, small = np.abs([errors(size) for size in sizes])
    powers = np.array([order + 1, order, order])
    # the leading term c size^power, c up to some hundred, may vanish by accident: then what follows, of one power more,
    # may fall by less; 1e-12 is the rounding of a difference of numbers of order ten
    assert np.all(small <= big * 2.0**-powers * 1.3 + 100 * sizes[1] ** (powers + 1) + 1e-12)


def test_exact_numbers_stay_exact():
    found = expand(lambda w: jnp.exp(w[0]) * w[1] ** 3, [0, sp.Rational(1, 3)], [[1, 0], [0, 1]], 4)
    assert found.derivative(1, 2) == 2 and found.derivative(4, 0) == sp.Rational(1, 27)
    assert not found.polynomial.atoms(sp.Float)
    a = sp.Symbol("a", positive=True)
    symbol = expand(lambda w: w[0] ** 2 * w[1], [a, 0], [[1, 0], [0, 1]], 3)
    assert sp.expand(symbol.polynomial - (a + x_) ** 2 * s_) == 0


def test_a_polynomial_is_its_own_expansion():
    """In a rotated frame with exact entries, and in three coordinates of which one is left out."""
    c = sp.symbols("p q", real=True)
    third = sp.Rational(1, 5)
    found = expand(lambda w: w[0] ** 3 - 2 * w[0] * w[1] + 7, [1, 2], [[3 * third, 4 * third], [-4 * third, 3 * third]],
                   3, c)  # fmt: skip
    first, second = 1 + (3 * c[0] - 4 * c[1]) * third, 2 + (4 * c[0] + 3 * c[1]) * third
    assert sp.expand(found.polynomial - (first**3 - 2 * first * second + 7)) == 0
    low = expand(lambda w: w[0] ** 3, [1], [[1]], 2, c)
    assert low.coordinates == (c[0],) and sp.expand(low.polynomial - (1 + 3 * c[0] + 3 * c[0] ** 2)) == 0


@pytest.mark.parametrize(
    ("loss", "degree"),
    [
        (lambda w: jnp.abs(w[0]), 1),
        (lambda w: jnp.sqrt(w[0] ** 2 + w[1] ** 2), 1),
        (lambda w: jnp.maximum(w[0], 0.0) ** 2, 2),
        (lambda w: jax.nn.relu(w[0] - w[1]), 1),
        (lambda w: jnp.log(w[0]), 0),
    ],
    ids=["abs", "norm", "relu squared", "relu", "log"],
)
def test_a_point_where_the_loss_is_not_smooth_is_refused(loss, degree):
    with pytest.raises(NoExpansion):
        expand(loss, [0, 0], [[1, 0], [0, 1]], max(degree, 1))


def test_a_kink_within_the_loss_is_refused_by_its_jet():
    for kink in (jnp.abs, lambda t: jax.nn.relu(t) ** 2):
        with pytest.raises(NoExpansion, match="does not exist"):
            local_jet(lambda w, kink=kink: kink(w[0]) + 2 * w[0] ** 2 + w[1] ** 2 + w[0] ** 2 * w[1], [0.0, 0.0])


def test_a_kink_is_no_obstacle_below_its_order():
    """relu^2 has one continuous derivative: expanded to degree 1 it is flat.  logsumexp only looks as if it had one."""
    assert expand(lambda w: jax.nn.relu(w[0]) ** 2, [0, 0], [[1, 0], [0, 1]], 1).polynomial == 0
    found = expand(jax.nn.logsumexp, [0, 0], [[1, 0], [0, 1]], 2)
    assert sp.simplify(found.polynomial - sp.log(2) - (x_ + s_) / 2 - (x_ - s_) ** 2 / 8) == 0


def test_the_same_losses_away_from_there_are_not():
    for loss, slope in ((lambda w: jnp.abs(w[0]), -1), (lambda w: jax.nn.relu(w[0] - w[1]), 0)):
        assert expand(loss, [-1, 0], [[1, 0], [0, 1]], 3).derivative(1, 0) == slope


@pytest.mark.parametrize(
    ("point", "directions", "order"),
    [([0, 0], [[1, 0, 0]], 2), ([0, 0], [[1, 0], [0, 1], [1, 1]], 2), ([0, 0], [[1, 0]], 0), ([0], [[1, 0]], 1)],
    ids=["long direction", "more directions than names", "order 0", "short point"],
)
def test_shapes_that_do_not_fit_are_refused(point, directions, order):
    with pytest.raises(NoExpansion, match="got a point of"):
        expand(lambda w: jnp.sum(w**2), point, directions, order)


def test_a_derivative_beyond_the_order_is_refused():
    found = expand(lambda w: jnp.sum(w**2), [0, 0], [[1, 0], [0, 1]], 2)
    for counts in ((2, 1), (1,), (1, 1, 0)):
        with pytest.raises(NoExpansion):
            found.derivative(*counts)


def test_a_loss_without_translation_is_refused():
    with pytest.raises(CannotTrace):
        expand(lambda w: jnp.sum(jnp.fft.fft(w).real), [0.0, 0.0], [[1, 0]], 2)


# ---------------------------------------------------------------------------------------------------------------
# Jets


def top(weights, point):
    return np.linalg.eigvalsh(np.asarray(hessian(weights, point)))[-1]


def sharpness_slope(weights, point):
    """grad S by central differences of lambda_max itself, extrapolated once: the error is O(step^4)."""
    slopes = []
    for step in (2e-3, 1e-3):
        shifts = step * np.eye(N)
        slopes.append([(top(weights, point + d) - top(weights, point - d)) / (2 * step) for d in shifts])
    return (4 * np.array(slopes[1]) - np.array(slopes[0])) / 3


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


# ---------------------------------------------------------------------------------------------------------------
# What the oscillation adds


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


def test_the_factor_of_the_expansion_is_a_factorial():
    """Against Taylor's series of exp, so that no shared convention can hide a missing factorial."""
    found = expand(lambda w: jnp.exp(2 * w[0] + 3 * w[1]), [0, 0], [[1, 0], [0, 1]], 4)
    for i, j in itertools.product(range(5), repeat=2):
        if i + j <= 4:
            coefficient = sp.Poly(found.polynomial, x_, s_).coeff_monomial(x_**i * s_**j)
            assert coefficient == sp.Rational(2**i * 3**j, math.factorial(i) * math.factorial(j))
