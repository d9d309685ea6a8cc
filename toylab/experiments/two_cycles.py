"""Experiments on orbits of period 2: a rule's own step, with gradients by autodiff, run on scalar losses.

Nothing here knows a filter, a balance or a normal form.  A rule with slow state is run held, its slow leaves at 1;
its state is the vector x = (w, fast state).  Members differ in hyperparameters and in the loss's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab.experiments.held_runs import roles_of
from toylab.filters import analyse, limit_state, state_space
from toylab.optimizers import NAMED
from toylab.problems import Problem
from toylab.problems.scalar import polynomial
from toylab.rules.held import held_step

Step = Callable[[Array], Array]


def quartic_loss(x: Any, a: Any, c3: Any, c4: Any) -> Any:
    """a x^2/2 + c3 x^3/6 + c4 x^4/24, the quartic of the laboratory with its derivatives as arguments, for tracing."""
    return polynomial(x, jnp.stack([a, c3, c4]))


def stepper(rule: str, loss: Callable, hyperparameters: Mapping[str, Any], data: Array) -> Step:
    """One step of the rule on ``loss(w, data)`` as a function of x = (w, fast state) (n + 1,)."""
    parts = roles_of(rule)
    transform, weight = NAMED[rule](**hyperparameters), jnp.zeros(())
    # counters at their limit: first steps are special in some rules
    leaves, tree = jax.tree.flatten(limit_state(transform, weight, parts))
    gradient = Problem(loss, weight, data).gradient
    held = [jnp.ones(()) for _ in parts.slow]

    def step(x: Any) -> Any:
        state_leaves = list(leaves)
        for place, i in enumerate(parts.fast):
            state_leaves[i] = x[1 + place]
        packed = jax.tree.unflatten(tree, state_leaves)
        if held:
            update, new = held_step(transform, parts)(gradient(x[0]), packed, x[0], held)
        else:
            update, new = transform.update(gradient(x[0]), packed, x[0])
        after, change = jax.tree.leaves(new), jnp.asarray(update)
        return jnp.stack([x[0] + change, *(after[i] for i in parts.fast)])

    return step


def edges(rule: str, hyperparameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """The critical curvature (members,) of the held rule with P = 1, from its numerical filter."""
    parts, weight, factory = roles_of(rule), jnp.zeros(()), NAMED[rule]

    @jax.jit
    def space(point: dict) -> Any:
        transform = factory(**point)
        return state_space(transform, parts, limit_state(transform, weight, parts))

    count = len(hyperparameters["learning_rate"])
    points = [{name: float(values[i]) for name, values in hyperparameters.items()} for i in range(count)]
    return np.array([analyse(space(point)).threshold for point in points])


def _members(run: Callable) -> Callable:
    """``run(step, *arrays)`` for all members at once, compiled for a rule, a loss and integers ``counts``."""

    @partial(jax.jit, static_argnums=(0, 1, 2))
    def compiled(rule: str, loss: Callable, counts: tuple[int, ...], hyper: dict, data: Array, *arrays: Array) -> Any:
        def one(hyper: dict, data: Array, *arrays: Array) -> Any:
            return run(stepper(rule, loss, hyper, data), len(roles_of(rule).fast) + 1, counts, *arrays)

        return jax.vmap(one)(hyper, data, *arrays)

    def call(rule: str, loss: Callable, counts: tuple[int, ...], hyper: Mapping, data: Any, *arrays: Any) -> Any:
        roles_of(rule)  # found by running the rule, which cannot be done inside the compiled program
        return compiled(
            rule, loss, counts, {n: jnp.asarray(v) for n, v in hyper.items()}, jnp.asarray(data)[:, None],
            *(jnp.asarray(a) for a in arrays),
        )  # fmt: skip

    call.__doc__ = run.__doc__
    return call


def _after(step: Step, x: Array, steps: int) -> Array:
    return jax.lax.fori_loop(0, steps, lambda _, x: step(x), x)


def _rest(start: Array, size: int) -> Array:
    return jnp.zeros(size).at[0].set(start)


@_members
def drift(step: Step, size: int, counts: tuple[int, ...], start: Array) -> Array:
    """Relative growth a step of |w_{n+1} - w_n| between steps ``counts``, both even."""
    first, second = counts
    early = _after(step, _rest(start, size), first)
    late = _after(step, early, second - first)
    return jnp.log(jnp.abs((step(late) - late)[0] / (step(early) - early)[0])) / (second - first)


@_members
def stays(step: Step, size: int, counts: tuple[int, ...], start: Array) -> Array:
    """Whether a run from ``start`` is nearer to 0 than it was, after ``counts[0]`` steps."""
    return jnp.abs(_after(step, _rest(start, size), counts[0])[0]) < jnp.abs(start)


def _doubled(step: Step) -> Step:
    return lambda x: step(step(x))


def _closed(step: Step, x: Array, rounds: int = 12) -> Array:
    """Newton's method for step(step(x)) = x, near an orbit that is nearly closed."""
    twice = _doubled(step)

    def improve(_: int, x: Array) -> Array:
        return x - jnp.linalg.solve(jax.jacfwd(twice)(x) - jnp.eye(x.size), twice(x) - x)

    return jax.lax.fori_loop(0, rounds, improve, x)


def _report(step: Step, x: Array) -> tuple[Array, Array, Array]:
    other = step(x)[0]
    return jnp.abs(x[0] - other) / 2, (x[0] + other) / 2, jax.jacfwd(_doubled(step))(x)


@_members
def settled(step: Step, size: int, counts: tuple[int, ...], start: Array) -> tuple[Array, Array, Array]:
    """Amplitude, mean, and Jacobian of two steps (n + 1, n + 1), after a plain run of ``counts[0]`` steps."""
    return _report(step, _after(step, _rest(start, size), counts[0]))


@_members
def closed(step: Step, size: int, counts: tuple[int, ...], start: Array) -> tuple[Array, Array, Array]:
    """As `settled`, with the orbit closed to the last digit by Newton's method after the run."""
    return _report(step, _closed(step, _after(step, _rest(start, size), counts[0])))


@_members
def symmetric_growth(step: Step, size: int, counts: tuple[int, ...], start: Array) -> Array:
    """The Jacobian of one step on the orbit x -> -x of an even loss, found by Newton's method; ``counts`` is ()."""

    def improve(_: int, x: Array) -> Array:
        return x - jnp.linalg.solve(jax.jacfwd(step)(x) + jnp.eye(size), step(x) + x)

    return jax.jacfwd(step)(jax.lax.fori_loop(0, 30, improve, _rest(start, size)))


def polynomials(matrices: Array) -> np.ndarray:
    """The characteristic polynomials (members, n + 1) of (members, n, n) matrices, highest power first."""
    return np.array([np.poly(m).real for m in np.asarray(matrices)])


def bisected(low: np.ndarray, high: np.ndarray, above: Callable[[np.ndarray], Any], rounds: int) -> np.ndarray:
    """Where ``above`` turns from False (at ``low``) to True (at ``high``), for every member."""
    for _ in range(rounds):
        middle = (low + high) / 2
        is_above = np.asarray(above(middle))
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    return (low + high) / 2
