"""Models of the averaged path beside the optimizer's own run: from one point, with one measure of error and cost."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from toylab.models.comparison.errors import Errors, Phases, errors_of, phases_of
from toylab.models.comparison.measured import Measured, measured_steps
from toylab.models.comparison.timed import driven
from toylab.models.kernel import Kernel, advanced
from toylab.models.named import BASELINE
from toylab.models.named import models as every_model
from toylab.models.optimizer import Discrete, discrete_steps
from toylab.models.oscillation import NEAR
from toylab.models.perturbed_copies import perturbed_copies_steps
from toylab.models.predictions import Predictions
from toylab.models.projected import projected_steps
from toylab.numerics.period_two import midpoint
from toylab.problems.problem import Problem
from toylab.rules.edge import edge_data

PyTree = Any

OPTIMIZER = "optimizer"
"""The name of the part of a comparison that measures the optimizer's own run."""

TWIN = "twin"
"""The name, in records, of the run of the optimizer that began next to its own."""

COPIES = 4
"""Runs beside the optimizer's own, of which the second nearest is shown: where it is chaotic they differ much."""


@dataclass(frozen=True)
class ModelRun:
    """One model's path and its errors; see `compare`. `predictions`: one entry a step; `midpoint` as
    in `Measured`; `distances` (T/every,) to the optimizer's midpoints; `along` (T, K): the square of the optimizer's
    oscillation along each axis of the model's, None without axes; `errors`: see there."""

    name: str
    predictions: Predictions
    midpoint: np.ndarray
    distances: np.ndarray
    along: np.ndarray | None
    errors: Errors

    def record(self) -> dict[str, Any]:
        """Name and errors as one flat record, ready for JSON but for the seconds of a run that diverged."""
        return {"name": self.name, **self.errors._asdict()}


@dataclass(frozen=True)
class ModelComparison:
    """The optimizer's run and the models'. `times` (T/every,): the steps of the midpoints; `phases`: of the optimizer's
    run; `travelled`: the distance from its first to its last midpoint; `refused`: model -> why it does not cover the
    rule."""

    problem: str
    steps: int
    times: np.ndarray
    measured: Measured
    runs: tuple[ModelRun, ...]
    phases: Phases
    travelled: float
    refused: dict[str, str]

    @property
    def onset(self) -> int | None:
        """The place of the first edge ratio above .95, see `Phases`."""
        return self.phases.onset

    @property
    def settled(self) -> int | None:
        """The place where the settled phase begins, see `Phases`."""
        return self.phases.settled

    @property
    def all_followed_critical(self) -> float:
        """The share of steps at which all followed eigenvalues are above .95 of the edge: others may be, unseen."""
        return float(np.mean(np.min(np.asarray(self.measured.edge_ratios), axis=1) > NEAR))


class PartialComparison(NamedTuple):
    """A comparison of which `done` parts are over: `latest` names the last one, and `result()` is the comparison so
    far."""

    done: int
    latest: str
    result: Callable[[], ModelComparison]


def parts_of(names: Sequence[str]) -> tuple[str, ...]:
    """The parts of a comparison of the models `names` in their order, beginning with the optimizer's own run."""
    return (OPTIMIZER, *dict.fromkeys([BASELINE, *names]), TWIN)


def compare(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    *,
    models: Sequence[str] | None = None,
    count: int = 4,
    warm_up: int = 0,
    every: int = 10,
) -> ModelComparison:
    """Run the optimizer and the models from the point that it reaches after `warm_up` steps, for `steps` steps.

    `models`: names, by default all of `toylab.models.named.models`. `count`: how many eigenvalues are followed, and may
    be critical at once, in models and measurement.  `every`: the distance between the steps at which paths are
    compared.  All paths are filtered alike by the second-order midpoint.  The stable flow is always the first of the
    models, and the last is no model but the optimizer's `twin`, for orientation: the second nearest of four runs that
    start 1e-6 of the weights' norm away.  What is compared: see `toylab.models.comparison.errors.Errors`.

    Raises ValueError for an unknown model or fewer than 3 steps; NoLinearEdge for a rule without an edge.
    """
    options = {"models": models, "count": count, "warm_up": warm_up, "every": every}
    return deque(comparing(problem, transform, steps, **options), maxlen=1).pop().result()


def comparing(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    *,
    models: Sequence[str] | None = None,
    count: int = 4,
    warm_up: int = 0,
    every: int = 10,
) -> Iterator[PartialComparison]:
    """As `compare`, one part after the other, see `parts_of`: for a caller who wants to look, to save, or to stop in
    between.

    Raises what `compare` raises, at once.
    """
    wanted = tuple(every_model() if models is None else models)
    unknown = [name for name in wanted if name not in every_model()]
    if unknown or steps < 3 or every < 1:
        got = f"models {', '.join(unknown)}" if unknown else f"steps={steps}, every={every}"
        raise ValueError(
            f"compare: got {got}, needs at least 3 steps, every 1 or more, and models of {list(every_model())}"
        )
    known = edge_data(transform, problem.params)
    count = min(count, ravel_pytree(problem.params)[0].size)
    return _parts(problem, transform, known, wanted, steps, count, warm_up, every)


def _parts(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: Any,
    models: Sequence[str],
    steps: int,
    count: int,
    warm_up: int,
    every: int,
) -> Iterator[PartialComparison]:
    start = tuple(
        _warmed(problem, transform, warm_up) if warm_up else discrete_steps(problem, transform).init(problem.params)
    )
    measured, _ = driven(measured_steps(problem, transform, known, count), start, steps, every)
    measured = Measured(*(jnp.asarray(part) for part in measured))
    times = np.arange(1, steps + 1, every)
    phases = phases_of(np.asarray(measured.edge_ratios[:, 0]), times)
    travelled = float(np.linalg.norm(measured.midpoint[-1] - measured.midpoint[0]))
    runs: list[ModelRun] = []
    refused: dict[str, str] = {}

    def so_far(done: int, latest: str) -> PartialComparison:
        result = ModelComparison(problem.name, steps, times, measured, tuple(runs), phases, travelled, dict(refused))
        return PartialComparison(done, latest, lambda: result)

    def judged(
        name: str, predictions: Predictions, path: np.ndarray, along: np.ndarray | None, seconds: float
    ) -> ModelRun:
        with np.errstate(over="ignore", invalid="ignore"):  # what diverged is infinitely far
            distances = np.linalg.norm(np.asarray(path) - np.asarray(measured.midpoint), axis=1)
        errors = errors_of(
            predictions, distances, along, seconds / steps, measured=measured, phases=phases, times=times,
            travelled=travelled, baseline=runs[0].distances if runs else distances,
        )  # fmt: skip
        return ModelRun(name, predictions, path, distances, along, errors)

    first, *names, last = parts_of(models)
    yield so_far(1, first)
    for done, name in enumerate(names, 2):
        try:
            kernel = every_model()[name].steps(problem, transform, known, count=count)
        except ValueError as error:
            refused[name] = str(error)
        else:
            ((path, axes), predictions), seconds = driven(path_steps(kernel), start, steps, every, late=2)
            along = None
            if np.any(axes) and np.all(np.isfinite(axes)):
                (_, along), _ = driven(projected_steps(problem, transform, every), (*start, axes), steps, every)
            runs.append(judged(name, predictions, path, along, seconds))
        yield so_far(done, name)
    copies, seconds = driven(perturbed_copies_steps(problem, transform, COPIES), start, steps, every)
    paths, losses, squares = copies
    twins = [
        judged(last, own_predictions(jnp.asarray(losses[:, i]), jnp.asarray(squares[:, i]), count), paths[:, i], None,
               seconds / COPIES)
        for i in range(COPIES)
    ]  # fmt: skip
    runs.append(_typical(twins))
    yield so_far(len(names) + 2, last)


def own_predictions(loss: Array, square: Array, count: int) -> Predictions:
    """A run of the optimizer as a model of another: its losses (T,) and squared gradients (T,), no averages."""

    def one(loss: Array, square: Array) -> Predictions:
        return Predictions.of(None, loss, jnp.full(count, jnp.nan, loss.dtype), mean_loss=loss, mean_square=square)

    return jax.vmap(one)(loss, square)


def path_steps(kernel: Kernel) -> Kernel:
    """A model with midpoints of its path: the info is ((midpoint, axes), predictions at t), of t = 1 from the third
    step on.

    The first two infos are zeros and mean nothing, so that the model's step is compiled once, in the loop.
    """

    def init(params: PyTree, state: PyTree) -> tuple:
        model = kernel.init(params, state)
        shapes = jax.eval_shape(kernel.step, model)[1]
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return model, ravel_pytree(nothing.params)[0], nothing

    def step(state: tuple) -> tuple[tuple, tuple]:
        model, last, point = state
        after, ahead = kernel.step(model)
        middle = ravel_pytree(point.params)[0]
        smooth = midpoint(last, middle, ravel_pytree(ahead.params)[0])
        return (after, middle, ahead), ((smooth, point.axes), point._replace(params=None, axes=None))

    return Kernel(init, step)


def _typical(copies: Sequence[ModelRun]) -> ModelRun:
    """The run in the middle by its distance at the end, of an even number the nearer one."""
    ends = np.nan_to_num([run.distances[-1] for run in copies], nan=np.inf)
    return copies[int(np.argsort(ends)[(len(copies) - 1) // 2])]


@partial(jax.jit, static_argnames=("transform", "steps"))
def _warmed(problem: Problem, transform: optax.GradientTransformation, steps: int) -> Discrete:
    kernel = discrete_steps(problem, transform)
    return advanced(kernel, kernel.init(problem.params), steps)
