"""The optimizer itself, step by step: what every other model is measured against."""

from typing import Any, NamedTuple

import jax
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


def discrete_steps(problem: Problem, transform: optax.GradientTransformation) -> Kernel:
    """Kernel of one optimizer step on the full batch; time unit: one step.

    `init(params)` starts the optimizer afresh; `step` gives `Visited`, the iterate that it leaves.  Nothing is
    frozen or guarded here: a run that diverges goes through inf to nan (see `toylab.train` for statuses).
    """

    def init(params: PyTree) -> Discrete:
        return Discrete(params, transform.init(params))

    def step(now: Discrete) -> tuple[Discrete, Visited]:
        loss, grads = jax.value_and_grad(problem.value)(now.params)
        updates, state = transform.update(grads, now.state, now.params)
        return Discrete(optax.apply_updates(now.params, updates), state), Visited(now.params, loss)

    return Kernel(init, step)
