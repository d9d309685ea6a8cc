"""What is trained: a loss, a starting point and, if there is any, the data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
from jax import Array

PyTree = Any


@partial(jax.tree_util.register_dataclass, data_fields=["params", "data"], meta_fields=["loss", "name"])
@dataclass(frozen=True, eq=False)
class Problem:
    """A scalar function to be minimised from a starting point.

    `loss(params)`, or `loss(params, data)` when `data` is not None, is a real scalar; with data it is the
    *mean* over the leading axis that all leaves of `data` share, so gradients and Hessians are means too.
    `params` is any pytree of floating arrays: the start of every run. A Problem is itself a pytree whose
    leaves are `params` and `data`, so it passes through `jax.jit` and `jax.vmap`; `loss` and `name` are
    static, and a loss that is one function for many problems (no closure made anew for each) is compiled once
    for all of them.

    Raises ValueError if `loss` is not callable.
    """

    loss: Callable[..., Array]
    params: PyTree
    data: PyTree = None
    name: str = ""

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise ValueError(
                f"a Problem needs a loss function, got {type(self.loss).__name__}: "
                "write Problem(loss, params) or Problem(loss, params, data)"
            )

    def value(self, params: PyTree) -> Array:
        """The loss at `params`."""
        return self.loss(params) if self.data is None else self.loss(params, self.data)

    def gradient(self, params: PyTree) -> PyTree:
        """The gradient of the loss at `params`, a pytree like `params`."""
        return jax.grad(self.value)(params)

    def hvp(self, params: PyTree, vector: PyTree) -> PyTree:
        """The Hessian of the loss at `params` times `vector`, forward over reverse: about 1.3 to 2.5
        gradients."""
        return jax.jvp(self.gradient, (params,), (vector,))[1]

    def with_params(self, params: PyTree) -> "Problem":
        """The same problem from another start."""
        return replace(self, params=params)
