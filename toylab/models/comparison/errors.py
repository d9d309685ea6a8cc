"""How far a model of training is from the optimizer's run: every error, and the phases of the run that they are of."""

from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from toylab.models.comparison.measured import Measured
from toylab.models.oscillation import NEAR
from toylab.models.predictions import Cost, Predictions
from toylab.numerics.json_numbers import number_or_null

PRODUCT, THIRD = 2.0, 4.0
"""The costs of a Hessian product and of a third derivative in gradients: passes over the network, forward over reverse
once and twice.  Their cost on a machine is in the seconds."""

WINDOW = 200
"""Steps over which losses, edge ratios and variances are averaged before they are compared: many periods of the
oscillation and of its bursts, few parts of the run."""

SMOOTHINGS = (10, 20)
"""Widths, in steps, of the Gaussians that the loss is smoothed by for its pointwise errors."""


class Errors(NamedTuple):
    """Errors and costs of one model; each None where the model does not say, it diverged or there is no such phase.

    All errors are relative numbers without a unit, but for `critical_error`.  The phases are those of `Phases`.

    `distance`: |model's path - optimizer's| at the end, over the distance that the optimizer travelled, both at
    midpoints.  `distance_ratio`: the stable flow's distance over this model's, at the end; `onset_ratio`: the same
    half-way between the onset and the settled phase; `overshoot_ratio`: the same for mean distances in the first
    overshoot.

    In the settled phase: `loss_error`, `edge_ratio_error`: mean absolute error of averages over windows of about 200
    steps, of the loss and of the largest edge ratio, over the mean of these averages; `gradient_error`,
    `variance_error`: absolute error of the average over the whole phase, of |grad L|^2 and of the oscillation's total
    variance, which come in bursts, over that average; `axis_error`: the same along each principal axis that the model
    gives to the oscillation, the absolute errors added up, over the total variance; `critical_error`: mean absolute
    error of the number of edge ratios above .95, in eigenvalues; `smoothed_10`, `smoothed_20`: mean relative error of
    the loss, both smoothed by a Gaussian of that many steps.

    `gradients_per_step`: cost in gradients a step, with a Hessian product as 2 and a third derivative as 4;
    `unconverged`: the share of steps whose solvers missed their tolerance; `seconds_per_step`: seconds a step without
    compilation, of this process.
    """

    distance: float | None
    distance_ratio: float | None
    onset_ratio: float | None
    overshoot_ratio: float | None
    loss_error: float | None
    gradient_error: float | None
    edge_ratio_error: float | None
    variance_error: float | None
    axis_error: float | None
    critical_error: float | None
    smoothed_10: float | None
    smoothed_20: float | None
    gradients_per_step: float
    unconverged: float
    seconds_per_step: float


class Phases(NamedTuple):
    """Phases of a run as places in arrays of one entry a step (0 is t = 1).

    `onset`: the first edge ratio above .95, or None; `settled`: where the second half of what follows it begins, or
    None; `overshoot`: the places, in arrays of one entry a midpoint, from the onset to where the largest edge ratio,
    once above 1, first falls below 1 again; empty if it never does.
    """

    onset: int | None
    settled: int | None
    overshoot: slice


def phases_of(edge_ratio: np.ndarray, times: np.ndarray) -> Phases:
    """The phases of a run with the largest edge ratios `edge_ratio` (T,) and midpoints at the steps `times`."""
    above = np.flatnonzero(edge_ratio > NEAR)
    if not above.size:
        return Phases(None, None, slice(0))
    onset = int(above[0])
    return Phases(onset, onset + (len(edge_ratio) - onset) // 2, overshoot(edge_ratio, onset, times))


def overshoot(edge_ratio: np.ndarray, onset: int, times: np.ndarray) -> slice:
    """The places in `times` of the first overshoot; none if the largest edge ratio (T,) never exceeds 1 and returns."""
    above = np.flatnonzero(edge_ratio[onset:] > 1)
    back = np.flatnonzero(edge_ratio[onset:][above[0] :] < 1) if above.size else above
    if not back.size:
        return slice(0)
    end = onset + above[0] + back[0]
    return slice(int(np.searchsorted(times, onset)), int(np.searchsorted(times, end)) + 1)


def errors_of(
    predictions: Predictions,
    distances: np.ndarray,
    along: np.ndarray | None,
    seconds_per_step: float,
    *,
    measured: Measured,
    phases: Phases,
    times: np.ndarray,
    travelled: float,
    baseline: np.ndarray,
) -> Errors:
    """The `Errors` of a model with these `predictions`, one entry a step.

    `distances` (T/every,): to the optimizer's midpoints, `baseline` those of the stable flow; `along` (T, K): the
    square of the optimizer's oscillation along the model's axes, None without; `travelled`: by the optimizer.
    """
    onset, settled = phases.onset, phases.settled
    middle = None if onset is None or settled is None else int(np.searchsorted(times, (onset + settled) // 2))
    ratios = np.asarray(measured.edge_ratios)
    over = phases.overshoot

    def nearer(index: int) -> float | None:
        return number_or_null(baseline[index] / distances[index]) if distances[index] > 0 else None

    first, second = (_smoothed(predictions.mean_loss, measured.loss, width, settled) for width in SMOOTHINGS)
    return Errors(
        distance=number_or_null(_share(float(distances[-1]), travelled)),
        distance_ratio=nearer(-1),
        onset_ratio=None if middle is None else nearer(min(middle, len(distances) - 1)),
        overshoot_ratio=number_or_null(_share(float(np.sum(baseline[over])), float(np.sum(distances[over])))),
        loss_error=_relative(predictions.mean_loss, measured.loss, settled, WINDOW),
        gradient_error=_relative(predictions.mean_square, measured.square, settled),
        edge_ratio_error=_relative(predictions.edge_ratios[:, 0], ratios[:, 0], settled, WINDOW),
        variance_error=_relative(np.sum(predictions.variances, axis=1), measured.variance, settled),
        axis_error=None if along is None else _along_axes(predictions.variances, along, measured.variance, settled),
        critical_error=None
        if settled is None
        else number_or_null(
            np.mean(np.abs(number_critical(predictions.edge_ratios) - number_critical(ratios))[settled:])
        ),
        smoothed_10=first,
        smoothed_20=second,
        gradients_per_step=float(np.mean(_gradients(predictions.cost))),
        unconverged=float(np.mean(~predictions.converged)),
        seconds_per_step=seconds_per_step,
    )


def number_critical(ratios: Any) -> np.ndarray:
    """How many edge ratios (T, K) are above .95; nan where nothing is said."""
    ratios = np.asarray(ratios)
    return np.where(np.isnan(ratios).all(axis=1), np.nan, np.sum(ratios > NEAR, axis=1))


def _relative(predicted: Any, truth: Any, settled: int | None, window: int | None = None) -> float | None:
    """Mean error of averages over windows of the settled phase, or over all of it, over the true mean."""
    if settled is None:
        return None
    pairs = [_windows(np.asarray(x)[settled:], window) for x in (predicted, truth)]
    return number_or_null(np.mean(np.abs(pairs[0] - pairs[1])) / np.mean(np.abs(pairs[1])))


def _along_axes(predicted: Any, truth: Any, variance: Any, settled: int | None) -> float | None:
    """Sum over the K axes of |predicted - true mean variance| in the settled phase, over the total variance."""
    if settled is None:
        return None
    means = [np.mean(np.asarray(x)[settled:], axis=0) for x in (predicted, truth, variance)]
    return number_or_null(np.sum(np.abs(means[0] - means[1])) / means[2])


def _smoothed(predicted: Any, truth: Any, width: int, settled: int | None) -> float | None:
    if settled is None:
        return None
    pair = [gaussian_filter1d(np.asarray(x), width)[settled:] for x in (predicted, truth)]
    return number_or_null(np.mean(np.abs(pair[0] / pair[1] - 1)))


def _gradients(cost: Cost) -> Any:
    return cost.gradients + PRODUCT * cost.products + THIRD * cost.thirds


def _share(distance: float, travelled: float) -> float:
    """Over the distance travelled, or another one; nan where that is zero."""
    return distance / travelled if travelled else float("nan")


def _windows(series: np.ndarray, window: int | None) -> np.ndarray:
    """Averages over windows of about that many steps; over everything without one."""
    pieces = np.array_split(series, max(1, round(len(series) / window)) if window else 1)
    return np.array([piece.mean(axis=0) for piece in pieces])
