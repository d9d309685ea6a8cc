"""Loss and accuracy, on what is trained on and on what is not."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from toylab.observing.observer import Moment, Observer, stateless
from toylab.problems.problem import NetworkLoss, Problem

PyTree = Any


def _on(record: str, value: Callable[[Moment], Array]) -> Callable[[int], Observer]:
    def make(option: int) -> Observer:
        return stateless(lambda moment: {record: value(moment)})

    make.__doc__ = value.__doc__
    return make


def _loss(moment: Moment) -> Array:
    """The loss on all examples that are trained on, before the step."""
    return moment.loss


def _test_loss(moment: Moment) -> Array:
    """The loss on examples that are not trained on."""
    problem = moment.problem
    return problem.mean(lambda examples: problem.loss(moment.params, examples), _test_examples(problem, "test_loss"))


def _accuracy(moment: Moment) -> Array:
    """The fraction of training examples that are classified rightly."""
    return accuracy(moment.problem, moment.params, moment.problem.data)


def _test_accuracy(moment: Moment) -> Array:
    """The same for examples that are not trained on."""
    return accuracy(moment.problem, moment.params, _test_examples(moment.problem, "test_accuracy"))


def accuracy(problem: Problem, params: PyTree, data: PyTree) -> Array:
    """The fraction of examples (of positions, for sequences) whose largest output is that of the target, (); in the
    problem's chunks.

    Raises ValueError unless the loss is a `NetworkLoss` with as many outputs as targets, at least two.
    """
    model = problem.loss
    if not isinstance(model, NetworkLoss):
        raise ValueError("accuracy needs the network's outputs: make its loss a toylab.problems.problem.NetworkLoss")
    return problem.mean(lambda examples: _right(model, params, examples), data)


def _right(model: NetworkLoss, params: PyTree, examples: PyTree) -> Array:
    inputs, targets = examples
    outputs = model.apply(params, inputs)
    if outputs.shape != targets.shape or outputs.shape[-1] < 2:
        raise ValueError(
            f"accuracy needs one output and target for each class, got shapes {outputs.shape} and {targets.shape}: "
            "observe the loss of a regression instead"
        )
    return jnp.mean(jnp.argmax(outputs, axis=-1) == jnp.argmax(targets, axis=-1), dtype=outputs.dtype)


def _test_examples(problem: Problem, name: str) -> PyTree:
    if problem.test is None:
        raise ValueError(f"{name} needs examples that are not trained on: give the Problem a test set")
    return problem.test


OBSERVERS = {
    "loss": _on("loss", _loss),
    "test_loss": _on("test_loss", _test_loss),
    "accuracy": _on("accuracy", _accuracy),
    "test_accuracy": _on("test_accuracy", _test_accuracy),
}
