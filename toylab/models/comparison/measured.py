"""Models of the averaged path beside the optimizer's own run: from one point, with one measure of error and cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from scipy.ndimage import gaussian_filter1d

from toylab.curvature import Track, begin_track
from toylab.models.comparison.timed import driven
from toylab.models.kernel import Kernel
from toylab.models.look import edge_ratios, leading_pairs, reciprocal
from toylab.models.mean_step import MeanStep
from toylab.models.named import MODELS
from toylab.models.predictions import Predictions
from toylab.models.projected import projected_steps
from toylab.models.twins import twin_steps
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data

PyTree = Any

PRODUCT, THIRD = 2.0, 4.0
"""A Hessian product and a third derivative in gradients: passes over the network, forward over reverse once and twice.
What they cost on a machine is in the seconds."""

NEAR = 0.95
"""Eigenvalues above this fraction of the edge are counted as critical; the settled phase begins after it is crossed."""

WINDOW = 200
"""Steps over which losses, edge ratios and variances are averaged before they are compared."""

SMOOTHINGS = (10, 20)
"""Widths, in steps, of the Gaussian that the loss is smoothed by for its pointwise error."""

TWINS = 4
"""Runs beside the optimizer's own, of which the second nearest is shown: where it is chaotic they differ much."""

TWIN = "twin"


class Measured(NamedTuple):
    """The optimizer's run, one entry a step t = 1, 2, ... (the step leaves w_t; t = 0 has no midpoint).

    `midpoint` (T/every, p): (w_{t-1} + 2 w_t + w_{t+1})/4, every so many steps. `loss`, `square` (T,): L and |grad L|^2
    at w_t. `edge_ratios` (T, K): at the midpoint, with P of the step from w_t. `variance` (T,): o^T P o with o =
    (w_{t-1} - 2 w_t + w_{t+1})/4, what oscillates with period two.
    """

    midpoint: Array
    loss: Array
    square: Array
    edge_ratios: Array
    variance: Array


@dataclass(frozen=True)
class ModelRun:
    """One model's path and its errors; see `compare`. `averages`: its predictions, one entry a step; `midpoint` as
    in `Measured`; `distances` (T/every,) to the optimizer's midpoints; `along` (T, K): the square of the optimizer's
    oscillation along each axis of the model's, None without axes; `errors`: the record of the comparison."""

    name: str
    averages: Predictions
    midpoint: np.ndarray
    distances: np.ndarray
    along: np.ndarray | None
    errors: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The optimizer's run and the models'. `times` (T/every,) belong to the midpoints; `onset`: the place, in arrays of
    one entry a step (0 is t = 1), of the first edge ratio above .95, or None; `settled`: where the settled phase begins
    in them, or None; `travelled`: the distance from the first to the last midpoint; `refused`: model -> why it does not
    cover the rule."""

    problem: str
    steps: int
    times: np.ndarray
    measured: Measured
    runs: tuple[ModelRun, ...]
    onset: int | None
    settled: int | None
    travelled: float
    refused: dict[str, str]

    @property
    def crowded(self) -> float:
        """The share of steps at which all followed eigenvalues are above .95 of the edge: others may be, unseen."""
        return float(np.mean(np.min(np.asarray(self.measured.edge_ratios), axis=1) > NEAR))


def compare(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    *,
    models: Sequence[str] = tuple(MODELS),
    count: int = 4,
    warm_up: int = 0,
    every: int = 10,
    said: Callable[[str], None] = lambda line: None,
    finished: Callable[[Comparison], None] = lambda so_far: None,
) -> Comparison:
    """Run the optimizer and the models from the point that it reaches after `warm_up` steps, for `steps` steps.

    `count`: how many eigenvalues are followed, and may be critical at once, in models and measurement.  `every`: the
    distance between the steps at which paths are compared.  All paths are filtered alike by the second-order midpoint.
    The stable flow is always the first of the models, and the last is no model but the optimizer's `twin`, for
    orientation: the second nearest of four runs that start 1e-6 of the weights' norm away.  `said` is called with the
    name of each part as it begins, `finished` with the comparison so far after each model that ended.

    The errors of a model, each None where it does not say, it diverged or there is no such phase:
    `distance`: at the end, over the distance travelled; `distance_ratio`: the stable flow's over this one's, at the
    end; `onset_ratio`: the same half-way between the onset and the settled phase; `overshoot_ratio`: the same for mean
    distances in the first overshoot, from the onset to where the largest edge ratio first falls below 1 again;
    `loss_error`, `edge_ratio_error`: mean error of the averages over windows of about 200 steps of the loss and the
    largest edge ratio, over the mean of these averages; `gradient_error`, `variance_error`: relative error of the
    average over the whole phase of the squared gradient and of the oscillation's total variance, which come in bursts;
    `axis_error`: the same along each principal axis that the model gives to the oscillation, the absolute errors added
    up, over the oscillation's total variance;
    `critical_error`: mean absolute error of the number of edge ratios above .95; `smoothed_10`, `smoothed_20`: mean
    relative error of the loss, both smoothed by a Gaussian of that many steps.  These are taken in the settled phase,
    the second half of what follows the onset.
    `gradients_per_step`: with a Hessian product as 2 and a third derivative as 4; `seconds_per_step`: without
    compilation, of this process; `unconverged`: the share of steps whose solvers missed their tolerance.

    Raises ValueError for an unknown model or fewer than 3 steps; NoLinearEdge for a rule without an edge.
    """
    unknown = [name for name in models if name not in MODELS]
    if unknown or steps < 3 or every < 1:
        got = f"models {', '.join(unknown)}" if unknown else f"steps={steps}, every={every}"
        raise ValueError(f"compare: got {got}, needs at least 3 steps, every 1 or more, and models of {list(MODELS)}")
    known = edge_data(transform, problem.params)
    count = min(count, ravel_pytree(problem.params)[0].size)
    params, state = problem.params, transform.init(problem.params)
    if warm_up:
        params, state = _warmed(problem, transform, params, state, warm_up)
    said("optimizer")
    measured, _ = driven(_observed(problem, transform, known, count), (params, state), steps, every)
    measured = Measured(*(jnp.asarray(part) for part in measured))
    times = np.arange(1, steps + 1, every)
    onset, settled = _phases(np.asarray(measured.edge_ratios[:, 0]), steps)
    travelled = float(np.linalg.norm(measured.midpoint[-1] - measured.midpoint[0]))
    runs: list[ModelRun] = []
    refused: dict[str, str] = {}

    def so_far() -> Comparison:
        told = tuple(runs), onset, settled, travelled, dict(refused)
        return Comparison(problem.name, steps, times, measured, *told)

    def judged(
        averages: Predictions, midpoint: np.ndarray, along: np.ndarray | None, seconds: float
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The distances of a path from the optimizer's, and its errors."""
        with np.errstate(over="ignore", invalid="ignore"):  # what diverged is infinitely far
            distances = np.linalg.norm(np.asarray(midpoint) - np.asarray(measured.midpoint), axis=1)
        stable = runs[0].distances if runs else distances
        errors = _errors(measured, averages, distances, stable, along, times, onset, settled)
        errors["distance"] = _number(_share(errors["distance"], travelled))
        return distances, {**errors, "seconds_per_step": seconds / steps}

    for name in dict.fromkeys(["stable_flow", *models]):
        said(name)
        try:
            kernel = MODELS[name](problem, transform, known, count=count)
        except ValueError as error:
            refused[name] = str(error)
            continue
        ((midpoint, axes), averages), seconds = driven(_followed(kernel), (params, state), steps, every, late=2)
        along = None
        if np.any(axes) and np.all(np.isfinite(axes)):
            kernel = projected_steps(problem, transform, every)
            (_, along), _ = driven(kernel, (params, state, axes), steps, every)
        distances, errors = judged(averages, midpoint, along, seconds)
        runs.append(ModelRun(name, averages, midpoint, distances, along, {"name": name, **errors}))
        finished(so_far())
    said(TWIN)
    (midpoints, losses, squares), seconds = driven(twin_steps(problem, transform, TWINS), (params, state), steps, every)
    twins = []
    for i in range(TWINS):
        averages = _own_predictions(jnp.asarray(losses[:, i]), jnp.asarray(squares[:, i]), count)
        distances, errors = judged(averages, midpoints[:, i], None, seconds / TWINS)
        twins.append(ModelRun(TWIN, averages, midpoints[:, i], distances, None, {"name": TWIN, **errors}))
    runs.append(_typical(twins))
    finished(so_far())
    return so_far()


def _own_predictions(loss: Array, square: Array, count: int) -> Predictions:
    """What a run of the optimizer says of itself: losses (T,) and squared gradients (T,), no averages."""

    def one(loss: Array, square: Array) -> Predictions:
        return Predictions.of(None, loss, jnp.full(count, jnp.nan, loss.dtype), mean_loss=loss, mean_square=square)

    return jax.vmap(one)(loss, square)


def _typical(twins: Sequence[ModelRun]) -> ModelRun:
    """The run in the middle by its distance at the end, of an even number the nearer one."""
    ends = np.nan_to_num([run.distances[-1] for run in twins], nan=np.inf)
    return twins[int(np.argsort(ends)[(len(twins) - 1) // 2])]


def _share(distance: float, travelled: float) -> float:
    """Over the distance travelled, or another one; nan where that is zero."""
    return distance / travelled if travelled else float("nan")


def _observed(
    problem: Problem, transform: optax.GradientTransformation, known: tuple[RuleStructure, EdgeData], count: int
) -> Kernel:
    """The optimizer with what is measured of it; its state holds the last iterate as well, the first step is t = 1."""
    rule = MeanStep(transform, *known, problem.params)

    def init(params: PyTree, state: PyTree) -> tuple:
        gradient = problem.gradient(params)
        updates, after = transform.update(gradient, state, params)
        return params, optax.apply_updates(params, updates), after, begin_track(params, count)

    def step(now: tuple[PyTree, PyTree, PyTree, Track]) -> tuple[tuple, Measured]:
        before, params, state, track = now
        loss, grads = problem.value_and_gradient(params)
        updates, after = transform.update(grads, state, params)
        following = optax.apply_updates(params, updates)
        last, w, ahead = (rule.flat(part) for part in (before, params, following))
        gradient = rule.flat(grads)
        inverse = rule.inverse(gradient, state, w, rule.updated(gradient, state, w))
        preconditioner = reciprocal(inverse)
        midpoint, oscillation = (last + 2 * w + ahead) / 4, (last - 2 * w + ahead) / 4
        hessian = problem.hessian(rule.tree(midpoint))
        pairs, track = leading_pairs(rule, hessian, inverse, track, params)
        seen = Measured(midpoint, loss, gradient @ gradient, edge_ratios(rule, pairs), preconditioner @ oscillation**2)
        return (params, following, after, track), seen

    return Kernel(init, step)


def _followed(kernel: Kernel) -> Kernel:
    """A model with midpoints of its path: the info is ((midpoint, axes), averages at t), of t = 1 from the third step
    on.

    The first two infos are of nothing, so that the model's step is compiled once, in the loop.
    """

    def init(params: PyTree, state: PyTree) -> tuple:
        model = kernel.init(params, state)
        shapes = jax.eval_shape(kernel.step, model)[1]
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return model, ravel_pytree(nothing.params)[0], nothing

    def step(now: tuple) -> tuple[tuple, tuple]:
        model, last, here = now
        after, ahead = kernel.step(model)
        middle = ravel_pytree(here.params)[0]
        midpoint = (last + 2 * middle + ravel_pytree(ahead.params)[0]) / 4
        return (after, middle, ahead), ((midpoint, here.axes), here._replace(params=None, axes=None))

    return Kernel(init, step)


@partial(jax.jit, static_argnames=("transform", "steps"))
def _warmed(
    problem: Problem, transform: optax.GradientTransformation, params: PyTree, state: PyTree, steps: int
) -> tuple[PyTree, PyTree]:
    def one(_: Array, now: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        updates, after = transform.update(problem.gradient(now[0]), now[1], now[0])
        return optax.apply_updates(now[0], updates), after

    return lax.fori_loop(0, steps, one, (params, state))


def _phases(ratio: np.ndarray, steps: int) -> tuple[int | None, int | None]:
    """The first step above .95, and where the second half of what follows begins; None without either."""
    above = np.flatnonzero(ratio > NEAR)
    if not above.size:
        return None, None
    onset = int(above[0])
    return onset, onset + (steps - onset) // 2


def _errors(
    measured: Measured,
    said: Predictions,
    distances: np.ndarray,
    stable: np.ndarray,
    along: np.ndarray | None,
    times: np.ndarray,
    onset: int | None,
    settled: int | None,
) -> dict[str, Any]:
    def relative(predicted: Any, truth: Any, window: int | None = None) -> float | None:
        """Mean error of averages over windows of the settled phase, or over all of it, over the true mean."""
        if settled is None:
            return None
        pairs = [_windows(np.asarray(x)[settled:], window) for x in (predicted, truth)]
        return _number(np.mean(np.abs(pairs[0] - pairs[1])) / np.mean(np.abs(pairs[1])))

    def along_axes(predicted: Any, truth: Any) -> float | None:
        """Errors of the averages (K,) over the settled phase, added up, over the total variance."""
        if settled is None:
            return None
        means = [np.mean(np.asarray(x)[settled:], axis=0) for x in (predicted, truth, measured.variance)]
        return _number(np.sum(np.abs(means[0] - means[1])) / means[2])

    def smoothed(width: int) -> float | None:
        if settled is None:
            return None
        pair = [gaussian_filter1d(np.asarray(x), width)[settled:] for x in (said.mean_loss, measured.loss)]
        return _number(np.mean(np.abs(pair[0] / pair[1] - 1)))

    def ratio(index: int) -> float | None:
        return _number(stable[index] / distances[index]) if distances[index] > 0 else None

    middle = None if onset is None or settled is None else int(np.searchsorted(times, (onset + settled) // 2))
    ratios = np.asarray(measured.edge_ratios)
    over = slice(0) if onset is None else _overshoot(ratios[:, 0], onset, times)
    critical = None if settled is None else np.mean(np.abs(_critical(said.edge_ratios) - _critical(ratios))[settled:])
    gradients = said.cost.gradients + PRODUCT * said.cost.products + THIRD * said.cost.thirds
    return {
        "distance": float(distances[-1]),
        "distance_ratio": ratio(-1),
        "onset_ratio": None if middle is None else ratio(min(middle, len(distances) - 1)),
        "overshoot_ratio": _number(_share(float(np.sum(stable[over])), float(np.sum(distances[over])))),
        "loss_error": relative(said.mean_loss, measured.loss, WINDOW),
        "gradient_error": relative(said.mean_square, measured.square),
        "edge_ratio_error": relative(said.edge_ratios[:, 0], measured.edge_ratios[:, 0], WINDOW),
        "variance_error": relative(np.sum(said.variances, axis=1), measured.variance),
        "axis_error": None if along is None else along_axes(said.variances, along),
        "critical_error": _number(critical),
        **{f"smoothed_{width}": smoothed(width) for width in SMOOTHINGS},
        "gradients_per_step": float(np.mean(gradients)),
        "unconverged": float(np.mean(~said.converged)),
    }


def _critical(ratios: Any) -> np.ndarray:
    """How many edge ratios (T, K) are above .95; nan where nothing is said."""
    ratios = np.asarray(ratios)
    return np.where(np.isnan(ratios).all(axis=1), np.nan, np.sum(ratios > NEAR, axis=1))


def _overshoot(ratio: np.ndarray, onset: int, times: np.ndarray) -> slice:
    """The places in `times` of the first overshoot; none if the largest edge ratio (T,) never exceeds 1 and returns."""
    above = np.flatnonzero(ratio[onset:] > 1)
    back = np.flatnonzero(ratio[onset:][above[0] :] < 1) if above.size else above
    if not back.size:
        return slice(0)
    end = onset + above[0] + back[0]
    return slice(int(np.searchsorted(times, onset)), int(np.searchsorted(times, end)) + 1)


def _windows(series: np.ndarray, window: int | None) -> np.ndarray:
    """Predictions over windows of about that many steps; over everything without one."""
    pieces = np.array_split(series, max(1, round(len(series) / window)) if window else 1)
    return np.array([piece.mean(axis=0) for piece in pieces])


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
