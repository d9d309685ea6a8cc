"""The edge that a rule's edge ratio is measured against: computed on the host before a run, passed into it as data."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from toylab.rules.errors import NoLinearEdge
from toylab.rules.filter import Filter, analyse, held_filter
from toylab.rules.limits import limit_state
from toylab.rules.matrices import StateSpace, state_space
from toylab.rules.parities import Roles, leaf_roles

PyTree = Any


class RuleStructure(NamedTuple):
    """The discrete part of a rule's edge, which runs that share a compiled program have in common: hashable, static
    under jit.

    `roles` are those of the optimizer's state for the parameters at hand; `delay` is how many steps late the gradient
    acts; `no_average_because` says why the rule's oscillation at its edge is not one of period two around a mean that
    follows the mean gradient, as all central models assume, and is empty where it is.
    """

    roles: Roles
    delay: int
    no_average_because: str = ""


class EdgeData(NamedTuple):
    """The numbers of a rule's edge, each () or with an axis of runs.

    `threshold` is the critical lambda_max(P^-1 (H + coupled I)), `impulse` the first nonzero impulse coefficient of
    eta Q, `coupled` the coupled weight decay, `gain` is eta Q(1), and `decay` is what the rule takes off a unit weight
    by itself in one step, eta omega; both decays are 0 for most rules.
    """

    threshold: ArrayLike
    impulse: ArrayLike
    coupled: ArrayLike
    gain: ArrayLike = jnp.nan
    decay: ArrayLike = 0.0


AT_EDGE = 0.95
"""The edge ratio from which on a direction counts as being at the edge: a plateau is reached there.  Below 1, because
the ratio of a run that sits at its edge fluctuates around 1 by a few hundredths; above what progressive sharpening
passes through on its way."""

REMEMBERED = 64
"""Analyses that are kept: a sweep over that many built rules finds all of them again; each is a few small arrays."""


def edge_data(transform: optax.GradientTransformation, params: PyTree) -> tuple[RuleStructure, EdgeData]:
    """The structure and the edge of one built rule on parameters like `params` (only shapes and dtypes count).

    A rule is analysed once, on the host, also while the caller is being traced, and remembered for this `transform`:
    build it outside of loops. A transform that cannot be hashed is analysed at every call. The numbers are plain
    floats. Raises NoLinearEdge with the reason.
    """
    leaves, tree = jax.tree.flatten(params)
    shapes = tuple((jnp.shape(leaf), np.dtype(jnp.result_type(leaf))) for leaf in leaves)
    return _remembered(_edge_data, transform)(transform, tree, shapes)


def rule_filter(transform: optax.GradientTransformation) -> Filter:
    """`held_filter` of a built rule, remembered as `edge_data` is. Raises NoLinearEdge with the reason."""
    return _remembered(_rule_filter, transform)(transform, np.dtype(jnp.result_type(float)))


def _remembered(function: Any, transform: Any) -> Callable:
    """`function` with its cache, or without it for a transform that cannot be hashed."""
    try:
        hash(transform)
    except TypeError:
        return function.__wrapped__
    return function


@lru_cache(maxsize=REMEMBERED)
def _rule_filter(transform: optax.GradientTransformation, precision: np.dtype) -> Filter:
    del precision  # of the analysis, a part of the key only
    with jax.ensure_compile_time_eval():
        return held_filter(transform)


@lru_cache(maxsize=REMEMBERED)
def _edge_data(transform: optax.GradientTransformation, tree: Any, shapes: tuple) -> tuple[RuleStructure, EdgeData]:
    analysed = rule_filter(transform)
    with jax.ensure_compile_time_eval():
        params = jax.tree.unflatten(tree, [jnp.zeros(shape, dtype) for shape, dtype in shapes])
        return _structure(analysed, transform, params), _numbers(analysed)


def _structure(analysed: Filter, transform: optax.GradientTransformation, params: PyTree) -> RuleStructure:
    assert analysed.roles is not None, "held_filter reads them off the rule"
    return RuleStructure(leaf_roles(analysed.roles, transform, params), analysed.delay, _no_average(analysed))


def _numbers(analysed: Filter) -> EdgeData:
    numbers = analysed.threshold, analysed.impulse, analysed.coupled, analysed.gain_dc, analysed.decay
    return EdgeData(*map(float, numbers))


def _no_average(analysed: Filter) -> str:
    if analysed.crossing == "neimark_sacker":
        return f"it crosses its edge as a complex pair, at the angle {analysed.angle:.3g}, not by a flip"
    if analysed.structural:
        return "a mode of its own memory never fades"
    if not (np.isfinite(analysed.gain_dc) and analysed.gain_dc > 0):
        return f"its averaged steps do not follow the mean gradient: eta Q(1) = {analysed.gain_dc:.3g}"
    return ""


def edge_data_of_runs(
    factory: Callable[..., optax.GradientTransformation], runs: dict[str, np.ndarray], params: PyTree
) -> tuple[RuleStructure, EdgeData]:
    """As `edge_data` for many runs at once: `runs` maps hyperparameters to arrays (m,), and so are the numbers.

    The held step is differentiated for all runs in one program; only the roots are computed one by one. A run without a
    stable window gets NaN. Raises NoLinearEdge if the first run has none, ValueError if delays differ.
    """
    first = factory(**{name: values[0] for name, values in runs.items()})
    analysed = held_filter(first)  # built here, so nobody else asks for it: not worth remembering
    structure, weight, parts = _structure(analysed, first, params), jnp.zeros(()), analysed.roles
    assert parts is not None, "held_filter reads them off the rule"

    def space(run: dict[str, ArrayLike]) -> StateSpace:
        transform = factory(**run)
        return state_space(transform, parts, limit_state(transform, weight, parts))

    spaces = jax.tree.map(np.asarray, jax.jit(jax.vmap(space))(runs))
    rows = []
    for index in range(len(spaces.inject)):
        try:
            one = analyse(jax.tree.map(lambda leaf, index=index: leaf[index], spaces))
        except NoLinearEdge:
            rows.append((np.nan,) * len(EdgeData._fields))
            continue
        if one.delay != structure.delay:
            raise ValueError(
                f"sweep: the gradient acts after {structure.delay} steps in one member and after {one.delay} in "
                "another: sweep them apart"
            )
        rows.append(_numbers(one))
    return structure, EdgeData(*np.array(rows).T)
