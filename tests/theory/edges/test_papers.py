"""Oracle without shared code: published recursions with P frozen, in NumPy, against the edge derived from optax's code.

Each recursion takes the state x (weight first), the gradient as a function of the weight, the hyperparameters and the
frozen P, and returns the next state.  Its one-step matrix is its action on the basis vectors.
"""

import numpy as np
import optax
import optax.contrib
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import theory


def gradient_descent(x, g, h, P):  # Cauchy, 1847
    return [x[0] - h["learning_rate"] * g(x[0])]


def heavy_ball(x, g, h, P):  # Polyak, 1964, eq. 9: w+ = w - eta g + beta (w - w-)
    return [x[0] - h["learning_rate"] * g(x[0]) + h["momentum"] * (x[0] - x[1]), x[0]]


def nesterov(x, g, h, P):  # Nesterov, 1983: x+ = y - eta grad f(y), y+ = x+ + beta (x+ - x); the weight is y
    ahead = x[0] - h["learning_rate"] * g(x[0])
    return [ahead + h["momentum"] * (ahead - x[1]), ahead]


def rmsprop(x, g, h, P):  # Tieleman & Hinton, 2012
    return [x[0] - h["learning_rate"] * g(x[0]) / P]


def adam(x, g, h, P):  # Kingma & Ba, 2015, Algorithm 1, bias corrections at 1
    m = h["b1"] * x[1] + (1 - h["b1"]) * g(x[0])
    return [x[0] - h["learning_rate"] * m / P, m]


def adamw(x, g, h, P):  # Loshchilov & Hutter, 2019, Algorithm 2; decay times learning rate, as in optax
    m = h["b1"] * x[1] + (1 - h["b1"]) * g(x[0])
    return [x[0] - h["learning_rate"] * (m / P + h["weight_decay"] * x[0]), m]


def nadam(x, g, h, P):  # Dozat, 2016, Algorithm 8, constant mu
    m = h["b1"] * x[1] + (1 - h["b1"]) * g(x[0])
    return [x[0] - h["learning_rate"] * (h["b1"] * m + (1 - h["b1"]) * g(x[0])) / P, m]


def adan(x, g, h, P):
    # Xie et al., 2022, Algorithm 1, beta_i = 1 - b_i.  The paper weighs v by 1 - beta_2 = b2, optax 0.2.8 by 1 - b2.
    m = h["b1"] * x[1] + (1 - h["b1"]) * g(x[0])
    v = h["b2"] * x[2] + (1 - h["b2"]) * (g(x[0]) - x[3])
    return [x[0] - h["learning_rate"] * (m + (1 - h["b2"]) * v) / P, m, v, g(x[0])]


def ademamix(x, g, h, P):  # Pagliardini et al., 2024, Algorithm 1: beta_3 and alpha without their schedules
    fast = h["b1"] * x[1] + (1 - h["b1"]) * g(x[0])
    slow = h["b3"] * x[2] + (1 - h["b3"]) * g(x[0])
    return [x[0] - h["learning_rate"] * (fast + h["alpha"] * slow) / P, fast, slow]


def optimistic(x, g, h, P):  # Daskalakis et al., 2018, eq. 6, with its two coefficients free
    step = (h["alpha"] + h["beta"]) * g(x[0]) - h["beta"] * x[1]
    return [x[0] - h["learning_rate"] * step, g(x[0])]


# name: factory, settings, recursion, length of its state
PAPERS = {
    "gd": (optax.sgd, {}, gradient_descent, 1),
    "heavy_ball": (optax.sgd, {"momentum": 0.9}, heavy_ball, 2),
    "nesterov": (optax.sgd, {"momentum": 0.9, "nesterov": True}, nesterov, 2),
    "rmsprop": (optax.rmsprop, {}, rmsprop, 1),
    "adam": (optax.adam, {}, adam, 2),
    "adamw": (optax.adamw, {}, adamw, 2),
    "nadam": (optax.nadam, {}, nadam, 2),
    "adan": (optax.adan, {}, adan, 4),
    "ademamix": (optax.contrib.ademamix, {}, ademamix, 3),
    "optimistic_gd": (optax.optimistic_gradient_descent, {}, optimistic, 2),
}


def matrix(recursion, size, hyper, P, hessian):
    columns = [recursion(list(e), lambda w: hessian * w, hyper, P) for e in np.eye(size)]
    return np.array(columns, float).T


def radius(m):
    return np.abs(np.linalg.eigvals(m)).max()


@pytest.fixture(scope="module")
def edges():
    return {name: theory.edge(factory, **given_) for name, (factory, given_, _, _) in PAPERS.items()}


@pytest.mark.parametrize("name", PAPERS)
def test_published_recursion_loses_stability_at_the_derived_threshold(edges, name):
    edge, (_, _, recursion, size) = edges[name], PAPERS[name]

    # weight decay only where the paper's recursion has it
    off = {n for n in edge.symbols if n == "weight_decay" and name != "adamw"}
    frozen = st.just(1.0) if edge.preconditioner == 1 else st.floats(0.1, 10)

    @given(st.data(), frozen)
    def check(data, P):
        hyper = {}
        for parameter, (low, high) in edge.domain.items():
            hyper[parameter] = 0.0 if parameter in off else round(data.draw(st.floats(low, high), parameter), 6)
        hyper["learning_rate"] = max(hyper["learning_rate"], 1e-3)
        numbers = edge.at(**hyper)
        assert 0 < numbers.threshold < np.inf
        below, above = (
            radius(matrix(recursion, size, hyper, P, P * numbers.threshold * (1 + s))) for s in (-1e-6, 1e-6)
        )
        # the critical root moves by growth * k * 1e-6; eigenvalues of these <= 4 x 4 matrices are good to ~1e-13
        assume(abs(numbers.growth * numbers.k) > 1e-5)
        assert below < 1 < above
        # det(z - M)/p(z) must not depend on lambda: what the polynomial lacks are roots that do not move
        points = np.array([1.3 + 0.4j, -1.7 + 0.2j, 0.1 - 2.0j])

        def ratio(sharpness):
            m = matrix(recursion, size, hyper, P, P * sharpness)
            own = np.array([np.linalg.det(z * np.eye(size) - m) for z in points])
            return own / np.polyval(numbers.polynomial(numbers.eta * sharpness), points)

        base = ratio(0.3 * numbers.threshold)
        for factor in (1.0, 1.7):
            # k reaches 1e4 and multiplies the rounding of coefficients of order one
            np.testing.assert_allclose(ratio(factor * numbers.threshold), base, rtol=1e-9)
        own = np.linalg.eigvals(matrix(recursion, size, hyper, P, P * numbers.threshold))
        for root in numbers.roots(numbers.threshold):
            # a root of multiplicity m is known to eps^(1/m); m <= 3 here
            assert np.abs(own - root).min() < 1e-4 * max(1.0, abs(root))

    check()


@pytest.mark.parametrize("shift", [1 + 1e-5, 1 - 1e-5])
def test_the_oracle_notices_a_threshold_that_is_off_by_a_hundred_thousandth(edges, shift):
    hyper = {"learning_rate": 0.1, "b1": 0.9}
    wrong = edges["nadam"].at(**hyper).threshold * shift
    below, above = (radius(matrix(nadam, 2, hyper, 1.0, wrong * (1 + s))) for s in (-1e-6, 1e-6))
    assert not below < 1 < above


def test_the_oracle_notices_the_wrong_rule(edges):
    hyper = {"learning_rate": 0.1, "b1": 0.9}
    assert radius(matrix(adam, 2, hyper, 1.0, edges["nadam"].at(**hyper).threshold)) < 0.999
