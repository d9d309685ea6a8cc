"""The observers inside a training loop that is not ours: one look at one step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from toylab.observing.chosen import Observers
from toylab.observing.observer import Moment
from toylab.problems.problem import Problem
from toylab.rules.edge import edge_data
from toylab.training.checks import check_optimizer

PyTree = Any


LOSS_AND_EDGE_RATIO = Observers((("loss", 1), ("edge_ratio", 1)))
"""What is observed by default; written out, so that importing this module looks for no observer's file."""


class Memory(NamedTuple):
    """What the next look starts from: the observers' own memory (eigenvectors), the weights at this look, and how many
    looks there were.
    """

    observers: dict[str, PyTree]
    params: PyTree
    count: Array


def observe_step(
    problem: Problem,
    transform: optax.GradientTransformation,
    params: PyTree,
    state: PyTree,
    observe: Observers = LOSS_AND_EDGE_RATIO,
    memory: Memory | None = None,
    grads: PyTree = None,
) -> tuple[dict[str, Array], Memory]:
    """What `toylab.train` would record of the step that `transform` is about to take from `params` and `state`.

    For anyone's own loop: call it before the step, hand the memory back at the next call.  The loop goes on as it
    would; nothing of it is changed.  `problem`: the loss that curvature is taken of, with all its data or those you
    can afford (its own `params` are not looked at); `grads`: the gradient that your step uses, where that is of a
    mini-batch (None: that of `problem`); P is read off the step with it.  `memory` None: the first look, a cold start.

    Records: name -> array, see `toylab.observers`.  Observers of motion (midpoint, projections) take the last look's
    weights for the last iterate's: for these, look at every step.
    Under jit or not: the rule's threshold is computed on the host once, while tracing, and remembered for `transform`:
    build that once, outside the loop.  Under jit the first look (memory None) is a program of its own.
    Cost: a gradient and the observers' products (edge ratio: one to two for gradient descent, up to five for Adam).
    Raises ValueError for params and state that the transform does not fit; NoLinearEdge (a ValueError) if the edge
    ratio is asked for and the rule has none.

    Example:
        >>> import jax
        >>> import optax
        >>> import toylab
        >>> problem, rule = toylab.problems.quadratic([4.0, 1.0]), optax.sgd(0.25)
        >>> params, state = problem.params, rule.init(problem.params)
        >>> look = jax.jit(lambda params, state: toylab.observe_step(problem, rule, params, state))
        >>> records, memory = look(params, state)  # which the next look takes, before the next step
        >>> round(float(records["edge_ratio"]), 4)  # learning_rate sharpness/2
        0.5
    """
    check_optimizer(transform)
    structure, edge = edge_data(transform, params) if observe.needs_edge else (None, None)
    if memory is None:
        memory = Memory(observe.init(params), params, jnp.zeros((), jnp.int32))
    loss, full_gradient = problem.value_and_gradient(params)
    grads = full_gradient if grads is None else grads
    try:
        updates, _ = transform.update(grads, state, params)
    except (TypeError, ValueError, AttributeError) as error:
        message = " ".join(str(error).split())[:200]
        raise ValueError(
            f"observe_step: this optimizer cannot take its step from this state: {message}; needs the state that "
            "transform.init(params) and transform.update give"
        ) from error
    moment = Moment(
        problem=problem,
        transform=transform,
        structure=structure,
        edge=edge,
        params=params,
        state=state,
        previous=memory.params,
        following=optax.apply_updates(params, updates),
        loss=loss,
        grads=full_gradient,
        step_grads=grads,
        hvp=problem.hessian(params) if observe.needs_curvature else None,
        run_key=jax.random.key(0),
        number=memory.count,
        count=memory.count,
    )
    remembered, records = observe.observe(memory.observers, moment)
    return records, Memory(remembered, params, memory.count + 1)
