"""Holding an optimizer: its own step, cut at the updated slow state (DESIGN ideas 2 and 4).

A leaf of an optimizer's state is *autonomous* when its update depends on neither gradient nor weights (step counts,
hyperparameters, schedules), *slow* when its update is even under the flip (w, g, fast) -> -(w, g, fast) (second
moments, running maxima, sums of squares) and *fast* when it is odd (momenta, traces, delayed gradients).  **Holding**
a rule runs its step with every *updated* slow leaf replaced by a given constant: the part of the rule that reacts
within one oscillation stays, the part that adapts over many is frozen.

The cut is made in the traced program (a flat jaxpr), so it works on any ``optax.GradientTransformation`` without a
word about which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core as jex

Array = jax.Array
PyTree = Any

FAR = 1e300
"""The step count 'at its limit': far beyond every time constant, far below overflow (clipped to the dtype's range)."""

_PROBES = 3  # random points at which a structural property (parity, autonomy, linearity) is tested


class NoLinearEdge(ValueError):
    """The rule has no linear edge: its held step is not linear in (weights, gradient, fast state)."""

    def __init__(self, reason: str, hint: str = "only rules that are linear once their slow state is held have one"):
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class Roles(NamedTuple):
    """What each state leaf is, in flattened order; hashable, so it can be closed over or passed as static."""

    autonomous: tuple[int, ...]
    slow: tuple[int, ...]
    fast: tuple[int, ...]


# ---------------------------------------------------------------------------------------------------------------
# A flat program: nested calls inlined, copies aliased, repeated expressions merged, `cond` turned into `select_n`.


def _inner(eqn: Any) -> Any | None:
    """The one closed jaxpr of a call-like equation (jit, custom_jvp, remat...), else None."""
    if eqn.primitive.name in ("while", "scan", "cond"):
        return None
    inner = [p for p in eqn.params.values() if isinstance(p, jex.ClosedJaxpr | jex.Jaxpr)]
    if len(inner) != 1:
        return None
    return inner[0] if isinstance(inner[0], jex.ClosedJaxpr) else jex.ClosedJaxpr(inner[0], ())


def _evaluate(closed: Any, args: list, bind: Callable, cut: Mapping[Any, Any] | None = None) -> list:
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


def _bind(eqn: Any, values: list) -> list:
    bound = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)  # a pair in some versions of jax
    out = eqn.primitive.bind(*subfuns, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _flatten(fn: Callable, *args: Any) -> Any:
    """The program of ``fn`` (flat arrays -> flat arrays) as one flat jaxpr."""
    seen: dict[Any, list] = {}
    alive: list = []  # keeps the values named by id() in `seen` from being reused

    def bind(eqn: Any, values: list) -> list:
        name = eqn.primitive.name
        if (inner := _inner(eqn)) is not None:
            return _evaluate(inner, values[len(values) - len(inner.jaxpr.invars) :], bind)
        if name == "cond":  # both branches are pure: evaluate both and select
            outs = [_evaluate(branch, values[1:], bind) for branch in eqn.params["branches"]]
            which = jnp.clip(values[0], 0, len(outs) - 1)
            if len(outs) == 2:
                which = which.astype(bool)
            return [jax.lax.select_n(jnp.broadcast_to(which, jnp.shape(o[0])), *o) for o in zip(*outs, strict=True)]
        if name == "convert_element_type" and eqn.params["new_dtype"] == jnp.result_type(values[0]):
            return values
        if name in ("copy", "copy_p", "optimization_barrier", "stop_gradient"):
            return values
        key = (name, str(eqn.params), *(_identity(v) for v in values))
        if key not in seen:
            seen[key] = _bind(eqn, values)
            alive.extend([*values, *seen[key]])
        return seen[key]

    closed = jax.make_jaxpr(fn)(*args)
    return jax.make_jaxpr(lambda *flat: _evaluate(closed, list(flat), bind))(*args)


def _identity(value: Any) -> Any:
    concrete = isinstance(value, int | float | complex | np.generic | np.ndarray)
    return (str(np.asarray(value).dtype), np.asarray(value).tobytes()) if concrete else id(value)


# ---------------------------------------------------------------------------------------------------------------
# The step of a transform as a flat function, and the cut.


def _flat_step(transform: optax.GradientTransformation, state: PyTree, params: PyTree) -> tuple[Callable, Any]:
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


def _updated(program: Any, out: Any) -> list[Any]:
    """The variables that hold an updated leaf: the result itself and, where the code chooses between updating the
    leaf and leaving it alone (``apply_if_finite``), the updated one that it chooses.
    """
    made_by = {v: eqn for eqn in program.jaxpr.eqns for v in eqn.outvars}
    found, inputs = [out], set(program.jaxpr.invars)
    while (eqn := made_by.get(found[-1])) is not None and eqn.primitive.name == "select_n":
        cases = [v for v in eqn.invars[1:] if not isinstance(v, jex.Literal) and v not in inputs]
        if len(cases) != 1:
            break
        found.append(cases[0])
    return found


def held_step(transform: optax.GradientTransformation, roles: Roles) -> Callable:
    """The rule's step with its updated slow leaves held.

    Returns ``step(grads, state, params, slow=None) -> (update, new_state)``.  ``slow`` lists the values at which the
    slow leaves are held (flattened order of ``roles.slow``); ``None`` holds them at the values that this very step
    computes, cut off from differentiation (the preconditioner "read off the rule's own step", DESIGN 4).  Can be
    jitted, vmapped and differentiated; the program is traced anew at every call, so call it inside ``jit``.
    """

    def step(grads: PyTree, state: PyTree, params: PyTree, slow: list | None = None) -> tuple[PyTree, PyTree]:
        flat_step, state_tree = _flat_step(transform, state, params)
        args = [*jax.tree.leaves(grads), *jax.tree.leaves(params), *jax.tree.leaves(state)]
        program = _flatten(flat_step, *args)
        n = jax.tree.structure(params).num_leaves
        slow_vars = [_updated(program, program.jaxpr.outvars[n + i]) for i in roles.slow]
        if slow is None:
            held = {v for variables in slow_vars for v in variables}

            def bind(eqn: Any, values: list) -> list:
                out = _bind(eqn, values)
                return [jax.lax.stop_gradient(o) if v in held else o for v, o in zip(eqn.outvars, out, strict=True)]

            out = _evaluate(program, args, bind)
        else:
            cut = {v: value for variables, value in zip(slow_vars, slow, strict=True) for v in variables}
            out = _evaluate(program, args, _bind, cut)
        return jax.tree.unflatten(jax.tree.structure(params), out[:n]), jax.tree.unflatten(state_tree, out[n:])

    return step


# ---------------------------------------------------------------------------------------------------------------
# Which leaf is what: detected by probing the step, never listed by name.


def _random(rng: np.random.Generator, leaf: Any, scale: float = 1.0) -> Any:
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
        return leaf
    return jnp.asarray(scale * rng.uniform(0.5, 1.5, jnp.shape(leaf)), dtype)


def _close(a: Any, b: Any, factor: float = 64.0) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if not np.issubdtype(a.dtype, np.floating):
        return bool(np.array_equal(a, b))
    # rounding of a few dozen elementary operations
    tol = factor * float(np.finfo(a.dtype).eps)
    return bool(np.all(np.abs(a - b) <= tol * np.maximum(np.abs(a), np.abs(b))))


def classify(transform: optax.GradientTransformation, state: PyTree, params: PyTree) -> Roles:
    """Roles of the state leaves of ``transform`` at ``state`` (concrete values), by probing its step.

    Raises NoLinearEdge if no assignment of parities makes the step equivariant under the flip of sign, e.g. because
    the rule treats positive and negative gradients differently or draws random numbers.
    """
    flat_step, _ = _flat_step(transform, state, params)
    step = jax.jit(flat_step)
    n = jax.tree.structure(params).num_leaves
    leaves = jax.tree.leaves(state)
    rng = np.random.default_rng(0)

    def weights_and_gradient() -> list:
        return [_random(rng, leaf, 0.1) * (1 if rng.random() < 0.5 else -1) for leaf in 2 * jax.tree.leaves(params)]

    later = leaves  # a first step is often special, and after it a running maximum may not move: probe from both
    for _ in range(_PROBES):
        later = step(*weights_and_gradient(), *later)[n:]
    dependent: set[int] = set()
    while True:  # leaves that react to gradient, weights or to a leaf that does
        found = set()
        for base in (leaves, later) * _PROBES:
            results = []
            for _ in range(2):
                mixed = [_random(rng, leaf) if i in dependent else leaf for i, leaf in enumerate(base)]
                results.append(step(*weights_and_gradient(), *mixed)[n:])
            found |= {i for i, (a, b) in enumerate(zip(*results, strict=True)) if not np.array_equal(a, b, True)}
        if found <= dependent:
            break
        dependent |= found
    rest = sorted(dependent)
    autonomous = [i for i in range(len(leaves)) if i not in dependent]
    if any(not jnp.issubdtype(jnp.result_type(leaves[i]), jnp.floating) for i in rest):
        raise NoLinearEdge("the rule keeps state that is not a real number and depends on the gradient")

    fresh = jax.tree.leaves(transform.init(jax.tree.map(jnp.zeros_like, params)))
    mirror = [fresh[i] if i in dependent else leaf for i, leaf in enumerate(leaves)]
    sign = _mirrored(step, weights_and_gradient, mirror, rest, n)
    if len(sign) < len(rest):  # an odd leaf may start elsewhere than at zero, and spoil others
        sign = _mirrored(step, weights_and_gradient, _without(mirror, rest, sign), rest, n) | sign

    def probe() -> tuple[list, list]:
        gw = weights_and_gradient()
        return gw, [_random(rng, leaf) if i in dependent else leaf for i, leaf in enumerate(later)]

    for i in rest:  # what these runs leave at zero, or in doubt: alone, even if that passes
        if i not in sign:
            gw, state_leaves = probe()
            state_leaves = _without(state_leaves, rest, {**sign, i: 0})
            sign[i] = next((s for s in (1, -1) if _equivariant(step, gw, state_leaves, {**sign, i: s}, n)), 1)
    if not all(_equivariant(step, *probe(), sign, n) for _ in range(_PROBES)):
        raise NoLinearEdge("the step is not odd in the gradient: flipping every sign does not flip the update")
    return Roles(tuple(autonomous), tuple(i for i in rest if sign[i] == 1), tuple(i for i in rest if sign[i] == -1))


def _mirrored(step: Callable, draw: Callable, start: list, rest: list[int], n: int) -> dict[int, int]:
    """leaf -> +1 (even) or -1 (odd), from runs under (g, w) and (-g, -w) that begin at ``start``, its own mirror image.

    As many steps as a signal takes through all leaves.  Left out: leaves that stay zero or are neither.
    """
    there = back = start
    possible = {i: {1, -1} for i in rest}
    for _ in range(len(rest) + 2):
        gw = draw()
        there, back = step(*gw, *there)[n:], step(*(-x for x in gw), *back)[n:]
        for i in rest:
            # rounding adds up over the steps; the assignment is tested sharply afterwards
            possible[i] &= {s for s in (1, -1) if _close(there[i], s * back[i], 1e4)}
    return {i: s.pop() for i, s in possible.items() if len(s) == 1}


def _without(leaves: list, rest: list[int], known: Container[int]) -> list:
    """The unknown leaves at zero, where a flip does not move them."""
    return [jnp.zeros_like(leaf) if i in rest and i not in known else leaf for i, leaf in enumerate(leaves)]


def _equivariant(step: Callable, gw: list, leaves: list, sign: dict[int, int], n: int) -> bool:
    leaves = [leaf * 0.1 if sign.get(i) == -1 else leaf for i, leaf in enumerate(leaves)]
    there = step(*gw, *leaves)
    back = step(*(-x for x in gw), *(-leaf if sign.get(i) == -1 else leaf for i, leaf in enumerate(leaves)))
    # an update may be undefined at the first steps (radam's root); whether it is later is checked where it is held
    return all(np.isnan(a).all() or _close(a, -b) for a, b in zip(there[:n], back[:n], strict=True)) and all(
        _close(a, sign[i] * b) for i, (a, b) in enumerate(zip(there[n:], back[n:], strict=True)) if i in sign
    )
