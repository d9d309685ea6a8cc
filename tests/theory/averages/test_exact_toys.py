"""The exact toy: its cycle, and three roads to the centre of it."""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from tests.theory.formulas import formula
from theory.averages.exact_toys import LOSS, flip_variance, toy_centre
from theory.edges.filter_numbers import filter_values
from theory.losses.plane_jet import ALPHA, BETA
from theory.self_stabilization.multiple_scales import general_motion


@jax.jit
def toy_run(eta, zeta, eps):
    def loss(w):
        return (w[1] + zeta * w[0]) * w[0] ** 2 / 2 - eps * (w[0] + w[1])

    start = jnp.stack([jnp.sqrt(2 * eps), 2 / eta])
    w = jax.lax.fori_loop(0, 60_000, lambda _, w: w - eta * jax.grad(loss)(w), start)
    return jnp.stack([w, w - eta * jax.grad(loss)(w)])


def test_the_toys_cycle():
    """Past zeta^2 = 2/9 the cycle attracts, so that gradient descent finds it by itself."""
    eta, zeta, errors, pushes = 0.3, 0.8, [], np.array([8e-3, 4e-3, 2e-3])
    theorem = toy_centre()
    for eps in pushes:
        ends = np.asarray(toy_run(eta, zeta, eps))
        (x, y), here = ends.mean(0), {"learning_rate": eta, "zeta": zeta, "eps": eps}
        exact = [formula(theorem, name)(**here, x=x) for name in ("cubic", "cycle_y", "amplitude_sq", "mean_square_x")]
        swing = (ends[0] - ends[1]) / 2
        np.testing.assert_allclose(exact, [0, y, swing[0] ** 2, (ends[:, 0] ** 2).mean()], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(formula(theorem, "ripple")(**here, x=x), swing[1] / swing[0], rtol=1e-6)
        np.testing.assert_allclose((ends[:, 0] ** 2).mean(), 2 * eps, rtol=1e-9)
        errors.append([abs(formula(theorem, n)(**here) - v) for n, v in (("mean_x", x), ("mean_y", y))])
    slopes = np.diff(np.log(errors), axis=0) / np.diff(np.log(pushes))[:, None]
    np.testing.assert_allclose(slopes, 2, atol=0.1)  # the next order in eps


def test_three_roads_to_the_toys_centre():
    """The cycle, the central flow's point of rest, and the small orbits of the multiple scales."""
    theorem = toy_centre().expressions
    for one, other in (("mean_x", "flow_x"), ("mean_y", "flow_y"), ("mean_square_x", "flow_variance")):
        assert sp.expand(theorem[one] - theorem[other]) == 0
    zeta, eta, eps = (toy_centre().arguments[n] for n in ("zeta", "learning_rate", "eps"))
    jet = {sp.Symbol(n, real=True): sp.Integer(0) for n in ("c4", "h", "m", "p")}
    jet |= {sp.Symbol("c3", real=True): 3 * zeta, sp.Symbol("f", real=True): sp.Integer(1)}
    lift = (
        general_motion()
        .lift[0]
        .xreplace({**filter_values(sp.Integer(1)), **jet, ALPHA: sp.Integer(1), BETA: sp.Integer(1)})
    )
    assert sp.expand(theorem["mean_y"] - 2 / eta - eps * lift) == 0


def test_on_a_cubic_loss_the_flow_rests_exactly_on_the_cycle():
    """At any point of the derived cycle the equations of rest hold identically, not to first order only: with a the
    swing, H a = (2/eta) a and grad L + |a|^2 grad S/2 = 0.
    """
    theorem, loss = toy_centre(), LOSS
    eta, x = (theorem.arguments[n] for n in ("learning_rate", "x"))
    y, ripple = sp.Symbol("y", real=True), theorem.expressions["ripple"]
    swing, hessian = sp.Matrix([1, ripple]), sp.hessian(loss, (x, y))
    cubic = sp.Poly(sp.numer(sp.together(theorem.expressions["cubic"])), x)

    def vanishes(expression):
        there = sp.together(expression.xreplace({y: theorem.expressions["cycle_y"]}))
        return sp.rem(sp.Poly(sp.numer(there), x), cubic).is_zero

    at_edge = hessian * swing - 2 / eta * swing
    # grad S = d^3 L[a, a]/|a|^2 for the eigenvector a
    square = theorem.expressions["amplitude_sq"]
    slopes = [sp.diff(loss, v) + square / 2 * (swing.T * sp.diff(hessian, v) * swing)[0] for v in (x, y)]
    assert [vanishes(sp.expand(e)) for e in [*at_edge, *slopes]] == [True] * 4


def test_the_swing_at_a_flip_is_gradient_descents_own():
    a, c3, c4, errors, excesses = 1.3, 1.1, 0.6, [], np.array([0.02, 0.01, 0.005])
    for excess in excesses:
        eta, w = 2 / (a - excess), 0.1
        for _ in range(20_000):
            last, w = w, w - eta * (a * w + c3 * w**2 / 2 + c4 * w**3 / 6)
        variance = formula(flip_variance(), "cycle_variance")(a=a, c3=c3, c4=c4, excess=excess)
        errors.append(abs(((w - last) / 2) ** 2 / variance - 1))
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.diff(np.log(excesses)), 1, atol=0.1)  # the next order


def test_the_flow_lacks_the_fourth_derivative_and_nothing_else():
    found = flip_variance()
    c4 = found.arguments["c4"]
    assert found.expressions["share"].subs(c4, 0) == 1
    assert sp.cancel(found.expressions["flow_variance"] / found.expressions["cycle_variance"]) == sp.cancel(
        found.expressions["share"]
    )
    assert not found.expressions["flow_variance"].has(c4)
