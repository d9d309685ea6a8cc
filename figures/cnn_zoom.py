"""A convolutional network at the edge, step by step: growth along u, a falling sharpness, and shrinking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

import theory
import toylab
from figures import style
from figures.members import paired
from toylab.optimizers import NAMED
from toylab.problems import digits_cnn

NAME = "cnn_zoom"
TITLE = "A convolutional network at the edge, and a look at single steps: growth, fall of the sharpness, shrinking"

ETA = 0.4
BEFORE, ZOOM, AFTER, EVERY = 104, 36, 640, 8
"""Steps before, in and after the window, in which each is observed: the first crossing, while one direction is alone at
the edge (later the top eigenvector turns from one iterate to the next, and with it the sign along it)."""

QUICK = 16, 12, 16, 1
CHUNK = 16  # steps of one compiled call: the same program before and after


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive `steps` (T,) before and after a window: `loss`, `sharpness`.  At each of its steps
    `zoom_steps`: `zoom_loss`, `zoom_sharpness`, `zoom_swing`, the oscillation along the top eigenvector, and
    `zoom_whole`, the length of all of it; the `threshold` of the sharpness.
    """
    rule = NAMED["gd"](ETA)
    problem = digits_cnn(examples=100, channels=(16, 16))
    observe = toylab.observers(loss=True, sharpness=1, projections=1)
    before, zoom, after, every = QUICK if quick else (BEFORE, ZOOM, AFTER, EVERY)
    # gradient descent has no state: a run goes on from the weights of the last one
    come = toylab.train(problem, rule, before, observe=observe, every=every, chunk=CHUNK)
    near = toylab.train(problem.with_params(come.params), rule, zoom, observe=observe, chunk=CHUNK)
    gone = toylab.train(problem.with_params(near.params), rule, after, observe=observe, every=every, chunk=CHUNK)
    return {
        "steps": np.concatenate([come.steps, before + zoom + gone.steps]),
        "loss": np.concatenate([come.loss, gone.loss]),
        "sharpness": np.concatenate([come.sharpness[:, 0], gone.sharpness[:, 0]]),
        "threshold": np.array(theory.cached_edge(NAMED["gd"]).at(learning_rate=ETA).threshold),
        # the first iterate of a run has no predecessor, so no oscillation is known there
        "zoom_steps": before + near.steps[1:],
        "zoom_loss": near.loss[1:],
        "zoom_sharpness": near.sharpness[1:, 0],
        "zoom_swing": near.projections[1:, 0],
        "zoom_whole": near.oscillation[1:],
    }


EACH: dict[str, Any] = {"color": style.BLACK, "linewidth": 0.4, "marker": "o", "markersize": 1.8, "markeredgewidth": 0}
WHOLE: dict[str, Any] = {"color": style.ORANGE, "linewidth": 0.9}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The run and, shaded in it, the steps on the right."""
    figure = Figure(figsize=(style.PAGE, 3.3))
    left, right = np.ravel(np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1.15))))
    loss, sharp = left.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    oscillation, near, losses = right.subplots(3, 1, sharex=True)
    end = data["steps"][-1] + 1
    for axes, name in ((loss, "loss"), (sharp, "sharpness")):
        outside, inside = paired(data["steps"], data[name]), paired(data["zoom_steps"], data[f"zoom_{name}"])
        order = np.argsort(times := np.concatenate([outside[0], inside[0]]))
        axes.plot(times[order], np.concatenate([outside[1], inside[1]])[order], color=style.BLUE)
        axes.axvspan(data["zoom_steps"][0], data["zoom_steps"][-1], color="0.85", linewidth=0)
    loss.set(ylabel="loss $L$", yscale="log")
    sharp.set(
        ylabel="sharpness $S$",
        xlabel="step $t$",
        xlim=(0, end),
        ylim=(0.7 * data["threshold"], 1.35 * data["threshold"]),
    )
    loss.yaxis.set_minor_formatter(NullFormatter())
    times = data["zoom_steps"]
    for sign in (1, -1):
        oscillation.plot(times, sign * data["zoom_whole"], **WHOLE)
    oscillation.plot(times, data["zoom_swing"], **EACH)
    oscillation.set(ylabel=r"$x_t = u \cdot (w_t - \bar w_t)$")
    near.plot(times, data["zoom_sharpness"], **EACH)
    losses.plot(times, data["zoom_loss"], **EACH)
    losses.set(ylabel="loss $L$", xlabel="step $t$", xlim=(times[0], times[-1]))
    near.set(ylabel="sharpness $S$", ylim=(0.95 * data["threshold"], None))
    for axes in (sharp, near):
        axes.axhline(data["threshold"], **style.LEVEL)
    style.letter(loss, 0, rf"GD, $\eta = {ETA}$")
    style.letter(oscillation, 1, "the shaded steps one by one")
    handles = [
        Line2D([], [], **style.LEVEL),
        Line2D([], [], **EACH),
        Line2D([], [], color=style.BLUE),
        Line2D([], [], **WHOLE),
    ]
    labels = [r"edge $S = 2/\eta$", "single iterates", "mean of two", r"$\pm|w_t - \bar w_t|$"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure
