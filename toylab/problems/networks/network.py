"""What a network is: two pure functions and how its weights are drawn."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any


class Network(NamedTuple):
    """A network as two pure functions.

    `init(key) -> params`: a fresh start, a pytree of floating arrays. `apply(params, inputs (n, ...)) -> outputs
    (n, ...)`: row i depends on input i alone. The builders of this package remember what they built: equal arguments
    give these very functions again, so that a compiled program is found again.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[[PyTree, Array], Array]


def _lecun(fan_in: int, fan_out: int, last: bool) -> float:
    del fan_out, last
    return np.sqrt(fan_in)


def _xavier(fan_in: int, fan_out: int, last: bool) -> float:
    del last
    return np.sqrt((fan_in + fan_out) / 2)


def _mup(fan_in: int, fan_out: int, last: bool) -> float:
    del fan_out
    return float(fan_in) if last else np.sqrt(fan_in)


SCALINGS: dict[str, Callable[[int, int, bool], float]] = {"lecun": _lecun, "xavier": _xavier, "mup": _mup}
"""One over the standard deviation of a layer's weights at gain 1, from (fan_in, fan_out, is it the read-out?).

"lecun": variance 1/fan_in. "xavier": 2/(fan_in + fan_out) (Glorot and Bengio 2010). "mup": 1/fan_in, but 1/fan_in^2 at
the read-out (Yang and Hu 2021, arXiv:2011.14522): the start of the maximal update parametrisation. Its factors of the
learning rate, different for input, hidden and output layers and for each optimizer, are not part of a network.
"""


def known(kind: str, name: str, choices: dict[str, Any]) -> Any:
    """`choices[name]`; a ValueError that lists the choices where there is none of that name."""
    if name not in choices:
        raise ValueError(f"got {kind}={name!r}, needs one of {', '.join(choices)}")
    return choices[name]


def normal_weights(key: Array, shape: tuple[int, ...], divisor: float, gain: float = 1.0) -> Array:
    """N(0, gain^2/divisor^2) weights, drawn in float32 whatever the precision, so that both start at one point."""
    return gain * jax.random.normal(key, shape, dtype="float32").astype(float) / divisor


def all_normal_weights(key: Array, shapes: Sequence[tuple[int, ...]], divisors: Sequence[float]) -> list[Array]:
    """`normal_weights` of several shapes, cut from one draw: a draw of each shape is a compilation of its own."""
    sizes = [prod(shape) for shape in shapes]
    pieces = jnp.split(normal_weights(key, (sum(sizes),), 1.0), np.cumsum(sizes)[:-1])
    return [piece.reshape(shape) / by for piece, shape, by in zip(pieces, shapes, divisors, strict=True)]
