"""What an observer is, and everything it may look at."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from toylab.curvature import EigenPair
from toylab.numerics.period_two import midpoint
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any


class Moment(NamedTuple):
    """Everything an observer may look at: one iterate w_t, before its step is taken.

    `state` is the optimizer's before the step; `loss`, `grads` and `hvp` (the Hessian at `params` as a linear map on
    pytrees) are of all examples, `step_grads` is the gradient that the step uses, of a mini-batch if there is one;
    `previous` and `following` are w_{t-1} (w_0 at the start) and w_{t+1}; `structure` and `edge` are the rule's (see
    `toylab.rules.edge`), None when no observer needs them; `pairs` are as many top eigenpairs of the Hessian as
    some observer needs, None if none does, and `hvp` is None if no observer needs curvature; `count`
    numbers the observations of a run from 0 and is the same for all runs of a batch; `run_key` is the random key of
    the run and `number` the step's.
    """

    problem: Problem
    transform: optax.GradientTransformation
    structure: RuleStructure | None
    edge: EdgeData | None
    params: PyTree
    state: PyTree
    previous: PyTree
    following: PyTree
    loss: Array
    grads: PyTree
    step_grads: PyTree
    hvp: Callable[[PyTree], PyTree] | None
    run_key: Array
    number: Array
    count: Array
    pairs: EigenPair | None = None

    @property
    def key(self) -> Array:
        """What an observer draws from at this step: independent of the step's mini-batch."""
        return step_keys(self.run_key, self.number)[1]

    @property
    def midpoint(self) -> PyTree:
        """(w_{t-1} + 2 w_t + w_{t+1})/4: the iterate without its oscillation of period two, up to third differences."""
        return midpoint(self.previous, self.params, self.following)


def step_keys(key: Array, number: Array) -> tuple[Array, Array]:
    """The random keys of step `number` of a run: for its mini-batch, and for what observers draw."""
    one, other = jax.random.split(jax.random.fold_in(key, number))
    return one, other


def no_memory(params: PyTree) -> tuple[()]:
    """The memory of an observer that keeps none."""
    del params
    return ()


class Observer(NamedTuple):
    """One thing to measure: `observe(memory, moment) -> (memory, {record name: array})`, beginning with
    `init(params)`. Pure; for jit and vmap. `pairs`: how many entries of `moment.pairs` it reads; `needs_edge`: whether
    it needs the rule's threshold, so that rules without one are refused.
    """

    observe: Callable[[PyTree, Moment], tuple[PyTree, dict[str, Array]]]
    init: Callable[[PyTree], PyTree] = no_memory
    pairs: int = 0
    needs_edge: bool = False


def stateless(records: Callable[[Moment], dict[str, Array]], pairs: int = 0, needs_edge: bool = False) -> Observer:
    """The observer that looks at each moment alone."""
    return Observer(lambda memory, moment: (memory, records(moment)), pairs=pairs, needs_edge=needs_edge)
