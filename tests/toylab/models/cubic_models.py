"""Averaged models on cubics of five weights: one compiled program a rule and model serves many problems."""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.models import rollout
from toylab.optimizers import ema_momentum, scalar_rmsprop
from toylab.problems import Problem
from toylab.rules.edge import EdgeData, RuleStructure
from toylab.rules.parities import Roles

WEIGHTS, STEPS = 5, 40
"""Of every program: weights, and steps of one call."""


class Cubic(NamedTuple):
    """L(w) = w^T hessian w/2 + third[w, w, w]/6 - push . w, with a leading axis of examples."""

    hessian: jax.Array
    third: jax.Array
    push: jax.Array

    def turned(self, rotation):
        """The same function of rotation^T w."""
        q = rotation
        third = jnp.einsum("ai,bj,ck,eijk->eabc", q, q, q, self.third)
        return Cubic(q[None] @ self.hessian @ q.T[None], third, self.push @ q.T)


def loss(w, c):
    along = jnp.einsum("eijk,i,j,k->e", c.third, w, w, w)
    return jnp.mean(jnp.einsum("eij,i,j->e", c.hessian, w, w) / 2 + along / 6 - c.push @ w)


def cubic(hessian=(), push=(), third=None):
    """`hessian` is a diagonal; missing entries are zero; `third` maps indices to derivatives, as {(0, 0, 1): 1.0}."""
    diagonal = np.zeros(WEIGHTS)
    diagonal[: len(hessian)] = hessian
    tensor = np.zeros((WEIGHTS,) * 3)
    for (i, j, k), value in (third or {}).items():
        for a, b, c in {(i, j, k), (i, k, j), (j, i, k), (j, k, i), (k, i, j), (k, j, i)}:
            tensor[a, b, c] = value
    vector = np.zeros(WEIGHTS)
    vector[: len(push)] = push
    return Cubic(jnp.diag(jnp.asarray(diagonal))[None], jnp.asarray(tensor)[None], jnp.asarray(vector)[None])


def one_eigenvalue(eps, zeta=0.0):
    """Berthier's toy in the first two weights (x, y): y x^2/2 + zeta x^3/2 - eps (x + y)."""
    return cubic(push=(eps, eps), third={(0, 0, 1): 1.0, (0, 0, 0): 3 * zeta})


def two_eigenvalues(eps):
    """Berthier's toy x^T H(y) x/2 + (x_1^3 + x_2^3)/2 - eps (x_1 + 2 y_1 + y_2 + y_3)."""
    third = {(0, 0, 2): 1.0, (1, 1, 3): 1.0, (0, 1, 4): 0.5**0.5, (0, 0, 0): 3.0, (1, 1, 1): 3.0}
    return cubic(push=eps * np.array([1, 0, 2, 1, 1]), third=third)


class Rule(NamedTuple):
    """A factory of its hyperparameters, which of its leaves are what, and its numbers in closed form."""

    factory: object
    structure: RuleStructure
    edge: object


def _structure(autonomous=(), slow=(), fast=()):
    return RuleStructure(Roles(autonomous, slow, fast), 0)


def _adam(rate, b1, decay):
    # H u = lambda P u, eta (lambda (1 - b1)) = (2 - eta omega)(1 + b1) at the flip; first step (1 - b1) g
    return EdgeData((2 - rate * decay) * (1 + b1) / ((1 - b1) * rate), (1 - b1) * rate, 0.0, rate, rate * decay)


RULES = {
    "gd": Rule(optax.sgd, _structure(), lambda rate: EdgeData(2 / rate, rate, 0.0, rate)),
    "heavy_ball": Rule(
        optax.sgd,
        _structure(fast=(0,)),
        lambda rate, momentum: EdgeData(2 * (1 + momentum) / rate, rate, 0.0, rate / (1 - momentum)),
    ),
    "nesterov": Rule(
        partial(optax.sgd, nesterov=True),
        _structure(fast=(0,)),
        lambda rate, momentum: EdgeData(
            2 * (1 + momentum) / ((1 + 2 * momentum) * rate), (1 + momentum) * rate, 0.0, rate / (1 - momentum)
        ),
    ),
    "ema_momentum": Rule(
        ema_momentum, _structure(autonomous=(0,), fast=(1,)), lambda rate, momentum: _adam(rate, momentum, 0.0)
    ),
    "scalar_rmsprop": Rule(
        partial(scalar_rmsprop, initial_scale=1.0),
        _structure(autonomous=(0,), slow=(1,)),
        lambda rate, decay: EdgeData(2 / rate, rate, 0.0, rate),
    ),
    "rmsprop": Rule(
        partial(optax.rmsprop, initial_scale=1.0),
        _structure(slow=(0,)),
        lambda rate, decay: EdgeData(2 / rate, rate, 0.0, rate),
    ),
    "adam": Rule(optax.adam, _structure((0,), (2,), (1,)), lambda rate, b1, b2: _adam(rate, b1, 0.0)),
    "adamw": Rule(
        optax.adamw, _structure((0,), (2,), (1,)), lambda rate, b1, b2, weight_decay: _adam(rate, b1, weight_decay)
    ),
}
"""The thresholds are those of Cohen et al. 2207.14484; the gains are what a constant gradient moves the weights by."""


@lru_cache
def program(model, rule, count=1):
    """jit of (data, hyperparameters, the model's state, its settings) -> its last state and all `Predictions`."""
    return jax.jit(partial(path, model, rule, count))


def path(model, rule, count, data, hyper, start, settings):
    """STEPS steps."""
    return rollout(kernel(model, rule, count, data, hyper, settings), start, STEPS)


def kernel(model, rule, count, data, hyper, settings):
    return model(problem(data), transform(rule, hyper), edge_of(rule, hyper), count=count, **settings)


def long(model, rule, data, hyper, start, calls=1, count=1, **settings):
    """`calls` calls of the program in a row from weights, (weights, the optimizer's state), or a state of the model:
    the last state and the `Predictions` of the last call."""
    found = None
    if not hasattr(start, "_fields"):
        given = start if type(start) is tuple else (start,)
        start = kernel(model, rule, count, data, hyper, settings).init(*given)
    for _ in range(calls):
        start, found = program(model, rule, count)(data, hyper, start, settings)
    return start, found


def problem(data):
    return Problem(loss, jnp.zeros_like(data.push[0]), data)


def transform(rule, hyper):
    others = {name: value for name, value in hyper.items() if name != "rate"}
    return RULES[rule].factory(hyper["rate"], **others)


def edge_of(rule, hyper):
    return RULES[rule].structure, RULES[rule].edge(**hyper)


@lru_cache
def optimizer(rule):
    """jit of (data, hyperparameters, weights) -> the state after STEPS steps of the rule, all weights before each."""

    def run(data, hyper, weights):
        at, moves = problem(data), transform(rule, hyper)

        def step(now, _):
            updates, state = moves.update(at.gradient(now[0]), now[1], now[0])
            return (optax.apply_updates(now[0], updates), state), now[0]

        (_, state), visited = jax.lax.scan(step, (weights, moves.init(weights)), None, STEPS)
        return state, visited

    return jax.jit(run)
