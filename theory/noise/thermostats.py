"""Self-stabilization with gradient noise is a thermostat: its stationary law and the gap of the sharpness.

The cubic model with noise: L(x, s) = (T + zeta + sqrt(beta) s) x^2/2 + xi x - (alpha/sqrt(beta)) s, y = sqrt(beta) s,
T = k*/eta the rule's own edge; xi and zeta, the noise of gradient and curvature of the mini-batch along the top
eigenvector, are independent from step to step, of variances sigma^2 and v.  alpha = sharpening rate,
beta = |grad S_perp|^2, delta^2 = 2 alpha/beta.  y is the sharpness above the edge; gap = -E[y].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sympy as sp

from theory.edges.linear_stability import cached_edge
from theory.noise.almost_sure import envelope_rate
from theory.simplify import readable, tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

eta, alpha, beta = sp.symbols("eta sharpening_rate grad_sharpness_sq", positive=True)
sigma, spread = sp.symbols("gradient_noise curvature_noise", nonnegative=True)
"""Standard deviations of the batch gradient and of the batch curvature along the top eigenvector."""
fourth, mixed = sp.symbols("x4 x2y2", positive=True)
"""E[x^4] and E[x^2 y^2] in the stationary state."""
_x, _y, _xi, _zeta = sp.symbols("x y xi zeta", real=True)

NAMES = {
    "learning_rate": eta,
    "sharpening_rate": alpha,
    "grad_sharpness_sq": beta,
    "gradient_noise": sigma,
    "curvature_noise": spread,
}


def noisy_step() -> tuple[sp.Expr, sp.Expr]:
    """One step (x+, y+) of gradient descent on the cubic model, traced from optax's code."""

    def step(point: jax.Array, eta: float, alpha: float, beta: float, xi: float, zeta: float) -> jax.Array:
        def loss(p: jax.Array) -> jax.Array:
            sharpness = 2 / eta + zeta + p[1]
            return sharpness * p[0] ** 2 / 2 + xi * p[0] - alpha / beta * p[1]

        rule = optax.sgd(eta)
        update: Any = rule.update(jax.grad(loss)(point), rule.init(point))[0]
        return point + update * jnp.stack([1.0, beta])  # y = sqrt(beta) s: its step is beta dL/dy

    out = symbolically(step)(np.array([_x, _y], dtype=object), eta, alpha, beta, _xi, _zeta)
    return sp.expand(out[0]), sp.expand(out[1])


@lru_cache
def gap_identity() -> Theorem:
    """An exact identity of every stationary state of gradient descent on the noisy cubic model.

    From E[y+] = E[y], E[y+^2] = E[y^2] and E[x+^2] = E[x^2], without any closure or small parameter:

        E[x^2] = delta^2,   gap = (eta/(2 delta^2)) (sigma^2 + v delta^2 + (beta/2) Var(x^2) + E[x^2 y^2]) > 0.

    So noise of gradient and curvature act alike, through the *second-moment* balance.  Without gradient noise log|x|
    is stationary as well, which needs E[y] > 0 (Jensen: log|1 + u| < u for u > -1.27): the two contradict each other,
    so without gradient noise gradient descent has no stationary state on the cubic model but x = 0 and the exact
    2-cycle.  ``gap`` is the identity; ``jensen`` is log(1 + u) - u, negative.
    """
    after_x, after_y = noisy_step()
    change = {
        "y": sp.expand(after_y - _y),
        "yy": sp.expand(after_y**2 - _y**2),
        "xx": sp.expand(after_x**2 - _x**2),
    }
    square, mean, product = sp.symbols("x2 y1 x2y", real=True)
    names = {(0, 0): sp.Integer(1), (2, 0): square, (0, 1): mean, (2, 1): product, (2, 2): mixed, (4, 0): fourth}
    noise = {0: sp.Integer(1), 1: sp.Integer(0)}

    def expected(expression: sp.Expr) -> sp.Expr:
        total = sp.Integer(0)
        for (i, j, p, q), factor in sp.Poly(expression, _x, _y, _xi, _zeta).terms():
            moment = {**noise, 2: sigma**2}[p] * {**noise, 2: spread**2}[q]
            total += 0 if moment == 0 else factor * moment * names[i, j]
        return total

    moments = sp.solve([expected(e) for e in change.values()], [square, mean, product], dict=True)[0]
    u = sp.Symbol("u", real=True)
    return Theorem(
        statement="in any stationary state E[x^2] = 2 alpha/beta, and the sharpness stands below 2/eta by the gap",
        assumptions=("gradient descent on the cubic model", "fourth moments exist", "noise is independent of the past"),
        source="optax.sgd traced on the cubic model: stationarity of y, y^2 and x^2",
        expressions={
            "variance": sp.factor(moments[square]),
            "gap": sp.expand(-moments[mean]),
            "jensen": sp.log(1 + u) - u,
        },
        arguments={**NAMES, "x4": fourth, "x2y2": mixed, "u": u},
    )


@lru_cache(maxsize=64)
def thermostat(factory: Callable) -> Theorem:
    """The stationary law of self-stabilization under gradient noise, for any rule that crosses its edge by a flip.

    Slow motion of the oscillation's signed envelope x and of y (kappa: `envelope_rate`, Q(1): gain of the filter):

        dx = kappa eta y x dt + kappa eta sigma dW,    dy = Q(1) eta (alpha - beta x^2/2) dt    (time in steps).

    Its stationary density is a product of Gaussians, x ~ N(0, delta^2) and y ~ N(-gap, variance) with

        gap = kappa eta sigma^2 beta/(4 alpha),    variance = Q(1) alpha/kappa,

    whatever the strength of the noise: the law of an adaptive Langevin thermostat (Jones & Leimkuhler 2011; Ding et
    al. 2014), the sharpness being its friction.  Solved here from the Fokker-Planck equation with the ansatz of a
    Gaussian, and the residual is checked to vanish identically.  Leading order in eps = eta sqrt(alpha) at fixed
    D = gap/sqrt(alpha): the noise must damp faster than a discrete step heats, D >> eps times the rule's own drift.
    For gradient descent ``gap_corrected`` adds the next order, from `gap_identity` with the moments of this law.
    """
    edge = cached_edge(factory)
    kappa, gain, step = envelope_rate(edge), edge.gain_dc, edge.parameters.eta
    rate, width, sharp, gap = sp.symbols("kappa X Y gap", positive=True)
    speed = sp.Symbol("Q1", positive=True)
    law = sp.exp(-(_x**2) / (2 * width) - (_y + gap) ** 2 / (2 * sharp))
    flow = (
        -sp.diff(rate * eta * _y * _x * law, _x)
        - sp.diff(speed * eta * (alpha - beta * _x**2 / 2) * law, _y)
        + sp.diff((rate * eta * sigma) ** 2 / 2 * law, _x, 2)
    )
    residual = sp.expand(sp.cancel(sp.together(sp.expand(flow / law))))
    equations = sp.Poly(residual, _x, _y).coeffs()
    roots = sp.solve(equations, [width, sharp, gap], dict=True)
    if len(roots) != 1 or any(sp.cancel(sp.together(e.subs(roots[0]))) != 0 for e in equations):
        raise AssertionError("the Gaussian is not stationary")
    at = {rate: kappa, speed: gain, eta: step}
    expressions = {
        "gap": roots[0][gap].subs(at),
        "sharpness_variance": roots[0][sharp].subs(at),
        "amplitude_variance": roots[0][width].subs(at),
    }
    expressions = {name: readable(tidy(e), edge.parameters) for name, e in expressions.items()}
    if edge.filter == 1:
        moments = {
            fourth: 3 * roots[0][width] ** 2,
            mixed: roots[0][width] * (roots[0][sharp] + roots[0][gap] ** 2),
        }
        corrected = gap_identity().expressions["gap"].subs(moments).subs({rate: 1, speed: 1, spread: 0})
        expressions["gap_corrected"] = sp.expand(corrected)
    return Theorem(
        statement=f"under gradient noise the sharpness that {edge.name} settles at is Gaussian, below the edge by "
        "kappa eta sigma^2 beta/(4 alpha)",
        assumptions=(
            *edge.assumptions,
            "cubic model",
            "leading order in eps = eta sqrt(alpha) at fixed gap/sqrt(alpha)",
        ),
        source=edge.source,
        expressions=expressions,
        arguments={**edge.arguments, **{name: s for name, s in NAMES.items() if name != "learning_rate"}},
    )


@lru_cache(maxsize=64)
def heating(factory: Callable) -> Theorem:
    """Curvature noise alone heats the orbit of self-stabilization: its energy grows at a constant mean rate.

    With H = kappa y^2/2 + Q(1) (alpha/2) (X - log X), X = x^2/delta^2, conserved without noise, and
    dx = kappa eta x (y dt + sqrt(v) dW): the generator gives dE[H]/dt = (kappa eta)^2 v Q(1) (alpha/2) E[X + 1], and
    E[X] = 1 on average, hence ``rate`` = (kappa eta)^2 v Q(1) alpha a step.  Nothing dissipates: no stationary state.
    """
    edge = cached_edge(factory)
    kappa, gain, step = envelope_rate(edge), edge.gain_dc, edge.parameters.eta
    size = 2 * alpha / beta
    energy = kappa * _y**2 / 2 + gain * alpha / 2 * (_x**2 / size - sp.log(_x**2 / size))
    drift = kappa * step * _y * _x * sp.diff(energy, _x)
    drift += gain * step * (alpha - beta * _x**2 / 2) * sp.diff(energy, _y)
    if sp.cancel(sp.together(sp.expand(drift))) != 0:
        raise AssertionError("the energy is not conserved without noise")
    rate = sp.expand((kappa * step * spread * _x) ** 2 / 2 * sp.diff(energy, _x, 2))
    rate = tidy(sp.cancel(rate.subs(_x, sp.sqrt(size))))  # linear in x^2, whose mean is delta^2
    return Theorem(
        statement=f"curvature noise without gradient noise heats {edge.name}'s self-stabilization at a constant rate",
        assumptions=(*edge.assumptions, "cubic model", "leading order in eps = eta sqrt(alpha)"),
        source=edge.source,
        expressions={"energy": tidy(energy), "rate": readable(rate, edge.parameters)},
        arguments={
            **edge.arguments,
            **{name: s for name, s in NAMES.items() if name != "learning_rate"},
            "x": _x,
            "y": _y,
        },
    )
