"""Which leaf of an optimizer's state is what: detected by probing its step, never listed by name.

A leaf is *autonomous* when its update depends on neither gradient nor weights (step counts, hyperparameters,
schedules), *slow* when its update is even under the flip (w, g, fast) -> -(w, g, fast) (second moments, running maxima,
sums of squares) and *fast* when it is odd (momenta, traces, delayed gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.rules.errors import NoLinearEdge
from toylab.rules.flat_program import flat_step

PyTree = Any

_PROBES = 3  # random points at which a structural property (parity, autonomy, linearity) is tested


class Roles(NamedTuple):
    """What each state leaf is, in flattened order; hashable, so it can be closed over or passed as static."""

    autonomous: tuple[int, ...]
    slow: tuple[int, ...]
    fast: tuple[int, ...]


def roles(transform: optax.GradientTransformation, params: PyTree) -> Roles:
    """What each state leaf of ``transform`` is for these ``params`` (concrete values; see `classify`).

    Raises `NoLinearEdge` if the transform cannot be run on such weights with a gradient alone.
    """
    try:
        return classify(transform, transform.init(params), params)
    except (TypeError, IndexError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:160]
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
        raise NoLinearEdge(
            f"the transform cannot be run on weights of shape {shapes} with a gradient alone: {told}",
            "rules that need the loss value, a gradient function or a matrix have no elementwise edge",
        ) from error


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
    step = jax.jit(flat_step(transform, state, params)[0])
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
