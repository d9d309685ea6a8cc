"""A rule's step as one flat program: nested calls inlined, copies aliased, repeated expressions merged, `cond` turned
into `select_n`, so that any variable in it can be cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core as jex

from toylab.rules.errors import NoLinearEdge

PyTree = Any


def _inner(eqn: Any) -> Any | None:
    """The one closed jaxpr of a call-like equation (jit, custom_jvp, remat...), else None."""
    if eqn.primitive.name in ("while", "scan", "cond"):
        return None
    inner = [p for p in eqn.params.values() if isinstance(p, jex.ClosedJaxpr | jex.Jaxpr)]
    if len(inner) != 1:
        return None
    return inner[0] if isinstance(inner[0], jex.ClosedJaxpr) else jex.ClosedJaxpr(inner[0], ())


def evaluate(closed: Any, args: list, bind: Callable, cut: Mapping[Any, Any] | None = None) -> list:
    """Evaluate a jaxpr; a variable in ``cut`` takes the value given there as soon as it is defined."""
    cut = cut or {}
    env: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(closed.jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else env[atom]

    for eqn in closed.jaxpr.eqns:
        results = bind(eqn, [read(a) for a in eqn.invars])
        for var, value in zip(eqn.outvars, results, strict=True):
            env[var] = cut.get(var, value)
    return [cut.get(v, read(v)) if not isinstance(v, jex.Literal) else v.val for v in closed.jaxpr.outvars]


def bound_results(eqn: Any, values: list) -> list:
    """The results of one equation on these values."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)  # a pair in some versions of jax
    out = eqn.primitive.bind(*subfuns, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def flattened(fn: Callable, *args: Any) -> Any:
    """The program of ``fn`` (flat arrays -> flat arrays) as one flat jaxpr."""
    computed: dict[Any, list] = {}
    alive: list = []  # keeps the values named by id() in `computed` from being reused

    def bind(eqn: Any, values: list) -> list:
        name = eqn.primitive.name
        if (inner := _inner(eqn)) is not None:
            return evaluate(inner, values[len(values) - len(inner.jaxpr.invars) :], bind)
        if name == "cond":  # both branches are pure: evaluate both and select
            outs = [evaluate(branch, values[1:], bind) for branch in eqn.params["branches"]]
            which = jnp.clip(values[0], 0, len(outs) - 1)
            if len(outs) == 2:
                which = which.astype(bool)
            return [jax.lax.select_n(jnp.broadcast_to(which, jnp.shape(o[0])), *o) for o in zip(*outs, strict=True)]
        if name == "convert_element_type" and eqn.params["new_dtype"] == jnp.result_type(values[0]):
            return values
        if name in ("copy", "copy_p", "optimization_barrier", "stop_gradient"):
            return values
        key = (name, str(eqn.params), *(_identity(v) for v in values))
        if key not in computed:
            computed[key] = bound_results(eqn, values)
            alive.extend([*values, *computed[key]])
        return computed[key]

    closed = jax.make_jaxpr(fn)(*args)
    return jax.make_jaxpr(lambda *flat: evaluate(closed, list(flat), bind))(*args)


def _identity(value: Any) -> Any:
    """A key that equal constants and one and the same traced value share."""
    concrete = isinstance(value, int | float | complex | np.generic | np.ndarray)
    return (str(np.asarray(value).dtype), np.asarray(value).tobytes()) if concrete else id(value)


def flat_step(transform: optax.GradientTransformation, state: PyTree, params: PyTree) -> tuple[Callable, Any]:
    """``step(*g, *w, *state) -> (*update, *new_state)`` on flat leaves, and the tree of the state."""
    state_tree = jax.tree.structure(state)
    params_tree = jax.tree.structure(params)
    n = params_tree.num_leaves

    def step(*flat: Any) -> list:
        g, w = (jax.tree.unflatten(params_tree, part) for part in (flat[:n], flat[n : 2 * n]))
        update, new = transform.update(g, jax.tree.unflatten(state_tree, flat[2 * n :]), w)
        new_leaves = jax.tree.leaves(new)
        if len(new_leaves) != state_tree.num_leaves:
            raise NoLinearEdge("the update returns a state of another structure than it was given")
        return [*jax.tree.leaves(update), *new_leaves]

    return step, state_tree
