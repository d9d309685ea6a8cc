"""Runs of optax rules on small losses, and their averages."""

import jax


def simulate(rule, loss, start, steps, state=None):
    """Weights (steps, n) and states of `steps` steps of an optax rule."""

    def body(carry, _):
        w, s = carry
        update, after = rule.update(jax.grad(loss)(w), s, w)
        return (w + update, after), (w, after)

    return jax.lax.scan(body, (start, rule.init(start) if state is None else state), None, length=steps)[1]


def centre(w):
    """The second-order midpoint (w_{n-1} + 2 w_n + w_{n+1})/4 of a run (steps, ...)."""
    return (w[:-2] + 2 * w[1:-1] + w[2:]) / 4
