"""The shape that every model of training has."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import lax

PyTree = Any


class Kernel(NamedTuple):
    """`init(...) -> state` (its arguments are the model's) and `step(state) -> (state, info)`, both pure."""

    init: Callable[..., PyTree]
    step: Callable[[PyTree], tuple[PyTree, PyTree]]


def rollout(kernel: Kernel, state: PyTree, steps: int) -> tuple[PyTree, PyTree]:
    """`steps` steps from `state`: the last state, and all infos stacked along a new first axis."""
    return lax.scan(lambda carry, _: kernel.step(carry), state, length=steps)


def advanced(kernel: Kernel, state: PyTree, steps: int) -> PyTree:
    """The state after `steps` steps from `state`; the infos are not kept."""
    return lax.fori_loop(0, steps, lambda _, carry: kernel.step(carry)[0], state)
