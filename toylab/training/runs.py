"""One run: `train`, and the same in parts for a caller who wants to look, to save or to stop in between."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from toylab.numerics.json_numbers import number_or_null
from toylab.observing.chosen import Observers, observers
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.training.checks import check_problem, check_rule
from toylab.training.driver import Driven, Progress, drive, last_of
from toylab.training.environment import versions
from toylab.training.loop import AnalysedRule, Carry, advance, begin
from toylab.training.options import ObservationPlan, RunOptions, observation_plan
from toylab.training.records import Status, Trajectory


def train(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    observe: Observers = observers(),
    every: int = 1,
    chunk: int = 256,
    diverge_above: float = float("inf"),
    progress: Progress | None = None,
    batch_size: int | None = None,
    batch_seed: int = 0,
) -> Trajectory:
    """Run `transform` on `problem` for `steps` steps, as optax's own loop would.

    Iterate t = 0 ... steps - 1 is observed before its step: consecutive pairs (t, t + 1) every `every` steps,
    all if `every` <= 2. At most `chunk` steps are run between two calls of `progress(done, steps, latest records)`;
    it bounds memory and does not change the result. `batch_size`: each step uses the gradient of that many
    examples, drawn anew without replacement from `batch_seed` (None: of all examples); observers look at all examples.
    A run whose loss, gradient or next parameters are not
    finite, or whose loss exceeds `diverge_above`, freezes at its last finite iterate with a status; nothing
    is raised for it.

    Raises ValueError for steps, every, chunk or batch_size below 1, a batch larger than the data, or for something that
    is no Problem or no optimizer; NoLinearEdge (a ValueError) if the edge ratio is asked for and the rule has none.

    Example:
        >>> import optax
        >>> import toylab
        >>> problem = toylab.problems.quadratic([1.0, 2.0])
        >>> run = toylab.train(problem, optax.sgd(0.5), steps=3, observe=toylab.observers(edge_ratio=True))
        >>> run.loss.tolist()
        [1.5, 0.125, 0.03125]
        >>> [round(float(ratio), 4) for ratio in run.edge_ratio]
        [0.5, 0.5, 0.5]
    """
    options = RunOptions(steps, every, chunk, diverge_above, batch_size, batch_seed)
    return last_of(training(problem, transform, options, observe), steps, progress).result()


class Partial(NamedTuple):
    """A run, or the runs of a sweep, after `done` of the steps: the `latest` records, and on demand the `result` so
    far, a Trajectory or a Sweep, in which what is not at its end has the status `interrupted`.
    """

    done: int
    latest: dict[str, np.ndarray]
    result: Callable[[], Any]


def training(
    problem: Problem, transform: optax.GradientTransformation, options: RunOptions, observe: Observers = observers()
) -> Iterator[Partial]:
    """As `train`, one chunk after the other: for a caller who wants to look, to save, or to stop in between.

    Raises what `train` raises, at once.
    """
    check_problem(problem)
    check_rule(transform, problem)
    plan, steps = observation_plan(problem, options), options.steps
    structure, numbers = edge_data(transform, problem.params) if observe.needs_edge else (None, None)
    choices = {"transform": transform, "observe": observe}
    carry = _begin_one(problem, jax.random.key(options.batch_seed), **choices)
    config = configuration(problem, options, observe)

    def run_chunk(carry: Carry, start: int, stop: int) -> tuple[Carry, dict[str, Array]]:
        bound = float(options.diverge_above)
        return _advance_one(problem, numbers, carry, start, stop, bound, structure=structure, plan=plan, **choices)

    def trajectory(so_far: Driven) -> Trajectory:
        status, records = Status(int(so_far.carry.status)), so_far.records()
        if status == Status.completed and so_far.done < steps:
            status = Status.interrupted
        observed = plan.observed(so_far.done if status == Status.interrupted else steps)
        last = so_far.carry
        return Trajectory(observed, records, status, int(last.taken), last.params, last.state, config)

    chunks = drive(run_chunk, carry, plan, steps, 0)
    return (Partial(so_far.done, so_far.latest, partial(trajectory, so_far)) for so_far in chunks)


def configuration(problem: Problem, options: RunOptions, observe: Observers) -> dict[str, Any]:
    """What was run, as JSON."""
    return {
        "problem": problem.name,
        "steps": options.steps,
        "every": options.every,
        "observe": dict(observe.chosen),
        "batch_size": options.batch_size,
        "batch_seed": options.batch_seed,
        "precision": str(jnp.result_type(float)),
        "diverge_above": number_or_null(options.diverge_above),
        "versions": versions(),
    }


@partial(jax.jit, static_argnames=("transform", "observe"))
def _begin_one(problem: Problem, key: Array, *, transform: optax.GradientTransformation, observe: Observers) -> Carry:
    return begin(problem, AnalysedRule(transform, None, None), observe, key)


@partial(jax.jit, static_argnames=("transform", "structure", "observe", "plan"))
def _advance_one(
    problem: Problem,
    numbers: EdgeData | None,
    carry: Carry,
    start: int,
    stop: int,
    bound: float,
    *,
    transform: optax.GradientTransformation,
    structure: RuleStructure | None,
    observe: Observers,
    plan: ObservationPlan,
) -> tuple[Carry, dict[str, Array]]:
    return advance(problem, AnalysedRule(transform, structure, numbers), observe, plan, carry, start, stop, bound)
