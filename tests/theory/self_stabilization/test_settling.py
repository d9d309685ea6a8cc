"""The law of settling: its limits and the rules that have none."""

import pytest
import sympy as sp

import theory
from theory.self_stabilization.settling import settling_law
from toylab.optimizers import NAMED


@pytest.fixture(scope="module")
def gd():
    return settling_law(theory.cached_edge(NAMED["gd"]))


@pytest.fixture(scope="module")
def heavy_ball():
    return settling_law(theory.cached_edge(NAMED["heavy_ball"]))


def test_rules_without_the_law_are_refused():
    for name in ("adam", "ema_cascade"):
        with pytest.raises(theory.NoLinearEdge, match="no law of settling"):
            settling_law(theory.cached_edge(NAMED[name]))


def test_heavy_ball_without_momentum_is_gradient_descent(gd, heavy_ball):
    momentum = heavy_ball.arguments["momentum"]
    for name in ("coefficient", "far_gap", "threshold", "invariant"):
        difference = heavy_ball.expressions[name].subs(momentum, 0) - gd.expressions[name]
        assert sp.simplify(difference) == 0, name


def test_momentum_lags(heavy_ball):
    """The rule's own part is always against settling, and (1 + b)/(1 - b)^2 times as strong as without momentum."""
    eta, momentum = heavy_ball.arguments["learning_rate"], heavy_ball.arguments["momentum"]
    lag = heavy_ball.expressions["lag"]
    assert sp.simplify(lag / lag.subs(momentum, 0) - (1 + momentum) / (1 - momentum) ** 2) == 0
    assert lag.subs({eta: 1, momentum: sp.Rational(1, 2)}) < 0
