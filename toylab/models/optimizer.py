"""The optimizer itself, step by step: what every other model is measured against."""

from typing import Any, NamedTuple

import optax
from jax import Array

from toylab.models.kernel import Kernel
from toylab.problems.problem import Problem

PyTree = Any


class Discrete(NamedTuple):
    """The weights and the optimizer's own state."""

    params: PyTree
    state: PyTree


class Visited(NamedTuple):
    """The weights before the step and their loss."""

    params: PyTree
    loss: Array


class BetweenSteps(NamedTuple):
    """The iterate `before`, and weights and optimizer's state one step later."""

    before: PyTree
    now: Discrete


class Passage(NamedTuple):
    """Three consecutive iterates `before`, `params` and `following`; at the middle one the optimizer's `state`, the
    `loss` () and the gradient `grads` of its step."""

    before: PyTree
    params: PyTree
    following: PyTree
    state: PyTree
    loss: Array
    grads: PyTree


def discrete_steps(problem: Problem, transform: optax.GradientTransformation) -> Kernel:
    """Kernel of one optimizer step on the full batch; time unit: one step.

    `init(params)` starts the optimizer afresh; `step` gives `Visited`, the iterate that it leaves.  Nothing is
    frozen or guarded here: a run that diverges goes through inf to nan (see `toylab.train` for statuses).
    """

    def init(params: PyTree) -> Discrete:
        return Discrete(params, transform.init(params))

    def step(state: Discrete) -> tuple[Discrete, Visited]:
        after, loss, _ = _stepped(problem, transform, state)
        return after, Visited(state.params, loss)

    return Kernel(init, step)


def passages(problem: Problem, transform: optax.GradientTransformation) -> Kernel:
    """Kernel of the same steps, seen from the middle of three consecutive iterates; a step gives a `Passage`.

    `init(params, state=None)`: w_0 and the optimizer's state there (None: a fresh one); it takes the first step, so
    that the first `Passage` is the one through w_1.  Cost: one gradient a step.
    """

    def init(params: PyTree, state: PyTree = None) -> BetweenSteps:
        start = Discrete(params, transform.init(params) if state is None else state)
        return BetweenSteps(params, _stepped(problem, transform, start)[0])

    def step(at: BetweenSteps) -> tuple[BetweenSteps, Passage]:
        after, loss, grads = _stepped(problem, transform, at.now)
        passage = Passage(at.before, at.now.params, after.params, at.now.state, loss, grads)
        return BetweenSteps(at.now.params, after), passage

    return Kernel(init, step)


def _stepped(
    problem: Problem, transform: optax.GradientTransformation, before: Discrete
) -> tuple[Discrete, Array, PyTree]:
    """Where the optimizer's step leads, and the loss and the gradient that it starts from."""
    loss, grads = problem.value_and_gradient(before.params)
    updates, state = transform.update(grads, before.state, before.params)
    return Discrete(optax.apply_updates(before.params, updates), state), loss, grads
