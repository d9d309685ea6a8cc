"""Many runs at once: a grid of hyperparameters times seeds, one compiled program whatever the values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.observing.chosen import Observers, observers
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data_of_runs
from toylab.training.checks import check_problem, check_rule
from toylab.training.driver import Driven, Progress, drive, last_of
from toylab.training.grids import (
    Factory,
    Source,
    built_rule,
    checked_grid,
    checked_seeds,
    combinations,
    factory_attribute,
    hashable_settings,
    same_problem,
)
from toylab.training.loop import AnalysedRule, Carry, advance, begin
from toylab.training.options import ObservationPlan, RunOptions, observation_plan
from toylab.training.records import Status, Sweep
from toylab.training.runs import Partial, configuration

PyTree = Any


def sweep(
    problem: Source,
    factory: Factory,
    grid: Mapping[str, ArrayLike | Sequence[float]],
    steps: int,
    seeds: int | ArrayLike = 1,
    observe: Observers = observers(),
    every: int = 1,
    fixed: Mapping[str, Any] = {},
    chunk: int = 256,
    diverge_above: float = float("inf"),
    one_by_one: bool = False,
    progress: Progress | None = None,
    batch_size: int | None = None,
    batch_seed: int = 0,
) -> Sweep:
    """Train every combination of a grid, `factory(**combination, **fixed)`, on a problem from every seed.

    `grid`: hyperparameter -> its values, one axis each; all combinations are run. The values are data:
    the factory is called inside the compiled program with traced numbers, so new values compile nothing.
    `fixed`: what is not swept and may be no number (`nesterov=True`); part of the program. `problem`: a
    Problem, or a function from a seed to one that can be traced, such as `lambda key: digits_mlp(seed=key)`.
    `seeds`: n for the keys `jax.random.key(0)` ... `key(n - 1)`, or any array to be mapped over along its
    first axis: keys, spectra, starts. `one_by_one` computes the runs one after the other in the same program
    (`lax.map`) instead of side by side (`vmap`): less memory, and better where batching weights is slow, as with
    convolutions on a CPU. `steps`, `observe`, `every`, `chunk`, `diverge_above`, `progress`, `batch_size` as in
    `toylab.train`; the latest records have the runs' axes. Each seed draws its own mini-batches, the same for all
    its hyperparameters. A run that diverges freezes and does not touch the others.

    Raises ValueError for an empty or misspelt grid, for seeds that do not fit the problem, and what
    `toylab.train` raises.

    Example:
        >>> import optax
        >>> import toylab
        >>> grid = {"learning_rate": [0.5, 1.5, 4.0], "momentum": [0.0, 0.5]}
        >>> runs = toylab.sweep(toylab.problems.quadratic([1.0]), optax.sgd, grid, 200, diverge_above=100.0)
        >>> runs.loss.shape  # the grid's axes, the seeds, the observed steps
        (3, 2, 1, 200)
        >>> [[toylab.Status(int(status)).name for status in row] for row in runs.status[..., 0]]  # 2 (1 + momentum)
        [['completed', 'completed'], ['completed', 'completed'], ['diverged', 'diverged']]
    """
    options = RunOptions(steps, every, chunk, diverge_above, batch_size, batch_seed)
    parts = sweeping(problem, factory, grid, options, seeds, observe, fixed, one_by_one)
    return last_of(parts, steps, progress).result()


def sweeping(
    problem: Source,
    factory: Factory,
    grid: Mapping[str, ArrayLike | Sequence[float]],
    options: RunOptions,
    seeds: int | ArrayLike = 1,
    observe: Observers = observers(),
    fixed: Mapping[str, Any] = {},
    one_by_one: bool = False,
) -> Iterator[Partial]:
    """As `sweep`, one chunk of steps of all runs after the other: to look, to save, or to stop in between.

    Raises what `sweep` raises: what is wrong with the arguments, at once.
    """
    axes = checked_grid(grid, factory, fixed)
    keys, make = checked_seeds(problem, seeds)
    runs = combinations(axes)
    first = {name: values[0] for name, values in runs.items()}
    data = problem if make is same_problem else None
    example = make(jax.tree.map(lambda leaf: leaf[0], keys), data)
    check_problem(example)
    plan, steps = observation_plan(example, options), options.steps
    check_rule(built_rule(factory, first, fixed), example)
    built = partial(factory, **fixed)
    structure, edges = edge_data_of_runs(built, runs, example.params) if observe.needs_edge else (None, None)
    # in the precision of the weights, as plain numbers would act: a wider array would widen the optimizer's state
    precision = jnp.result_type(*jax.tree.leaves(example.params))
    runs = {name: values.astype(precision) for name, values in runs.items()}
    choices = {
        "factory": factory,
        "fixed": hashable_settings(fixed),
        "make": make,
        "observe": observe,
        "one_by_one": one_by_one,
    }
    drawing = jax.vmap(partial(jax.random.fold_in, jax.random.key(options.batch_seed)))
    carry = _begin_all(data, (keys, drawing(jnp.arange(len(keys)))), runs, **choices)

    def run_chunk(carry: Carry, start: int, stop: int) -> tuple[Carry, dict[str, Array]]:
        bound = float(options.diverge_above)
        return _advance_all(
            data, keys, runs, edges, carry, start, stop, bound, structure=structure, plan=plan, **choices
        )

    shape = tuple(len(values) for values in axes.values())
    config = configuration(example, options, observe) | {
        "factory": f"{factory.__module__}:{factory_attribute(factory, '__qualname__')}",
        "fixed": {name: repr(value) for name, value in fixed.items()},
    }

    def on_grid(values: Array | np.ndarray) -> Any:
        return values.reshape(*shape, *values.shape[1:])

    def result(so_far: Driven) -> Sweep:
        status = np.asarray(so_far.carry.status)
        unfinished = (status == Status.completed) & (so_far.done < steps)
        return Sweep(
            plan.observed(so_far.done if unfinished.any() else steps),
            {name: on_grid(values) for name, values in so_far.records().items()},
            on_grid(np.where(unfinished, int(Status.interrupted), status)),
            on_grid(np.asarray(so_far.carry.taken)),
            jax.tree.map(on_grid, so_far.carry.params),
            jax.tree.map(on_grid, so_far.carry.state),
            config,
            axes,
        )

    chunks = drive(run_chunk, carry, plan, steps, 2)
    return (Partial(so_far.done, so_far.latest, partial(result, so_far)) for so_far in chunks)


def _mapped(function: Callable, one_by_one: bool) -> Callable:
    """`function` over the first axis of its one argument, a pytree."""
    return (lambda batch: lax.map(function, batch)) if one_by_one else jax.vmap(function)


@partial(jax.jit, static_argnames=("factory", "fixed", "make", "observe", "one_by_one"))
def _begin_all(
    data: Problem | None,
    keys: tuple[PyTree, Array],
    runs: dict[str, Array],
    *,
    factory: Factory,
    fixed: tuple,
    make: Callable,
    observe: Observers,
    one_by_one: bool,
) -> Carry:
    def of_one(hyperparameters: dict[str, Array]) -> Carry:
        rule = AnalysedRule(factory(**hyperparameters, **dict(fixed)), None, None)
        return _mapped(lambda both: begin(make(both[0], data), rule, observe, both[1]), one_by_one)(keys)

    return _mapped(of_one, one_by_one)(runs)


@partial(jax.jit, static_argnames=("factory", "fixed", "make", "observe", "one_by_one", "structure", "plan"))
def _advance_all(
    data: Problem | None,
    keys: PyTree,
    runs: dict[str, Array],
    edges: EdgeData | None,
    carry: Carry,
    start: int,
    stop: int,
    bound: float,
    *,
    factory: Factory,
    fixed: tuple,
    make: Callable,
    observe: Observers,
    one_by_one: bool,
    structure: RuleStructure | None,
    plan: ObservationPlan,
) -> tuple[Carry, dict[str, Array]]:
    # The problem is made anew inside: what does not depend on the seed then stays one array for the whole batch, and
    # what the loop does not use (the start) is never computed.
    def of_one(hyperparameters: dict[str, Array], edges: EdgeData | None, carry: Carry) -> tuple:
        rule = AnalysedRule(factory(**hyperparameters, **dict(fixed)), structure, edges)

        def one(both: tuple) -> tuple[Carry, dict[str, Array]]:
            key, carry = both
            return advance(make(key, data), rule, observe, plan, carry, start, stop, bound)

        return _mapped(one, one_by_one)((keys, carry))

    return _mapped(lambda batch: of_one(*batch), one_by_one)((runs, edges, carry))
