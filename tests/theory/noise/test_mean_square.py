"""Mini-batch noise: the derived edges against dense linear algebra, limits and enumeration; the thermostat's law."""

from itertools import combinations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

import theory
from theory.noise.almost_sure import edge_splitting, gradient_descent_exponent
from theory.noise.mean_square import (
    closed_loop,
    mean_square_edge,
    noise_gain_at,
    second_moment_operator,
    spectral_radius,
    sum_of_squares,
)
from theory.noise.sampling import batch_variance
from theory.noise.thermostats import gap_identity, heating, thermostat
from toylab.optimizers import NAMED

RULES = ("gd", "heavy_ball", "nesterov", "ema_momentum", "delayed_gradient", "quasi_hyperbolic")
SEEDS = st.integers(0, 2**32 - 1)


def test_one_example_and_all_examples() -> None:
    without = batch_variance().expressions["without_replacement"]
    n, batch, spread = (batch_variance().arguments[name] for name in ("examples", "batch", "spread"))
    assert without.subs(batch, n) == 0
    assert sp.simplify(without.subs(batch, 1) - spread**2) == 0
    assert batch_variance().expressions["with_replacement"].subs(batch, 1) == spread**2


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 5))
def test_the_variance_of_a_batch_by_enumeration(seed: int, size: int) -> None:
    numbers = np.random.default_rng(seed).normal(size=6)
    found = np.var([np.mean(batch) for batch in combinations(numbers, size)])
    told = batch_variance().numeric("without_replacement")(examples=6, batch=size, spread=np.std(numbers))
    np.testing.assert_allclose(float(told), found, atol=1e-14)  # at most twenty terms of order one


def test_the_sum_of_squares_of_a_geometric_series() -> None:
    r = sp.Symbol("r")
    assert sp.simplify(sum_of_squares([1, 0], [1, -r]) - 1 / (1 - r**2)) == 0


@pytest.mark.parametrize("rule", ["gd", "nesterov", "delayed_gradient", "quasi_hyperbolic"])
@settings(max_examples=3)
@given(seed=SEEDS)
def test_the_noise_gain_is_the_lyapunov_solution(rule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edge = theory.cached_edge(NAMED[rule])
    point = edge.draw(rng)
    numbers = edge.at(**point)
    sharpness = rng.uniform(0.05, 0.9) * numbers.threshold
    step = closed_loop(NAMED[rule])
    loop = np.asarray(step(np.array([[sharpness]]), **point))
    eta = point["learning_rate"]
    inject = (loop - np.asarray(step(np.zeros((1, 1)), **point)))[:, 0] / sharpness
    covariance = solve_discrete_lyapunov(loop, np.outer(inject, inject))
    gain = float(noise_gain_at(numbers.a, numbers.b, eta * sharpness))
    # a Lyapunov equation of condition 1/(1 - |z|), memories up to a hundred steps
    np.testing.assert_allclose(eta**2 * gain, covariance[0, 0], rtol=1e-7)


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "delayed_gradient", "quasi_hyperbolic"])
@settings(max_examples=3)
@given(seed=SEEDS, relative=st.floats(1e-3, 30))
def test_second_moments_neither_grow_nor_fade_at_the_edge(rule: str, seed: int, relative: float) -> None:
    point = theory.cached_edge(NAMED[rule]).draw(np.random.default_rng(seed))
    mean = mean_square_edge(NAMED[rule]).at(relative, **point)
    step = closed_loop(NAMED[rule])
    centre = np.asarray(step(np.array([[mean]]), **point))
    away = np.asarray(step(np.array([[mean * (1 + np.sqrt(relative))]]), **point)) - centre
    radius = spectral_radius(second_moment_operator(centre, away[None]))
    np.testing.assert_allclose(radius, 1, atol=1e-7)  # a double root nearby is known to the root of rounding


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "nesterov", "ema_momentum", "delayed_gradient"])
def test_the_closed_form_is_the_number(rule: str) -> None:
    theorem = mean_square_edge(NAMED[rule])
    for relative in (0.0, 0.3, 4.0):
        told = theorem.numeric("threshold")(
            **{name: float(v) for name, v in theorem.edge.reference.items()}, relative_variance=relative
        )
        np.testing.assert_allclose(float(told), theorem.at(relative), rtol=1e-10)  # bisected to 1e-16 of k*


@pytest.mark.parametrize("rule", RULES)
def test_limits_and_monotony_in_the_noise(rule: str) -> None:
    theorem = mean_square_edge(NAMED[rule])
    edges = [theorem.at(c) for c in (0.0, 1e-9, 0.1, 1.0, 10.0)]
    assert edges[0] == theorem.edge.at().threshold
    # 1e-9 of noise moves the edge by kappa k*/2 as much, below 1e-7
    np.testing.assert_allclose(edges[1], edges[0], rtol=1e-7)
    assert np.all(np.diff(edges) < 0)


def test_momentum_divides_the_noise_out_harmonically() -> None:
    """1/k = 1/k* + c/(2 (1 - b)): small batches feel 2 (1 - b)/c, large ones 2 (1 + b) (heavy ball)."""
    theorem = mean_square_edge(NAMED["heavy_ball"])
    eta, b = (theorem.arguments[name] for name in ("learning_rate", "momentum"))
    c = theorem.arguments["relative_variance"]
    inverse = 1 / (2 * (1 + b)) + c / (2 * (1 - b))
    assert sp.simplify(1 / (eta * theorem.expressions["threshold"]) - inverse) == 0


def test_the_two_edges_of_gradient_descent() -> None:
    split, series = edge_splitting(NAMED["gd"]), gradient_descent_exponent()
    c = series.arguments["relative_variance"]
    assert sp.simplify(split.expressions["almost_sure"] - series.expressions["almost_sure"]) == 0
    assert split.expressions["mean_square"] == -c
    with pytest.raises(theory.NoLinearEdge, match="flip"):
        edge_splitting(NAMED["delayed_gradient"])


def test_the_exponent_against_a_sum_of_logarithms() -> None:
    c, d = 1e-4, 0.01
    e = np.array([-1.5, -0.5, 0.2, 1.8])
    e = (e - e.mean()) / e.std()
    exact = np.mean(np.log(np.abs(1 - 2 * (1 + d) * (1 + np.sqrt(c) * e))))
    told = gradient_descent_exponent().numeric("exponent")(
        relative_variance=c, excess=d, third_moment=np.mean(e**3), fourth_moment=np.mean(e**4)
    )
    np.testing.assert_allclose(float(told), exact, atol=1e-8)  # the next term, c^(5/2) 32/5 E[e^5]


def test_the_gap_identity_on_an_enumerated_distribution() -> None:
    """E[x+^2] - E[x^2] and its kin by enumeration of a random distribution equal what the identity was made of."""
    rng = np.random.default_rng(5)
    eta, alpha, beta, sigma, v = 0.1, 0.7, 1.3, 0.4, 0.6
    x, y, p = rng.normal(size=50), rng.normal(size=50), rng.dirichlet(np.ones(50))
    xx, yx, yy = 0.0, 0.0, 0.0
    for xi in (-sigma, sigma):
        for zeta in (-v, v):
            after_x = x - eta * ((2 / eta + zeta + y) * x + xi)
            after_y = y + eta * (alpha - beta * x**2 / 2)
            xx, yx, yy = (
                xx + p @ (after_x**2 - x**2) / 4,
                yx + p @ (after_y - y) / 4,
                yy + p @ (after_y**2 - y**2) / 4,
            )
    mean = p @ y
    told = gap_identity().numeric("gap")(
        learning_rate=eta, sharpening_rate=alpha, grad_sharpness_sq=beta, gradient_noise=sigma, curvature_noise=v,
        x4=p @ x**4, x2y2=p @ (x**2 * y**2),
    )  # fmt: skip
    # solve the three balances with the drifts that this distribution has
    size = 2 * (alpha - yx / eta) / beta
    np.testing.assert_allclose(size, p @ x**2, rtol=1e-12)  # rounding
    lack = (xx - eta**2 * v**2 * (p @ x**2 - 2 * alpha / beta)) / (2 * eta)
    drift = yy / (2 * eta) - eta / 2 * (-alpha * beta) * (p @ x**2 - 2 * alpha / beta)
    # what the three balances lack, since this distribution is not stationary
    np.testing.assert_allclose(float(told), -mean + (drift + beta / 2 * lack) / alpha, rtol=1e-10)  # rounding


@pytest.mark.parametrize("rule", ["gd", "heavy_ball", "nesterov", "quasi_hyperbolic"])
def test_the_thermostat_in_terms_of_the_filter(rule: str) -> None:
    law, edge = thermostat(NAMED[rule]), theory.cached_edge(NAMED[rule])
    kappa = edge_splitting(NAMED[rule]).expressions["envelope_rate"]
    alpha = law.arguments["sharpening_rate"]
    assert sp.simplify(law.expressions["sharpness_variance"] - edge.gain_dc * alpha / kappa) == 0
    gap = law.expressions["gap"] / thermostat(NAMED["gd"]).expressions["gap"]
    assert sp.simplify(gap - kappa) == 0
    rate = heating(NAMED[rule]).expressions["rate"] / heating(NAMED["gd"]).expressions["rate"]
    assert sp.simplify(rate - kappa**2 * edge.gain_dc) == 0
