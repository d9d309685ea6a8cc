"""Call a JAX function with SymPy symbols: jaxpr -> SymPy.

The function is traced once to a jaxpr and the jaxpr is evaluated on NumPy object arrays of SymPy expressions, one
table entry a primitive.  Data movement that NumPy has no name for is done by JAX itself on an array of positions.
Float literals become the simplest rational that rounds to them, so 0.1 is 1/10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax.extend import core as jex

from theory.errors import CannotTrace, Refusal

Decide = Callable[[Any], bool | None]
"""Settles a condition that SymPy leaves open; None leaves it open (a Piecewise)."""

_INT_MAX = {2**31 - 1, 2**63 - 1, 2**15 - 1, 2**7 - 1}
_MAX_UNROLL = 64


def rational(value: Any) -> Any:
    """The simplest exact number that rounds to ``value``: 0.1 -> 1/10, 0.333... -> 1/3; nan and inf are kept."""
    if isinstance(value, bool | np.bool_):
        return sp.true if value else sp.false
    if isinstance(value, int | np.integer):
        return sp.Integer(int(value))
    x, dtype = float(value), np.asarray(value).dtype
    if math.isnan(x):
        return sp.nan
    if math.isinf(x):
        return sp.oo if x > 0 else -sp.oo
    eps = float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.floating) else 2.0**-52
    exact = Fraction(x)
    # denominators whose square stays far below 1/eps: a fraction that fits by chance is then unlikely
    simple = exact.limit_denominator(10**6 if eps < 1e-12 else 10**3)
    if simple != 0 and abs(float(simple - exact)) <= 2 * eps * abs(x):
        return sp.Rational(simple.numerator, simple.denominator)
    turns = Fraction(x / math.pi).limit_denominator(1000 if eps < 1e-12 else 12)
    if turns != 0 and abs(float(turns) * math.pi - x) <= 2 * eps * abs(x):
        return sp.pi * sp.Rational(turns.numerator, turns.denominator)
    shortest = repr(np.asarray(value).dtype.type(value)).split("(")[-1].rstrip(")")  # shortest decimal of that dtype
    return sp.Rational(shortest)


def objects(value: Any) -> np.ndarray:
    """Any number, SymPy expression or array of them as an object array of SymPy expressions."""
    array = np.asarray(value, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        item = array[index]
        out[index] = item if isinstance(item, sp.Basic) else rational(item)
    return out


def is_truth(item: Any) -> bool:
    """Whether a SymPy object is a truth value (a Symbol counts as a number, though SymPy derives it from Boolean)."""
    logic = sp.logic.boolalg
    return isinstance(item, logic.BooleanAtom | logic.BooleanFunction | sp.core.relational.Relational)


def symbolically(fn: Callable) -> Callable:
    """``fn`` as a function of SymPy.

    Arguments: pytrees whose leaves are SymPy expressions, numbers, or object arrays of them; SymPy leaves stand for
    reals (integers if declared so), Python and NumPy numbers keep their kind.  Returns the pytree that ``fn``
    returns, leaves being SymPy expressions (scalars) or object arrays.  Conditions that stay open become Piecewise.

    Raises `CannotTrace`, naming the primitive and the line of the user's function, for what has no translation.
    """

    def call(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args, is_leaf=lambda x: isinstance(x, sp.Basic | np.ndarray | sp.MatrixBase))
        arrays = [objects(leaf) for leaf in leaves]
        avals = [_aval(leaf, array) for leaf, array in zip(leaves, arrays, strict=True)]
        closed, out_tree = program(lambda *flat: fn(*jax.tree.unflatten(tree, flat)), *avals)
        out = evaluate(closed, arrays)
        return jax.tree.unflatten(out_tree, [o[()] if o.shape == () else o for o in out])

    return call


def program(fn: Callable, *avals: Any) -> tuple[Any, Any]:
    """The closed jaxpr of ``fn`` at ``avals`` and the tree of its result; tracing errors become `CannotTrace`."""
    try:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*avals)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        line = next((part for part in str(error).splitlines() if part.strip()), "")
        raise CannotTrace(
            f"the function branches on a traced value in Python: {line[:160]}",
            "use jnp.where or jax.lax.cond instead of `if`, or make that argument a fixed number",
        ) from error
    return closed, jax.tree.structure(shape)


def _aval(leaf: Any, array: np.ndarray) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, bool):
        return jax.ShapeDtypeStruct((), jnp.bool_)
    if isinstance(leaf, int | np.integer):
        return jax.ShapeDtypeStruct((), jnp.result_type(int))
    if isinstance(leaf, np.ndarray | jax.Array) and leaf.dtype != object:
        return jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(leaf))
    items = list(array.ravel())
    whole = bool(items) and all(isinstance(i, sp.Symbol) and i.is_integer for i in items)
    return jax.ShapeDtypeStruct(array.shape, jnp.result_type(int if whole else float))


# ---------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(
    closed: Any,
    args: Sequence[np.ndarray],
    decide: Decide | None = None,
    watch: Mapping[sp.Expr, sp.Expr] | None = None,
) -> list[np.ndarray]:
    """Evaluate a closed jaxpr on object arrays.

    ``decide`` settles open conditions.  ``watch`` replaces an intermediate value as soon as it appears: this is how
    a rule is cut at its updated slow state, wherever in the code (nested, copied or computed twice) it is formed.
    """
    env: dict[Any, np.ndarray] = {}
    jaxpr = closed.jaxpr
    for var, const in zip(jaxpr.constvars, closed.consts, strict=True):
        env[var] = objects(np.asarray(const))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> np.ndarray:
        return objects(np.asarray(atom.val)) if isinstance(atom, jex.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        for var, value in zip(eqn.outvars, _apply(eqn, [read(a) for a in eqn.invars], decide, watch), strict=True):
            env[var] = _replace(value, watch) if watch else value
    return [read(v) for v in jaxpr.outvars]


def _replace(value: np.ndarray, watch: Mapping[sp.Expr, sp.Expr]) -> np.ndarray:
    return _each(lambda item: watch.get(item, item), value)


def _apply(eqn: Any, args: list[np.ndarray], decide: Decide | None, watch: Any) -> list[np.ndarray]:
    name, params = eqn.primitive.name, eqn.params
    if any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in eqn.outvars):
        raise CannotTrace(f"primitive '{name}' gives complex numbers, which have no translation here{_where(eqn)}")
    if name == "cond":
        return _cond(eqn, args, decide, watch)
    if name == "scan":
        return _scan(eqn, args, decide, watch)
    if name == "select_n":
        return [_select(args[0], args[1:], decide)]
    if name in _ELEMENTWISE:
        whole = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
        table = _ELEMENTWISE | _WHOLE if whole else _ELEMENTWISE
        try:
            return [_each(table[name], *args)]
        except Refusal:
            raise
        except (TypeError, ValueError) as error:
            raise CannotTrace(f"primitive '{name}' met values that it cannot take ({error}){_where(eqn)}") from error
    if name in _STRUCTURAL:
        out = _STRUCTURAL[name](params, *args)
        return [o if isinstance(o, np.ndarray) else objects(o) for o in (out if isinstance(out, list) else [out])]
    if name in _MOVEMENT:
        return _move(eqn, args)
    inner = [p for p in params.values() if isinstance(p, jex.ClosedJaxpr | jex.Jaxpr)]
    if len(inner) == 1 and name != "while":
        closed = inner[0] if isinstance(inner[0], jex.ClosedJaxpr) else jex.ClosedJaxpr(inner[0], ())
        try:
            return evaluate(closed, args[len(args) - len(closed.jaxpr.invars) :], decide, watch)
        except CannotTrace as error:  # library code traced before has no line of the user's: the call site has
            if error.reason.endswith(")") or not _where(eqn):
                raise
            raise CannotTrace(error.reason + _where(eqn), error.hint) from error
    raise CannotTrace(f"primitive '{name}' has no translation into SymPy{_where(eqn)}")


def _where(eqn: Any) -> str:
    """' (file.py:12, in f)' of the user's line behind an equation."""
    try:
        from jax._src import source_info_util  # the only place where jax keeps it

        line = source_info_util.summarize(eqn.source_info)
        return f" ({line})" if line and __file__ not in line else ""
    except Exception:  # noqa: BLE001 - a private module of jax: without it the message is shorter, not wrong
        return ""


def _each(fn: Callable, *arrays: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    arrays = tuple(np.broadcast_to(a, shape) for a in arrays)
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        out[index] = fn(*(a[index] for a in arrays))
    return out


def _select(which: np.ndarray, cases: list[np.ndarray], decide: Decide | None) -> np.ndarray:
    def pick(condition: Any, *options: Any) -> Any:
        if isinstance(condition, sp.Piecewise) and condition.args[0][0] == 1 and condition.args[1][0] == 0:
            condition = condition.args[0][1]  # a truth value that went through an integer
        if isinstance(condition, sp.Integer | int):
            return options[min(max(int(condition), 0), len(options) - 1)]
        if condition not in (sp.true, sp.false) and decide is not None:
            verdict = decide(condition)
            condition = condition if verdict is None else sp.true if verdict else sp.false
        if condition in (sp.true, True):
            return options[1]
        if condition in (sp.false, False):
            return options[0]
        if len(options) != 2:
            raise CannotTrace(f"a choice among {len(options)} branches depends on {condition}")
        if options[0] == options[1]:
            return options[0]
        return sp.Piecewise((options[1], condition), (options[0], True))

    return _each(pick, which, *cases)


def _cond(eqn: Any, args: list[np.ndarray], decide: Decide | None, watch: Any) -> list[np.ndarray]:
    branches = [evaluate(branch, args[1:], decide, watch) for branch in eqn.params["branches"]]
    return [_select(args[0], list(options), decide) for options in zip(*branches, strict=True)]


def _scan(eqn: Any, args: list[np.ndarray], decide: Decide | None, watch: Any) -> list[np.ndarray]:
    p = eqn.params
    length, n_const, n_carry = p["length"], p["num_consts"], p["num_carry"]
    if length > _MAX_UNROLL:
        raise CannotTrace(f"a loop of {length} steps is too long to unroll (at most {_MAX_UNROLL}){_where(eqn)}")
    const, carry, xs = args[:n_const], args[n_const : n_const + n_carry], args[n_const + n_carry :]
    rows: list[list[np.ndarray]] = []
    for i in range(length)[:: -1 if p["reverse"] else 1]:
        out = evaluate(p["jaxpr"], [*const, *carry, *(objects(x[i]) for x in xs)], decide, watch)
        carry = out[:n_carry]
        rows.append([objects(o) for o in out[n_carry:]])
    rows = rows[:: -1 if p["reverse"] else 1]
    if not rows:
        return [*carry, *(np.empty(v.aval.shape, dtype=object) for v in eqn.outvars[n_carry:])]
    return [*carry, *(np.stack(column) for column in zip(*rows, strict=True))]


# ---------------------------------------------------------------------------------------------------------------
# Tables


def _compare(relation: Any, a: Any, b: Any, whole: bool = False) -> Any:
    """A comparison, decided where it asks for overflow or, of whole numbers, whether a counter is saturated."""
    for left, right, sign in ((a, b, 1), (b, a, -1)):
        saturated = right in (sp.oo, -sp.oo) or (whole and right.is_Integer and int(right) in _INT_MAX)
        if saturated and not left.is_number:
            below = sign * (-1 if right == -sp.oo else 1) > 0
            answers = {sp.Lt: below, sp.Le: below, sp.Gt: not below, sp.Ge: not below, sp.Eq: False, sp.Ne: True}
            return sp.true if answers[relation] else sp.false
    if a.is_number and b.is_number and not (a.is_Rational and b.is_Rational):
        a, b = (sp.nan if v.has(sp.nan) or v.has(sp.zoo) else sp.N(v, 30) for v in (a, b))
        if sp.nan in (a, b):
            return sp.true if relation is sp.Ne else sp.false
    return relation(a, b)


def _integer_pow(params: Mapping, x: np.ndarray) -> np.ndarray:
    return _each(lambda v: v ** sp.Integer(params["y"]), x)


def _sign(x: sp.Expr) -> sp.Expr:
    return sp.sign(x)


def _round(params: Mapping, x: np.ndarray) -> np.ndarray:
    if int(params["rounding_method"]) == 1:  # to nearest even
        return _each(lambda v: sp.Integer(round(v)) if v.is_number else _refuse("round of a symbol"), x)
    return _each(lambda v: sp.sign(v) * sp.floor(sp.Abs(v) + sp.Rational(1, 2)), x)


def _refuse(what: str) -> Any:
    raise CannotTrace(f"{what} has no translation into SymPy")


def _logic(symbolic: Callable, number: Callable) -> Callable:
    def apply(*args: Any) -> Any:
        if all(isinstance(a, sp.Integer) for a in args):
            return sp.Integer(number(*(int(a) for a in args)))
        return symbolic(*args)

    return apply


def _remainder(a: sp.Expr, b: sp.Expr) -> sp.Expr:  # the sign of the dividend, as in C
    if a.is_number and b.is_number:
        return a - b * sp.Integer(int(a / b))
    return sp.sign(a) * sp.Mod(sp.Abs(a), sp.Abs(b))


_HALF = sp.Rational(1, 2)

_ELEMENTWISE: dict[str, Callable] = {
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "square": lambda a: a**2,
    "sqrt": sp.sqrt,
    "rsqrt": lambda a: 1 / sp.sqrt(a),
    "cbrt": lambda a: sp.sign(a) * sp.Abs(a) ** sp.Rational(1, 3),
    "exp": sp.exp,
    "exp2": lambda a: 2**a,
    "expm1": lambda a: sp.exp(a) - 1,
    "log": sp.log,
    "log1p": lambda a: sp.log(1 + a),
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "atan2": sp.atan2,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "asinh": sp.asinh,
    "acosh": sp.acosh,
    "atanh": sp.atanh,
    "erf": sp.erf,
    "erfc": sp.erfc,
    "lgamma": sp.loggamma,
    "logistic": lambda a: 1 / (1 + sp.exp(-a)),
    "abs": sp.Abs,
    "sign": _sign,
    "max": sp.Max,
    "min": sp.Min,
    "clamp": lambda low, x, high: sp.Min(sp.Max(x, low), high),
    "floor": sp.floor,
    "ceil": sp.ceiling,
    "rem": _remainder,
    "is_finite": lambda a: sp.false if a.has(sp.oo, sp.zoo, sp.nan, -sp.oo) else sp.true,
    "eq": partial(_compare, sp.Eq),
    "ne": partial(_compare, sp.Ne),
    "lt": partial(_compare, sp.Lt),
    "le": partial(_compare, sp.Le),
    "gt": partial(_compare, sp.Gt),
    "ge": partial(_compare, sp.Ge),
    "and": _logic(sp.And, lambda a, b: a & b),
    "or": _logic(sp.Or, lambda a, b: a | b),
    "xor": _logic(sp.Xor, lambda a, b: a ^ b),
    "not": _logic(sp.Not, lambda a: ~a),
    "copy": lambda a: a,
    "copy_p": lambda a: a,
    "stop_gradient": lambda a: a,
    "real": lambda a: a,
    "conj": lambda a: a,
    "nextafter": lambda a, b: a,
}


def _quotient(a: sp.Expr, b: sp.Expr) -> sp.Expr:  # towards zero, as in C
    if a.is_number and b.is_number:
        return sp.Integer(int(a / b))
    return sp.sign(a) * sp.sign(b) * sp.floor(sp.Abs(a) / sp.Abs(b))


_WHOLE: dict[str, Callable] = {
    "div": _quotient,
    **{
        name: partial(_compare, relation, whole=True)
        for name, relation in {"eq": sp.Eq, "ne": sp.Ne, "lt": sp.Lt, "le": sp.Le, "gt": sp.Gt, "ge": sp.Ge}.items()
    },
}
"""What means something else for whole numbers."""


def _convert(params: Mapping, x: np.ndarray) -> np.ndarray:
    target = np.dtype(params["new_dtype"])

    def one(item: Any) -> Any:
        boolean = is_truth(item)
        if target == np.bool_:
            return item if boolean else _compare(sp.Ne, item, sp.Integer(0))
        if boolean:
            return sp.Piecewise((sp.Integer(1), item), (sp.Integer(0), True))
        if np.issubdtype(target, np.integer) and item.is_integer is not True:
            return sp.sign(item) * sp.floor(sp.Abs(item))
        return item

    return _each(one, x)


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
        rows[i, ...] = _each(fold, objects(rows[i - 1]), objects(rows[i]))
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


_STRUCTURAL: dict[str, Callable] = {
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
    "square": lambda p, x: _each(lambda v: v**2, x),
    "optimization_barrier": lambda p, *xs: list(xs),
}

_MOVEMENT = {
    "gather": (1, 2),
    "dynamic_slice": (1, None),
    "dynamic_update_slice": (2, None),
    "pad": (2, 2),
    "scatter": (1, 2),
}
"""Data-moving primitives, and which of their operands are indices."""


def _move(eqn: Any, args: list[np.ndarray]) -> list[np.ndarray]:
    """Run a data-moving primitive of JAX on positions instead of values."""
    pool: list[Any] = []
    operands = []
    first, last = _MOVEMENT[eqn.primitive.name]
    for n, (var, array) in enumerate(zip(eqn.invars, args, strict=True)):
        shape, dtype = var.aval.shape, var.aval.dtype
        if n in range(len(args))[first:last]:
            if not all(getattr(i, "is_Integer", False) for i in array.ravel()):
                raise CannotTrace(f"primitive '{eqn.primitive.name}' takes its position from a symbol{_where(eqn)}")
            operands.append(jnp.asarray(np.array([int(i) for i in array.ravel()]).reshape(shape), dtype))
        else:
            operands.append(jnp.arange(len(pool), len(pool) + array.size, dtype=jnp.int32).reshape(shape))
            pool.extend(array.ravel())
    with np.errstate(invalid="ignore"):  # what lies outside is filled with a NaN, here an integer
        out = np.asarray(eqn.primitive.bind(*operands, **eqn.params))
    if not all(0 <= position < len(pool) for position in out.ravel()):
        raise CannotTrace(f"primitive '{eqn.primitive.name}' reads outside its array{_where(eqn)}")
    return [_each(lambda position: pool[int(position)], objects(out))]
