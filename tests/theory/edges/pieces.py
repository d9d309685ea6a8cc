"""Pieces of generated rules: what optax, or a user, builds, and what it does once its slow state is held.

Every piece has its own few lines of NumPy, ``model(u, w, s, p)``: what comes out for an input u, a weight w, a state s
and a frozen preconditioner p.
"""

from dataclasses import dataclass, field

import jax
import optax


@dataclass(frozen=True)
class Piece:
    """``build(**constants)``: a transformation;  ``model(u, w, s, p, **constants) -> (output, next state)``."""

    name: str
    build: object
    model: object
    order: int = 0
    adaptive: bool = False
    linear: bool = True
    constants: dict = field(default_factory=dict)


def hold_ema(u, w, s, p, b):
    m = b * s[0] + (1 - b) * u
    return m / p, [m]


def hold_nesterov_ema(u, w, s, p, b):
    m = b * s[0] + (1 - b) * u
    return (b * m + (1 - b) * u) / p, [m]


def hold_trace(u, w, s, p, b):
    m = b * s[0] + u
    return m, [m]


def hold_nesterov_trace(u, w, s, p, b):
    m = b * s[0] + u
    return u + b * m, [m]


def hold_novograd(u, w, s, p, b, decay):
    m = b * s[0] + u / p + decay * w
    return m, [m]


def hold_adan(u, w, s, p, b, b2):
    m, v = b * s[0] + (1 - b) * u, b2 * s[1] + (1 - b2) * (u - s[2])
    return (m + (1 - b2) * v) / p, [m, v, u]


def hold_ademamix(u, w, s, p, b, b3, alpha):
    fast, slow = b * s[0] + (1 - b) * u, b3 * s[1] + (1 - b3) * u
    return (fast + alpha * slow) / p, [fast, slow]


def hold_optimistic(u, w, s, p, alpha, beta):
    return (alpha + beta) * u - beta * s[0], [u]


def hold_memoryless(u, w, s, p, **_):
    return u / p, []


def hold_decay(u, w, s, p, decay):
    return u + decay * w, []


def hold_scale(u, w, s, p, c):
    return c * u, []


def hold_mix(u, w, s, p, b, mix):
    m = b * s[0] + (1 - b) * u
    return (1 - mix) * u + mix * m, [m]


def hold_filter(A, b, c, d):
    def model(u, w, s, p):
        return float(c @ s + d * u), list(A @ s + b * u)

    return model


def hold_delay(steps):
    def model(u, w, s, p):
        return s[0], [*s[1:], u]

    return model


# By hand: what a user might write.


def scaled(factor, tree):
    return jax.tree.map(lambda x: factor * x, tree)


def quasi_hyperbolic(b, mix):
    average = optax.ema(b, debias=False)

    def update(grads, state, params=None):
        smooth, state = average.update(grads, state, params)
        return jax.tree.map(lambda g, m: (1 - mix) * g + mix * m, grads, smooth), state

    return optax.GradientTransformation(average.init, update)


def state_space(A, b, c, d):
    """s+ = A s + b u, out = c s + d u; one leaf for each state."""
    n = len(b)

    def init(params):
        return [scaled(0.0, params) for _ in range(n)]

    def update(grads, state, params=None):
        def mix(weights, last):
            return jax.tree.map(
                lambda g, *s: sum((float(w) * x for w, x in zip(weights, s, strict=True)), float(last) * g),
                grads,
                *state,
            )

        return mix(c, d), [mix(A[i], b[i]) for i in range(n)]

    return optax.GradientTransformation(init, update)


def delayed(steps):
    def init(params):
        return [scaled(0.0, params) for _ in range(steps)]

    def update(grads, state, params=None):
        return state[0], [*state[1:], grads]

    return optax.GradientTransformation(init, update)


def everywhere(inner):
    return optax.masked(inner, lambda tree: jax.tree.map(lambda _: True, tree))


def injected(b):
    return optax.inject_hyperparams(lambda rate: optax.ema(rate, debias=False))(rate=b)
