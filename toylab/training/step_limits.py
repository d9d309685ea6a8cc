"""The largest learning rate that is stable at one point of a run, with an error bar: for whoever has to choose one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike
from scipy.optimize import brentq

from toylab.curvature import EigenPair, top_eigenpair
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data, rule_filter
from toylab.rules.errors import NoLinearEdge
from toylab.rules.filter import analyse
from toylab.rules.limits import limit_state
from toylab.rules.matrices import StateSpace, state_space
from toylab.rules.preconditioner import read_inverse_preconditioner, with_coupled_decay

PyTree = Any
Factory = Callable[..., optax.GradientTransformation]

LEARNING_RATES = ("learning_rate", "lr", "step_size")
REFERENCE = 1e-3
"""The learning rate at which a rule is looked at where none is given; P and the answer do not depend on it."""

TOLERANCE = 1e-3
"""Relative residual of the top eigenpair: the learning rate's error bar, and the root of its likely error."""

ROUNDING = 1e3
"""Rounding of a Hessian product, a sum over layers and examples, in units of the dtype's epsilon."""

FURTHEST = 60.0
"""Logarithm of the largest learning rate that is tried, and of the inverse of the smallest."""


class StepLimit(NamedTuple):
    """The largest stable learning rate at one point of a run, and what it rests on.

    `learning_rate` is the best value, `lower` <= it <= `upper` its error bar (see `max_learning_rate`).
    `preconditioned_sharpness` = lambda_max(P^-1 H) with relative `residual` (H + coupled I with coupled decay);
    `threshold`: what it may be at the learning rate `reference`, so that their ratio is the edge ratio there;
    `excluded`: coordinates without a preconditioner (dead features), left out.
    """

    learning_rate: float
    lower: float
    upper: float
    preconditioned_sharpness: float
    residual: float
    reference: float
    threshold: float
    excluded: int

    @property
    def edge_ratio(self) -> float:
        """The preconditioned sharpness over the threshold at `reference`: above 1 an oscillation grows."""
        return self.preconditioned_sharpness / self.threshold


def max_learning_rate(
    problem: Problem, factory: Factory, params: PyTree, state: PyTree = None, **settings: Any
) -> StepLimit:
    """The learning rate at which the rule `factory(learning_rate, **settings)` is at its edge at one point of a run.

    With P and H held as they are at `params` (of `problem`, all its data) and the optimizer's `state` (None: a fresh
    one), every direction oscillates stably below the returned learning rate, and the top one grows above it.  P is
    read off the rule's own next step; the threshold of lambda_max(P^-1 H) is that of the held rule with bias
    corrections at their limit, and the learning rate where it equals lambda_max is solved for numerically, whatever
    the dependence (decay makes it no reciprocal).

    `settings`: the other hyperparameters.  A `learning_rate` among them (or the factory's default) becomes the
    `reference`: where the threshold is reported, and which a state that depends on it was made with.

    Error bar: a Ritz value is at most lambda_max, so `upper` = `learning_rate` is a bound up to rounding; `lower` is
    the learning rate for lambda (1 + residual), a bound if that pair is the top one.  The likely error is a
    fraction residual of the bar.  Where nothing curves upwards the value is what decay alone allows, or inf.

    Assumes that P does not depend on the learning rate (checked) and that the threshold falls as it grows.
    Cost: a cold eigenpair solve, 16 to some hundred Hessian products; the first call for a rule also analyses and
    compiles (seconds).  Not for use under jit: the answer is a number on the host.
    Raises ValueError for a factory without a learning rate and a P that depends on it; NoLinearEdge (a ValueError).

    Example:
        >>> import optax
        >>> import toylab
        >>> problem = toylab.problems.quadratic([4.0, 1.0])
        >>> limit = toylab.max_learning_rate(problem, optax.sgd, problem.params, momentum=0.5)
        >>> round(limit.learning_rate, 4)  # 2 (1 + momentum)/sharpness
        0.75
        >>> round(limit.preconditioned_sharpness, 4)
        4.0
    """
    family, reference = _family(factory, settings)
    transform = _built(family, reference)
    structure, edge = edge_data(transform, params)
    edge_at = _edges(family, reference)
    state = transform.init(params) if state is None else state
    numbers = (reference, edge), (reference / 2, edge._replace(impulse=edge_at(reference / 2)[1]))
    gradient = problem.gradient(params)
    inverse, dependence = _preconditioner(gradient, params, state, *numbers, family=family, structure=structure)
    pair = preconditioned_eigenpair(problem, params, inverse, edge.coupled)
    value, residual, epsilon = float(pair.value), float(pair.residual), float(jnp.finfo(pair.value.dtype).eps)
    sound = np.isfinite(value) and all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    if not sound:
        raise ValueError(
            f"max_learning_rate: got a gradient that is not finite or a curvature of {value}, needs finite params and "
            "loss: look for where the run left the finite numbers"
        )
    if float(dependence) > np.sqrt(epsilon):
        raise ValueError(
            "max_learning_rate: this rule's preconditioner depends on its learning rate, so there is no single P^-1 H "
            "to compare with: watch the edge ratio at each learning rate instead"
        )
    rounding = ROUNDING * epsilon * abs(value)
    upper, best, lower = (
        _solved(edge_at, sought, reference)
        for sought in (value - rounding, value, value + abs(value) * residual + rounding)
    )
    return StepLimit(
        best, lower, upper, value, residual, reference, float(np.asarray(edge.threshold)), int(pair.excluded)
    )


@dataclass(frozen=True)
class Family:
    """A rule whose learning rate is open: hashable, static under jit."""

    factory: Factory
    learning_rate: str
    fixed: tuple[tuple[str, Any], ...]

    def at(self, learning_rate: Any) -> optax.GradientTransformation:
        """The rule with that learning rate."""
        return self.factory(**{self.learning_rate: learning_rate}, **dict(self.fixed))


def _family(factory: Factory, settings: dict[str, Any]) -> tuple[Family, float]:
    """The rule without its learning rate, and the learning rate to look at it with."""
    if not callable(factory):
        raise ValueError(
            f"max_learning_rate: got {type(factory).__name__} as factory, needs a function of the learning rate such "
            "as optax.adam, not built"
        )
    parameters = inspect.signature(factory).parameters
    name = next((name for name in LEARNING_RATES if name in parameters), None)
    if name is None:
        raise ValueError(
            f"max_learning_rate: the factory has no parameter {LEARNING_RATES[0]}, it has {', '.join(parameters)}: "
            "wrap it in a function of learning_rate"
        )
    default = parameters[name].default
    given = settings.get(name, default if isinstance(default, float | int) else REFERENCE)
    fixed = tuple((key, value) for key, value in settings.items() if key != name)
    return Family(factory, name, fixed), float(given)


@lru_cache(maxsize=64)
def _built(family: Family, reference: float) -> optax.GradientTransformation:
    """The rule at its reference: one object for equal families, so that it is analysed once."""
    return family.at(reference)


@lru_cache(maxsize=64)
def _edges(family: Family, reference: float) -> Callable[[float], tuple[float, float]]:
    """Learning rate -> (threshold, impulse) there; threshold 0 if nothing is stable."""
    weight, parts = jnp.zeros(()), rule_filter(_built(family, reference)).roles
    assert parts is not None, "held_filter reads them off the rule"

    @jax.jit
    def space(learning_rate: Array) -> StateSpace:
        transform = family.at(learning_rate)
        return state_space(transform, parts, limit_state(transform, weight, parts))

    def edge_at(learning_rate: float) -> tuple[float, float]:
        try:
            there = analyse(jax.tree.map(np.asarray, space(learning_rate)))
        except NoLinearEdge:
            return 0.0, np.nan
        return there.threshold, there.impulse

    return edge_at


@jax.jit
def preconditioned_eigenpair(problem: Problem, params: PyTree, inverse: PyTree, coupled: ArrayLike) -> EigenPair:
    """The top eigenpair of P^-1/2 (H + coupled I) P^-1/2 at `params`, from a cold start; `inverse`: the diagonal of
    P^-1, a pytree.  A program of its own, which serves all rules on one problem.
    """
    product = with_coupled_decay(problem.hessian(params), coupled)
    cold = jax.tree.map(jnp.zeros_like, params)
    return top_eigenpair(product, cold, inverse_preconditioner=inverse, products=16, tolerance=TOLERANCE, limit=512)


@partial(jax.jit, static_argnames=("family", "structure"))
def _preconditioner(
    gradient: PyTree,
    params: PyTree,
    state: PyTree,
    at: tuple[Array, EdgeData],
    elsewhere: tuple[Array, EdgeData],
    *,
    family: Family,
    structure: RuleStructure,
) -> tuple[PyTree, Array]:
    """P^-1 at one learning rate, and its largest relative difference from that at another."""

    def inverse(learning_rate: Array, edge: EdgeData) -> PyTree:
        return read_inverse_preconditioner(family.at(learning_rate), structure, edge, gradient, state, params)

    here, there = inverse(*at), inverse(*elsewhere)
    differences = jax.tree.map(lambda a, b: jnp.max(jnp.where(jnp.isfinite(a), jnp.abs(b / a - 1), 0)), here, there)
    return here, jnp.max(jnp.stack(jax.tree.leaves(differences)))


def _solved(edge_at: Callable[[float], tuple[float, float]], value: float, near: float) -> float:
    """The learning rate whose threshold is `value`; 0 or inf if it lies beyond all numbers."""

    def margin(logarithm: float) -> float:
        threshold = edge_at(float(np.exp(logarithm)))[0]
        return float(np.clip(threshold / value - 1, -1, 1)) if value > 0 else float(np.sign(threshold) or -1)

    threshold = edge_at(near)[0]
    reciprocal = threshold > 0 and value > 0 and np.isfinite(threshold)
    guess = float(np.log(near) + (np.log(threshold / value) if reciprocal else 0))
    low, high, width = guess, guess, 1e-6
    while margin(high) > 0:
        low, high, width = high, high + width, 8 * width
        if high > FURTHEST:
            return np.inf
    while margin(low) <= 0:
        low, high, width = low - width, low, 8 * width
        if low < -FURTHEST:
            return 0.0
    return float(np.exp(brentq(margin, low, high, xtol=1e-14, rtol=1e-15)))
