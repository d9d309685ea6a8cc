"""Call a JAX function with SymPy symbols: jaxpr -> SymPy.

The function is traced once to a jaxpr and the jaxpr is evaluated on NumPy object arrays of SymPy expressions, one
table entry a primitive (`theory.tracing.primitives`, `theory.tracing.arrays`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax.extend import core as jex

from theory.errors import CannotTrace, Refusal
from theory.tracing.arrays import MOVEMENT, STRUCTURAL, elementwise, move, objects
from theory.tracing.primitives import ELEMENTWISE, WHOLE

Decide = Callable[[Any], bool | None]
"""Settles a condition that SymPy leaves open; None leaves it open (a Piecewise)."""

_MAX_UNROLL = 64


def symbolically(fn: Callable) -> Callable:
    """``fn`` as a function of SymPy.

    Arguments: pytrees whose leaves are SymPy expressions, numbers, or object arrays of them; SymPy leaves stand for
    reals (integers if declared so), Python and NumPy numbers keep their kind.  Returns the pytree that ``fn``
    returns, leaves being SymPy expressions (scalars) or object arrays.  Conditions that stay open become Piecewise.

    Raises `CannotTrace`, naming the primitive and the line of the user's function, for what has no translation.

    Example:
        >>> import jax.numpy as jnp, sympy as sp, theory
        >>> x = sp.Symbol("x", real=True)
        >>> print(theory.symbolically(lambda t: jnp.where(t > 0, t**2, jnp.exp(t)))(x))
        Piecewise((x**2, x > 0), (exp(x), True))
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
    integer = bool(items) and all(isinstance(i, sp.Symbol) and i.is_integer for i in items)
    return jax.ShapeDtypeStruct(array.shape, jnp.result_type(int if integer else float))


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
    return elementwise(lambda item: watch.get(item, item), value)


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
    if name in ELEMENTWISE:
        integer = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
        table = ELEMENTWISE | WHOLE if integer else ELEMENTWISE
        try:
            return [elementwise(table[name], *args)]
        except Refusal:
            raise
        except (TypeError, ValueError) as error:
            raise CannotTrace(f"primitive '{name}' met values that it cannot take ({error}){_where(eqn)}") from error
    if name in STRUCTURAL:
        out = STRUCTURAL[name](params, *args)
        return [o if isinstance(o, np.ndarray) else objects(o) for o in (out if isinstance(out, list) else [out])]
    if name in MOVEMENT:
        try:
            return move(eqn, args)
        except CannotTrace as error:
            raise CannotTrace(error.reason + _where(eqn), error.hint) from error
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

    return elementwise(pick, which, *cases)


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
