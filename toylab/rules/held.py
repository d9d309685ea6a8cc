"""Holding an optimizer: its own step, cut at the updated slow state.

A leaf of an optimizer's state is *autonomous*, *slow* or *fast* (`toylab.rules.parities`).  **Holding** a rule runs
its step with every *updated* slow leaf replaced by a given constant: the part of the rule that reacts within one
oscillation stays, the part that adapts over many is frozen.

The cut is made in the traced program (a flat jaxpr), so it works on any ``optax.GradientTransformation`` without a
word about which one it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.extend import core as jex

from toylab.rules.flat_program import bound_results, evaluate, flat_step, flattened
from toylab.rules.parities import Roles

PyTree = Any


def _updated(program: Any, out: Any) -> list[Any]:
    """The variables that hold an updated leaf: the result itself and, where the code chooses between updating the
    leaf and leaving it alone (``apply_if_finite``), the updated one that it chooses.
    """
    made_by = {v: eqn for eqn in program.jaxpr.eqns for v in eqn.outvars}
    variables, inputs = [out], set(program.jaxpr.invars)
    while (eqn := made_by.get(variables[-1])) is not None and eqn.primitive.name == "select_n":
        cases = [v for v in eqn.invars[1:] if not isinstance(v, jex.Literal) and v not in inputs]
        if len(cases) != 1:
            break
        variables.append(cases[0])
    return variables


def held_step(transform: optax.GradientTransformation, roles: Roles) -> Callable:
    """The rule's step with its updated slow leaves held.

    Returns ``step(grads, state, params, slow=None) -> (update, new_state)``.  ``slow`` lists the values at which the
    slow leaves are held (flattened order of ``roles.slow``); ``None`` holds them at the values that this very step
    computes, cut off from differentiation: so the preconditioner is read off the rule's own step.  Can be
    jitted, vmapped and differentiated; the program is traced anew at every call, so call it inside ``jit``.
    """

    def step(grads: PyTree, state: PyTree, params: PyTree, slow: list | None = None) -> tuple[PyTree, PyTree]:
        whole_step, state_tree = flat_step(transform, state, params)
        args = [*jax.tree.leaves(grads), *jax.tree.leaves(params), *jax.tree.leaves(state)]
        program = flattened(whole_step, *args)
        n = jax.tree.structure(params).num_leaves
        slow_vars = [_updated(program, program.jaxpr.outvars[n + i]) for i in roles.slow]
        if slow is None:
            held = {v for variables in slow_vars for v in variables}

            def bind(eqn: Any, values: list) -> list:
                out = bound_results(eqn, values)
                return [jax.lax.stop_gradient(o) if v in held else o for v, o in zip(eqn.outvars, out, strict=True)]

            out = evaluate(program, args, bind)
        else:
            cut = {v: value for variables, value in zip(slow_vars, slow, strict=True) for v in variables}
            out = evaluate(program, args, bound_results, cut)
        return jax.tree.unflatten(jax.tree.structure(params), out[:n]), jax.tree.unflatten(state_tree, out[n:])

    return step
