"""What is trained: a loss, a starting point and, if there is any, the data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

PyTree = Any


def is_whole(number: Any) -> bool:
    """Whether it is a whole number, as an int or as a float; True and False are none."""
    if isinstance(number, float | np.floating):
        return float(number).is_integer()
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


@dataclass(frozen=True)
class NetworkLoss:
    """The loss of a network on examples: `criterion(apply(params, inputs), targets)` with data = (inputs, targets).

    `apply(params, inputs (n, ...)) -> outputs (n, ...)`, one row for each example whatever the others are;
    `criterion(outputs, targets) -> ()` a mean over the leading axis. As the `loss` of a `Problem` it lets observers see
    the outputs (accuracy) and curvature see the two halves of the Hessian (Gauss-Newton). Two of the same
    functions are equal, so that a compiled program serves both.
    """

    apply: Callable[[PyTree, Array], Array]
    criterion: Callable[[Array, Array], Array]

    def __call__(self, params: PyTree, data: tuple[Array, Array]) -> Array:
        """The mean loss over the examples of `data`."""
        inputs, targets = data
        return self.criterion(self.apply(params, inputs), targets)


@partial(
    jax.tree_util.register_dataclass, data_fields=["params", "data", "test"], meta_fields=["loss", "name", "chunk"]
)
@dataclass(frozen=True, eq=False)
class Problem:
    """A scalar function to be minimised from a starting point.

    `loss(params)`, or `loss(params, data)` when `data` is not None, is a real scalar; with data it is the
    *mean* over the leading axis that all leaves of `data` share, so gradients and Hessians are means too.
    `params` is any pytree of floating arrays: the start of every run. `test`: examples like `data` that are not trained
    on, or None. `chunk`: how many examples are looked at together (None: all); sums over chunks bound the memory of
    gradients, Hessian products and observers and change values only by rounding. A Problem is itself a pytree whose
    leaves are `params`, `data` and `test`, so it passes through `jax.jit` and `jax.vmap`; the rest is
    static, and a loss that is one function for many problems (no closure made anew for each) is compiled once
    for all of them.

    Raises ValueError if `loss` is not callable, if chunk is no whole number, below 1 or given without data.

    Example:
        >>> import jax.numpy as jnp
        >>> import toylab
        >>> def half_square(params, data):
        ...     inputs, targets = data
        ...     return 0.5 * jnp.mean((inputs @ params - targets) ** 2)
        >>> data = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, 1.0])
        >>> problem = toylab.Problem(half_square, jnp.zeros(2), data)
        >>> problem.value(problem.params).item()
        0.5
        >>> problem.gradient(problem.params).tolist()
        [-0.5, -1.0]
    """

    loss: Callable[..., Array]
    params: PyTree
    data: PyTree = None
    name: str = ""
    test: PyTree = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise ValueError(
                f"a Problem needs a loss function, got {type(self.loss).__name__}: "
                "write Problem(loss, params) or Problem(loss, params, data)"
            )
        if self.chunk is not None and (not is_whole(self.chunk) or self.chunk < 1 or self.data is None):
            got = f"chunk={self.chunk!r}" + (" without data" if self.data is None else "")
            raise ValueError(f"a Problem's chunk is a whole number of examples of its data, at least 1: got {got}")

    @property
    def examples(self) -> int:
        """How many examples the data has: the length of its leading axis, 0 without data."""
        return 0 if self.data is None else _length(self.data)

    @property
    def _at_once(self) -> bool:
        """Whether all examples are looked at together."""
        return self.chunk is None or self.chunk >= self.examples

    def value(self, params: PyTree) -> Array:
        """The loss at `params`."""
        if self._at_once:
            return self.loss(params) if self.data is None else self.loss(params, self.data)
        # remembered are the chunks, not what is inside them, also when this is differentiated
        return self.mean(jax.checkpoint(lambda examples: self.loss(params, examples)), self.data)

    def gradient(self, params: PyTree) -> PyTree:
        """The gradient of the loss at `params`, a pytree like `params`."""
        return self.value_and_gradient(params)[1]

    def value_and_gradient(self, params: PyTree) -> tuple[Array, PyTree]:
        """The loss at `params` and its gradient, in one pass."""
        if self._at_once:
            return jax.value_and_grad(self.value)(params)
        return self.mean(lambda examples: jax.value_and_grad(self.loss)(params, examples), self.data)

    def hvp(self, params: PyTree, vector: PyTree) -> PyTree:
        """The Hessian of the loss at `params` times `vector`, forward over reverse: about 1.3 to 2.5
        gradients."""
        return jax.jvp(self.gradient, (params,), (vector,))[1]

    def expanded(self, params: PyTree) -> tuple[Array, PyTree, Callable[[PyTree], PyTree]]:
        """Loss, gradient and v -> H v at `params`, for several products at one point: what they share with each other
        and with the gradient is computed once, unless `chunk` bounds the memory."""
        if not self._at_once:
            return *self.value_and_gradient(params), lambda vector: self.hvp(params, vector)
        (loss, gradient), pushed = jax.linearize(self.value_and_gradient, params)
        return loss, gradient, lambda vector: pushed(vector)[1]

    def hessian(self, params: PyTree) -> Callable[[PyTree], PyTree]:
        """v -> H v at `params`: see `expanded`."""
        return self.expanded(params)[2]

    def take(self, indices: Array) -> "Problem":
        """The problem on the examples `indices` (b,) of its data: a mini-batch, in chunks where it is larger than
        one."""
        batch = jax.tree.map(lambda leaf: leaf[indices], self.data)
        return replace(self, data=batch)

    def with_params(self, params: PyTree) -> "Problem":
        """The same problem from another start."""
        return replace(self, params=params)

    def mean(self, function: Callable[[PyTree], PyTree], data: PyTree) -> PyTree:
        """The mean over all examples of `data` (`self.data`, `self.test`) of `function(examples)`, itself a mean, from
        one chunk after the other."""
        if self.chunk is None or self.chunk >= _length(data):
            return function(data)
        chunk, total = int(self.chunk), _length(data)
        complete = total // chunk

        def added(sum_: PyTree, examples: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, sum_, function(examples)), None

        stacked = jax.tree.map(lambda leaf: leaf[: complete * chunk].reshape(complete, chunk, *leaf.shape[1:]), data)
        shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], stacked))
        zero = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        sum_, _ = lax.scan(added, zero, stacked)
        mean = jax.tree.map(lambda leaf: leaf * (chunk / total), sum_)
        rest = total - complete * chunk
        if not rest:
            return mean
        last = function(jax.tree.map(lambda leaf: leaf[complete * chunk :], data))
        return jax.tree.map(lambda leaf, more: leaf + more * (rest / total), mean, last)


def _length(data: PyTree) -> int:
    return jax.tree.leaves(data)[0].shape[0]
