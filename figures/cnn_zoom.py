"""A convolutional network at the edge: sixty steps of growth along u, a falling sharpness, and shrinking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import paired
from toylab.optimizers import NAMED
from toylab.problems import digits_cnn

NAME = "cnn_zoom"
TITLE = "A convolutional network at the edge, and a look at single steps: growth, fall of the sharpness, shrinking"

ETA = 0.4
STEPS, QUICK_STEPS, EVERY = 900, 24, 8
ZOOM, QUICK_ZOOM = 72, 12


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive `steps` (T,): `loss`, `sharpness`.  At each of the steps `zoom_steps` that follow:
    `zoom_loss`, `zoom_sharpness` and `zoom_swing`, the oscillation along the top eigenvector; the `threshold`.
    """
    rule = NAMED["gd"](ETA)
    problem = digits_cnn(examples=100, channels=(16, 16))
    observe = toylab.observers(loss=True, sharpness=1, projections=1)
    steps, zoom = (QUICK_STEPS, QUICK_ZOOM) if quick else (STEPS, ZOOM)
    run = toylab.train(problem, rule, steps, observe=observe, every=EVERY)
    near = toylab.train(problem.with_params(run.params), rule, zoom + 1, observe=observe)
    return {
        "steps": run.steps,
        "loss": run.loss,
        "sharpness": run.sharpness[:, 0],
        "threshold": np.array(theory.cached_edge(NAMED["gd"]).at(learning_rate=ETA).threshold),
        # the first iterate of a run has no predecessor, so no oscillation is known there
        "zoom_steps": steps + near.steps[1:],
        "zoom_loss": near.loss[1:],
        "zoom_sharpness": near.sharpness[1:, 0],
        "zoom_swing": near.projections[1:, 0],
    }


EACH: dict[str, Any] = {"color": style.BLACK, "linewidth": 0.4, "marker": "o", "markersize": 1.8, "markeredgewidth": 0}
SIZE: dict[str, Any] = {"color": style.ORANGE, "linewidth": 1.0}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The run and, shaded in it, the steps on the right."""
    figure = Figure(figsize=(style.PAGE, 3.3))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    loss, sharp = left.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    swing, near, losses = right.subplots(3, 1, sharex=True)
    end = data["zoom_steps"][-1]
    for axes, name in ((loss, "loss"), (sharp, "sharpness")):
        axes.plot(data["steps"], data[name], color=style.BLUE, linewidth=0.4, alpha=0.5)
        axes.plot(*paired(data["steps"], data[name]), color=style.BLUE)
        axes.axvspan(data["zoom_steps"][0], end, color=style.PALE, linewidth=0)
    loss.set(ylabel="loss $L$", yscale="log")
    sharp.set(ylabel="sharpness $S$", xlabel="step $t$", xlim=(0, end), ylim=(0, None))
    times = data["zoom_steps"]
    swing.plot(times, data["zoom_swing"], **EACH)
    swing.plot(times, np.abs(data["zoom_swing"]), **SIZE)
    swing.set(ylabel=r"$x_t = u \cdot (w_t - \bar w_t)$")
    near.plot(times, data["zoom_sharpness"], **EACH)
    losses.plot(times, data["zoom_loss"], **EACH)
    losses.set(ylabel="loss $L$", xlabel="step $t$", xlim=(times[0], end))
    near.set(ylabel="sharpness $S$")
    for axes in (sharp, near):
        axes.axhline(data["threshold"], **style.LEVEL)
    style.letter(loss, 0, rf"GD, $\eta = {ETA}$")
    style.letter(swing, 1, "the shaded steps one by one")
    handles = [Line2D([], [], **style.LEVEL), Line2D([], [], **EACH), Line2D([], [], **SIZE)]
    labels = [r"edge $S = 2/\eta$", "single iterates", r"$|x_t|$"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
