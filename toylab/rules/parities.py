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
        message = " ".join(str(error).split())[:160]
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
        raise NoLinearEdge(
            f"the transform cannot be run on weights of shape {shapes} with a gradient alone: {message}",
            "rules that need the loss value, a gradient function or a matrix have no elementwise edge",
        ) from error


# ---------------------------------------------------------------------------------------------------------------
# From a single weight to many: an elementwise rule treats every leaf of the parameters alike.


def spread_roles(single: Roles, transform: optax.GradientTransformation, state: PyTree) -> Roles:
    """The roles for weights whose state is `state` (arrays or shapes), from those of a `single` weight: each leaf's is
    that of its counterpart there.

    Raises ValueError where the state is not shaped like that of a single weight (masks, partitions).
    """
    tree = jax.tree.structure(transform.init(jnp.zeros(())))
    names = {index: name for name, indices in single._asdict().items() for index in indices}
    named = jax.tree.unflatten(tree, [names[index] for index in range(tree.num_leaves)])
    flat = jax.tree.leaves(jax.tree.map(lambda name, part: jax.tree.map(lambda leaf: name, part), named, state))
    return Roles(**{role: tuple(i for i, name in enumerate(flat) if name == role) for role in Roles._fields})


def leaf_roles(single: Roles, transform: optax.GradientTransformation, params: PyTree) -> Roles:
    """Roles of the state leaves for `params`: those of a `single` weight, spread to every leaf that mirrors it.

    The roles of an elementwise rule do not depend on the parameters, and probing them anew costs 2^leaves.
    Where the state is not shaped that way (masks, partitions), they are probed.
    """
    try:
        return spread_roles(single, transform, jax.eval_shape(transform.init, params))
    except ValueError:
        return roles(transform, params)


def confirmed_roles(single: Roles, transform: optax.GradientTransformation, params: PyTree) -> Roles:
    """As `leaf_roles`, but tried at random points of `params` before it is believed; searched for anew if it fails."""
    try:
        state = transform.init(params)
        spread = spread_roles(single, transform, state)
        if _are_roles(spread, transform, state, params):
            return spread
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        pass  # the search says what is the matter
    return roles(transform, params)


# ---------------------------------------------------------------------------------------------------------------
# Probing the step at random points.


class _Probe(NamedTuple):
    """The jitted flat step of a rule with `n` leaves of weights, and where it is probed: from the given state and from
    one some steps `later`, as a first step is often special, and after it a running maximum may not move."""

    step: Callable
    n: int
    gradient_and_weights: Callable[[], list]
    leaves: list
    later: list
    random: np.random.Generator

    def mixed(self, leaves: list, dependent: Container[int]) -> list:
        """The leaves, the dependent ones at random values."""
        return [_random(self.random, leaf) if i in dependent else leaf for i, leaf in enumerate(leaves)]

    def reacting(self, dependent: Container[int]) -> set[int]:
        """The leaves that react to gradient, weights or to a leaf that is known to do so."""
        reacting = set()
        for base in (self.leaves, self.later) * _PROBES:
            results = []
            for _ in range(2):
                mixed = self.mixed(base, dependent)
                results.append(self.step(*self.gradient_and_weights(), *mixed)[self.n :])
            reacting |= {i for i, (a, b) in enumerate(zip(*results, strict=True)) if not np.array_equal(a, b, True)}
        return reacting

    def point(self, dependent: Container[int]) -> tuple[list, list]:
        """Gradient and weights, and a state, at random."""
        drawn = self.gradient_and_weights()
        return drawn, self.mixed(self.later, dependent)


def _probed(transform: optax.GradientTransformation, state: PyTree, params: PyTree) -> _Probe:
    step = jax.jit(flat_step(transform, state, params)[0])
    n = jax.tree.structure(params).num_leaves
    leaves = jax.tree.leaves(state)
    rng = np.random.default_rng(0)

    def gradient_and_weights() -> list:
        return [_random(rng, leaf, 0.1) * (1 if rng.random() < 0.5 else -1) for leaf in 2 * jax.tree.leaves(params)]

    later = leaves
    for _ in range(_PROBES):
        later = step(*gradient_and_weights(), *later)[n:]
    return _Probe(step, n, gradient_and_weights, leaves, later, rng)


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
    probe = _probed(transform, state, params)
    leaves, dependent = probe.leaves, set()
    while not (reacting := probe.reacting(dependent)) <= dependent:
        dependent |= reacting
    rest = sorted(dependent)
    autonomous = [i for i in range(len(leaves)) if i not in dependent]
    if any(not jnp.issubdtype(jnp.result_type(leaves[i]), jnp.floating) for i in rest):
        raise NoLinearEdge("the rule keeps state that is not a real number and depends on the gradient")

    fresh = jax.tree.leaves(transform.init(jax.tree.map(jnp.zeros_like, params)))
    mirror = [fresh[i] if i in dependent else leaf for i, leaf in enumerate(leaves)]
    sign = _mirrored(probe, mirror, rest)
    if len(sign) < len(rest):  # an odd leaf may start elsewhere than at zero, and spoil others
        sign = _mirrored(probe, _without(mirror, rest, sign), rest) | sign

    for i in rest:  # what these runs leave at zero, or in doubt: alone, even if that passes
        if i not in sign:
            gw, state_leaves = probe.point(dependent)
            state_leaves = _without(state_leaves, rest, {**sign, i: 0})
            sign[i] = next((s for s in (1, -1) if _equivariant(probe, gw, state_leaves, {**sign, i: s})), 1)
    if not all(_equivariant(probe, *probe.point(dependent), sign) for _ in range(_PROBES)):
        raise NoLinearEdge("the step is not odd in the gradient: flipping every sign does not flip the update")
    return Roles(tuple(autonomous), tuple(i for i in rest if sign[i] == 1), tuple(i for i in rest if sign[i] == -1))


def _are_roles(known: Roles, transform: optax.GradientTransformation, state: PyTree, params: PyTree) -> bool:
    """Whether these roles pass the tests of `classify` at random points; no others are searched for."""
    probe = _probed(transform, state, params)
    sign = dict.fromkeys(known.slow, 1) | dict.fromkeys(known.fast, -1)
    return probe.reacting(sign) == set(sign) and all(
        _equivariant(probe, *probe.point(sign), sign) for _ in range(_PROBES)
    )


def _mirrored(probe: _Probe, start: list, rest: list[int]) -> dict[int, int]:
    """leaf -> +1 (even) or -1 (odd), from runs under (g, w) and (-g, -w) that begin at ``start``, its own mirror image.

    As many steps as a signal takes through all leaves.  Left out: leaves that stay zero or are neither.
    """
    there = back = start
    possible = {i: {1, -1} for i in rest}
    for _ in range(len(rest) + 2):
        gw = probe.gradient_and_weights()
        there, back = (probe.step(*g, *leaves)[probe.n :] for g, leaves in ((gw, there), ([-x for x in gw], back)))
        for i in rest:
            # rounding adds up over the steps; the assignment is tested sharply afterwards
            possible[i] &= {s for s in (1, -1) if _close(there[i], s * back[i], 1e4)}
    return {i: s.pop() for i, s in possible.items() if len(s) == 1}


def _without(leaves: list, rest: list[int], known: Container[int]) -> list:
    """The unknown leaves at zero, where a flip does not move them."""
    return [jnp.zeros_like(leaf) if i in rest and i not in known else leaf for i, leaf in enumerate(leaves)]


def _equivariant(probe: _Probe, gw: list, leaves: list, sign: dict[int, int]) -> bool:
    step, n = probe.step, probe.n
    leaves = [leaf * 0.1 if sign.get(i) == -1 else leaf for i, leaf in enumerate(leaves)]
    there = step(*gw, *leaves)
    back = step(*(-x for x in gw), *(-leaf if sign.get(i) == -1 else leaf for i, leaf in enumerate(leaves)))
    # an update may be undefined at the first steps (radam's root); whether it is later is checked where it is held
    return all(np.isnan(a).all() or _close(a, -b) for a, b in zip(there[:n], back[:n], strict=True)) and all(
        _close(a, sign[i] * b) for i, (a, b) in enumerate(zip(there[n:], back[n:], strict=True)) if i in sign
    )
