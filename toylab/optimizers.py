"""The optimizers: named optax factories, and the few that optax lacks.

A factory maps hyperparameters to an `optax.GradientTransformation`; adding a rule is one entry of `NAMED`.  Nothing
about a rule's edge is written here: `theory.edge` and `toylab.filters` read it off the code.

Example:
    >>> import toylab
    >>> rule = toylab.optimizers.NAMED["ema_momentum"](0.1, momentum=0.9)
    >>> run = toylab.train(toylab.problems.quadratic([1.0]), rule, steps=2)
    >>> round(float(run.params[0]), 4)  # the steps are 0.1 * 0.1 * 1 and 0.1 * (0.9 * 0.1 + 0.1 * 0.99)
    0.9711
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

Factory = Callable[..., optax.GradientTransformation]


def _with(name: str, factory: Factory, **settings: Any) -> Factory:
    """``factory`` with other defaults, under another name."""
    made: Any = partial(factory, **settings)  # which takes attributes, as a function does
    update_wrapper(made, factory)
    made.__name__ = made.__qualname__ = name
    del made.__wrapped__  # its signature is the partial's: the settings are the new defaults
    return made


def ema_momentum(learning_rate: float, momentum: float = 0.9) -> optax.GradientTransformation:
    """Heavy ball in its averaging form: m+ = b m + (1 - b) g, w+ = w - eta m+."""
    return optax.chain(optax.ema(momentum, debias=False), optax.scale_by_learning_rate(learning_rate))


def quasi_hyperbolic(learning_rate: float, momentum: float = 0.9, mix: float = 0.7) -> optax.GradientTransformation:
    """w+ = w - eta ((1 - mix) g + mix m+), m+ = b m + (1 - b) g (Ma & Yarats, ICLR 2019, eq. 3-4)."""
    average = optax.ema(momentum, debias=False)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        smooth, state = average.update(updates, state, params)
        mixed = optax.tree.add(optax.tree.scale(1 - mix, updates), optax.tree.scale(mix, smooth))
        return optax.tree.scale(-learning_rate, mixed), state

    return optax.GradientTransformation(average.init, update)


def ema_cascade(learning_rate: float, b1: float = 0.9, b2: float = 0.8) -> optax.GradientTransformation:
    """Two averages in a row; for long memories a complex pair leaves the unit circle before the flip."""
    return optax.chain(
        optax.ema(b1, debias=False), optax.ema(b2, debias=False), optax.scale_by_learning_rate(learning_rate)
    )


def delayed_gradient(learning_rate: float, delay: int = 1) -> optax.GradientTransformation:
    """w+ = w - eta g(w_{t - delay}): asynchronous gradient descent."""

    def init(params: Any) -> list[Any]:
        return [optax.tree.zeros_like(params) for _ in range(delay)]

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, list[Any]]:
        del params
        queue = [*state, updates]
        return optax.tree.scale(-learning_rate, queue[0]), queue[1:]

    return optax.GradientTransformation(init, update)


class ScalarRMSProp(NamedTuple):
    """How many steps were taken, (); the average of the squared norm of the gradient, ()."""

    count: jax.Array
    nu: jax.Array


def scalar_rmsprop(
    learning_rate: float,
    decay: float = 0.99,
    eps: float = 0.0,
    initial_scale: float = 0.0,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """RMSProp with one second moment for all weights: w+ = w - eta g/sqrt(nu+), nu+ = b2 nu + (1 - b2) |g|^2.

    |g|^2 is the squared norm of the whole gradient, not its mean square; nu starts at `initial_scale`; `eps` is added
    inside the root, as in `optax.rmsprop`; `bias_correction` divides nu+ by 1 - b2^t at step t.  On one weight this is
    `optax.rmsprop`.  Where nu+ + eps is zero no gradient has come yet, and the weights stay: 0/0 is zero here.
    Source: Cohen, Damian et al., arXiv:2410.24206, section on scalar RMSProp.
    """

    def init(params: Any) -> ScalarRMSProp:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return ScalarRMSProp(jnp.zeros((), jnp.int32), jnp.full((), initial_scale, dtype))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        nu = decay * state.nu + (1 - decay) * optax.tree.norm(updates, squared=True)
        used = (nu / (1 - decay**count) if bias_correction else nu) + eps
        step = jnp.where(used > 0, -learning_rate * jax.lax.rsqrt(jnp.where(used > 0, used, 1)), 0)
        return jax.tree.map(lambda g: step * g, updates), ScalarRMSProp(count, nu)

    return optax.GradientTransformation(init, update)


NAMED: dict[str, Factory] = {
    "gd": _with("gd", optax.sgd),
    "heavy_ball": _with("heavy_ball", optax.sgd, momentum=0.9),
    "nesterov": _with("nesterov", optax.sgd, momentum=0.9, nesterov=True),
    "ema_momentum": ema_momentum,
    "rmsprop": _with("rmsprop", optax.rmsprop, decay=0.99),
    "rmsprop_centered": _with("rmsprop_centered", optax.rmsprop, decay=0.99, centered=True),
    "rmsprop_momentum": _with("rmsprop_momentum", optax.rmsprop, decay=0.99, momentum=0.9),
    "rmsprop_nesterov": _with("rmsprop_nesterov", optax.rmsprop, decay=0.99, momentum=0.9, nesterov=True),
    "scalar_rmsprop": scalar_rmsprop,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadam": _with("nadam", optax.nadam),
    "nadamw": _with("nadamw", optax.nadamw),
    "amsgrad": optax.amsgrad,
    "adabelief": optax.adabelief,
    "adamax": optax.adamax,
    "adan": optax.adan,
    "yogi": optax.yogi,
    "adagrad": optax.adagrad,
    "adadelta": optax.adadelta,
    "radam": optax.radam,
    "novograd": optax.novograd,
    "optimistic_gd": optax.optimistic_gradient_descent,
    "schedule_free_sgd": optax.contrib.schedule_free_sgd,
    "ademamix": optax.contrib.ademamix,
    "quasi_hyperbolic": quasi_hyperbolic,
    "ema_cascade": ema_cascade,
    "delayed_gradient": delayed_gradient,
}
"""Rules with an edge, by name."""
