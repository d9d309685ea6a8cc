"""Object arrays of SymPy expressions, and the primitives of JAX that rearrange, sum or convert arrays.

Data movement that NumPy has no name for is done by JAX itself on an array of positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy as sp

from theory.errors import CannotTrace
from theory.tracing.primitives import away_from_zero, converted, rational, to_even


def objects(value: Any) -> np.ndarray:
    """Any number, SymPy expression or array of them as an object array of SymPy expressions."""
    array = np.asarray(value, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        item = array[index]
        out[index] = item if isinstance(item, sp.Basic) else rational(item)
    return out


def elementwise(fn: Callable, *arrays: np.ndarray) -> np.ndarray:
    """``fn`` of the entries of broadcast ``arrays``."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    arrays = tuple(np.broadcast_to(a, shape) for a in arrays)
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        out[index] = fn(*(a[index] for a in arrays))
    return out


def _integer_pow(params: Mapping, x: np.ndarray) -> np.ndarray:
    return elementwise(lambda v: v ** sp.Integer(params["y"]), x)


def _round(params: Mapping, x: np.ndarray) -> np.ndarray:
    return elementwise(to_even if int(params["rounding_method"]) == 1 else away_from_zero, x)


def _convert(params: Mapping, x: np.ndarray) -> np.ndarray:
    target = np.dtype(params["new_dtype"])
    return elementwise(lambda item: converted(item, target), x)


def _broadcast(params: Mapping, x: np.ndarray, *_: Any) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for source, axis in enumerate(params["broadcast_dimensions"]):
        shape[axis] = x.shape[source]
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _reduce(fold: Callable, start: Any, params: Mapping, x: np.ndarray) -> np.ndarray:
    axes = tuple(params["axes"])
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = np.transpose(x, [*kept, *axes]).reshape([x.shape[i] for i in kept] + [-1])
    out = np.empty(rows.shape[:-1], dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = fold(*rows[index]) if rows.shape[-1] else start
    return out


def _cumulative(fold: Callable, params: Mapping, x: np.ndarray) -> np.ndarray:
    axis, reverse = params["axis"], params["reverse"]
    rows = np.flip(x, axis) if reverse else x
    rows = np.moveaxis(rows, axis, 0).copy()
    for i in range(1, len(rows)):
        rows[i, ...] = elementwise(fold, objects(rows[i - 1]), objects(rows[i]))
    rows = np.moveaxis(rows, 0, axis)
    return np.flip(rows, axis) if reverse else rows


def _dot_general(params: Mapping, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (ca, cb), (ba, bb) = params["dimension_numbers"]
    fa = [i for i in range(a.ndim) if i not in (*ca, *ba)]
    fb = [i for i in range(b.ndim) if i not in (*cb, *bb)]
    left = np.transpose(a, [*ba, *fa, *ca]).reshape([a.shape[i] for i in ba] + [_prod(a, fa), _prod(a, ca)])
    right = np.transpose(b, [*bb, *cb, *fb]).reshape([b.shape[i] for i in bb] + [_prod(b, cb), _prod(b, fb)])
    out = np.empty([*left.shape[:-1], right.shape[-1]], dtype=object)
    for index in np.ndindex(out.shape):
        *batch, i, j = index
        out[index] = sp.Add(*(u * v for u, v in zip(left[(*batch, i)], right[(*batch, slice(None), j)], strict=True)))
    return out.reshape([a.shape[i] for i in (*ba, *fa)] + [b.shape[i] for i in fb])


def _prod(x: np.ndarray, axes: Sequence[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _slice(params: Mapping, x: np.ndarray) -> np.ndarray:
    steps = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


def _iota(params: Mapping, *_: Any) -> np.ndarray:
    shape, axis = params["shape"], params["dimension"]
    column = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return objects(np.broadcast_to(column, shape))


def _split(params: Mapping, x: np.ndarray) -> list[np.ndarray]:
    return list(np.split(x, np.cumsum(params["sizes"])[:-1], axis=params["axis"]))


STRUCTURAL: dict[str, Callable] = {
    "integer_pow": _integer_pow,
    "round": _round,
    "convert_element_type": _convert,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda p, x, *_: x.reshape(p["new_sizes"]),
    "squeeze": lambda p, x: np.squeeze(x, axis=tuple(p["dimensions"])),
    "expand_dims": lambda p, x: np.expand_dims(x, tuple(p["dimensions"])),
    "transpose": lambda p, x: np.transpose(x, p["permutation"]),
    "rev": lambda p, x: np.flip(x, tuple(p["dimensions"])),
    "concatenate": lambda p, *xs: np.concatenate(xs, axis=p["dimension"]),
    "slice": _slice,
    "tile": lambda p, x: np.tile(x, p["reps"]),
    "stack": lambda p, *xs: np.stack(xs, axis=p["axis"]),
    "unstack": lambda p, x: list(np.moveaxis(x, p["axis"], 0)),
    "split": _split,
    "iota": _iota,
    "dot_general": _dot_general,
    "reduce_sum": partial(_reduce, sp.Add, sp.Integer(0)),
    "reduce_prod": partial(_reduce, sp.Mul, sp.Integer(1)),
    "reduce_max": partial(_reduce, sp.Max, -sp.oo),
    "reduce_min": partial(_reduce, sp.Min, sp.oo),
    "reduce_and": partial(_reduce, sp.And, sp.true),
    "reduce_or": partial(_reduce, sp.Or, sp.false),
    "cumsum": partial(_cumulative, lambda a, b: a + b),
    "cumprod": partial(_cumulative, lambda a, b: a * b),
    "cummax": partial(_cumulative, sp.Max),
    "cummin": partial(_cumulative, sp.Min),
    "square": lambda p, x: elementwise(lambda v: v**2, x),
    "optimization_barrier": lambda p, *xs: list(xs),
}


MOVEMENT = {
    "gather": (1, 2),
    "dynamic_slice": (1, None),
    "dynamic_update_slice": (2, None),
    "pad": (2, 2),
    "scatter": (1, 2),
}
"""Data-moving primitives, and which of their operands are indices."""


def move(eqn: Any, args: list[np.ndarray]) -> list[np.ndarray]:
    """Run a data-moving primitive of JAX (one of ``MOVEMENT``) on positions instead of values."""
    pool: list[Any] = []
    operands = []
    first, last = MOVEMENT[eqn.primitive.name]
    for n, (var, array) in enumerate(zip(eqn.invars, args, strict=True)):
        shape, dtype = var.aval.shape, var.aval.dtype
        if n in range(len(args))[first:last]:
            if not all(getattr(i, "is_Integer", False) for i in array.ravel()):
                raise CannotTrace(f"primitive '{eqn.primitive.name}' takes its position from a symbol")
            operands.append(jnp.asarray(np.array([int(i) for i in array.ravel()]).reshape(shape), dtype))
        else:
            operands.append(jnp.arange(len(pool), len(pool) + array.size, dtype=jnp.int32).reshape(shape))
            pool.extend(array.ravel())
    with np.errstate(invalid="ignore"):  # what lies outside is filled with a NaN, here an integer
        out = np.asarray(eqn.primitive.bind(*operands, **eqn.params))
    if not all(0 <= position < len(pool) for position in out.ravel()):
        raise CannotTrace(f"primitive '{eqn.primitive.name}' reads outside its array")
    return [elementwise(lambda position: pool[int(position)], objects(out))]
