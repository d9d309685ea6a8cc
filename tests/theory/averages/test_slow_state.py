"""The slow state at an edge: averages over an oscillation, and whether second moments settle there."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp

from theory.averages.any_rule import cached_central_flow
from theory.averages.resting_moments import balance_law
from theory.averages.slow_state import G, averaged_slow_state, q
from theory.edges.linear_stability import cached_edge
from theory.theorem import as_jax
from toylab.optimizers import NAMED

MOMENTS = {
    "adam": {"b1": 0.6, "b2": 0.8},
    "adabelief": {"b1": 0.6, "b2": 0.8},
}


@pytest.mark.parametrize("rule", MOMENTS)
def test_second_moments_of_an_alternating_gradient(rule):
    """Fed with G + (-1)^n h by optax itself, the mean over a period settles where the averaged step stands still."""
    mean, swing = 0.7, 1.3
    made = NAMED[rule](0.1, **MOMENTS[rule])
    theorem = cached_edge(NAMED[rule])
    (leaf,) = theorem.slow

    @jax.jit
    def run():
        gradients = (mean + swing * (-1.0) ** jnp.arange(400))[:, None]
        return jax.lax.scan(lambda s, g: (made.update(g, s, jnp.zeros(1))[1],) * 2, made.init(jnp.zeros(1)), gradients)[
            1
        ]

    history = jax.tree_util.tree_flatten_with_path(run())[0]
    name = str(leaf).rstrip("_")
    (values,) = [np.asarray(v)[:, 0] for path, v in history if str(path[-1]).strip(".'[]") == name]
    hyper = MOMENTS[rule] | {"learning_rate": 0.1, "mean_gradient": mean, "gradient_variance": swing**2}
    hyper |= {"eps_root": 1e-16}
    found = averaged_slow_state(NAMED[rule], theorem).rate[leaf]
    rate = as_jax(found, {**theorem.symbols, str(leaf): leaf, "mean_gradient": G, "gradient_variance": q})
    settled = float(values[-2:].mean())
    # bias corrections and start-up have faded by 0.9^400; eps_root of AdaBelief 1e-16
    np.testing.assert_allclose(rate(**hyper, **{str(leaf): settled}), 0, atol=1e-12)
    assert abs(float(rate(**hyper, **{str(leaf): 1.02 * settled}))) > 1e-3


def test_adagrad_adds_up():
    (rate,) = cached_central_flow(NAMED["adagrad"]).state.rate.values()
    assert rate == G**2 + q
    assert not averaged_slow_state(NAMED["gd"], cached_edge(NAMED["gd"])).after


BALANCES = {"adam": {"b1": 0.4, "b2": 0.9}, "nadam": {"b1": 0.7, "b2": 0.8}, "adabelief": {"b1": 0.6, "b2": 0.95}}


@cache
def balance(rule):
    return balance_law(NAMED[rule])


@pytest.mark.parametrize("rule", BALANCES)
def test_multipliers_of_the_balanced_cycle(rule):
    """The Jacobian of optax's own step at the cycle, turned by -1, has the polynomial's roots; Jury says the same."""
    hyper, law, flow = BALANCES[rule], balance(rule), cached_edge(NAMED[rule])
    b1 = hyper["b1"]
    eta = float(flow.numeric("threshold")(learning_rate=1.0, **hyper))  # times P: of nu = 1 under a swing of 1
    scale = 4 * b1**2 / (1 + b1) ** 2 if rule == "adabelief" else 1.0
    more = {"eps_root": 0.0} if rule == "adabelief" else {}
    made = NAMED[rule](eta * np.sqrt(scale), **hyper, eps=0.0, **more)
    count = jnp.asarray(10**5)

    def step(v):
        (inner, *others) = made.init(v[0])
        update, (after, *_) = made.update(v[0], (inner._replace(count=count, mu=v[1], nu=v[2]), *others), v[0])
        return jnp.stack([-(v[0] + update), -after.mu, after.nu])

    cycle = jnp.array([1.0, -(1 - b1) / (1 + b1), scale])
    np.testing.assert_allclose(step(cycle), cycle, rtol=1e-10)
    found = np.linalg.eigvals(np.asarray(jax.jit(jax.jacfwd(step))(cycle)))
    values = {flow.symbols[n]: sp.Rational(str(v)) for n, v in hyper.items()}
    roots = np.array(sp.Poly(law.expressions["polynomial"].xreplace(values), sp.Symbol("z")).nroots(), complex)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(roots), atol=1e-9)
    stable = all(c.xreplace(values) > 0 for n, c in law.expressions.items() if n.startswith("condition"))
    assert stable == bool(np.abs(roots).max() < 1) == (rule == "nadam")


def test_where_adam_settles():
    """b1^2 b2 - 3 b1 (1 + b2) + 1 > 0; then its edge ratio stands still at 1, else it goes on circling."""
    law = balance("adam")
    b1, b2 = (cached_edge(NAMED["adam"]).symbols[n] for n in ("b1", "b2"))
    decisive = sp.cancel(law.expressions["condition_3"] / ((1 - b2) * (b1**2 * b2 - 3 * b1 * (1 + b2) + 1)))
    assert decisive.is_positive

    @jax.jit
    def ratios(b1):
        made = optax.adam(1e-3, b1=b1, b2=0.95, eps=0.0)

        def step(carry, _):
            x, state = carry
            update, state = made.update(x, state, x)
            return (x + update, state), 1e-3 / jnp.sqrt(state[0].nu) / (2 * (1 + b1) / (1 - b1))

        return jax.lax.scan(step, (jnp.asarray(1e-3), made.init(jnp.zeros(()))), None, length=10_000)[1][-2000:]

    settled, circling = (np.asarray(ratios(b)) for b in (0.1, 0.3))
    np.testing.assert_allclose(settled, 1, rtol=1e-6)
    assert circling.std() > 0.05


def test_where_the_others_settle():
    grid = [(i / 20, 0.6 + j / 50) for i in range(20) for j in range(1, 20)]
    for rule, expected in (("nadam", True), ("adabelief", False)):
        symbols = [cached_edge(NAMED[rule]).symbols[n] for n in ("b1", "b2")]
        conditions = [c for n, c in balance(rule).expressions.items() if n.startswith("condition")]
        smallest = sp.lambdify(symbols, sp.Matrix(conditions), "numpy")
        assert {bool(np.min(smallest(*p)) > 0) for p in grid if p[0] > 0} == {expected}
