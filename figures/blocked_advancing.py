"""Gradient descent is blocked at its edge; Adam goes on to sharper places, until its preconditioner is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import theory
import toylab
from figures import style
from toylab.experiments.frozen_runs import AT, NEVER, freezing, regression
from toylab.optimizers import NAMED

NAME = "blocked_advancing"
TITLE = "Gradient descent is blocked from sharp regions where Adam advances, until its preconditioner is frozen"

GD_ETA, ADAM_ETA, B2 = 0.4, 3e-3, 0.99
STEPS, EVERY = 4_000, 40
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gd": (rf"GD, $\eta = {GD_ETA}$", {"color": style.BLACK, "linewidth": 1.0}),
    "adam": (r"Adam, $\eta = 0.003$", {"color": style.ORANGE, "linewidth": 1.2}),
    "frozen": (rf"Adam, $P$ frozen at $t = {AT}$", {"color": style.BLUE, "linewidth": 1.2, "linestyle": (0, (6, 1))}),
}


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive steps, for each run r: `r_steps`, `r_loss`, `r_sharpness` (of H), `r_edge_ratio` (T,);
    `gd_threshold`, the sharpness at GD's edge, derived.
    """
    steps = STEPS // 3 if quick else STEPS
    observers = toylab.observers(loss=True, sharpness=1, edge_ratio=True)
    adam = {"learning_rate": [ADAM_ETA], "b2": [B2], "at": [AT, NEVER]}
    gd = toylab.sweep(regression, NAMED["gd"], {"learning_rate": [GD_ETA]}, steps, every=EVERY, observe=observers)
    adams = toylab.sweep(regression, freezing("adam"), adam, steps, every=EVERY, observe=observers)
    data: dict[str, np.ndarray] = {}
    for name, run, index in (("gd", gd, (0, 0)), ("frozen", adams, (0, 0, 0, 0)), ("adam", adams, (0, 0, 1, 0))):
        data |= {
            f"{name}_steps": run.steps,
            f"{name}_loss": run.loss[index],
            f"{name}_sharpness": run.sharpness[index][:, 0],
            f"{name}_edge_ratio": run.edge_ratio[index],
        }
    return data | {"gd_threshold": np.asarray(theory.cached_edge(NAMED["gd"]).at(learning_rate=GD_ETA).threshold)}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Loss, sharpness and edge ratio against the step, and the sharpness at equal loss."""
    figure = Figure(figsize=(style.PAGE, 2.15))
    loss, sharp, ratio = figure.subplots(1, 3)
    for name, (label, line) in RUNS.items():
        mine = style.of(data, name)
        shown = {key: (mine[key][::2] + mine[key][1::2]) / 2 for key in ("steps", "loss", "sharpness", "edge_ratio")}
        loss.plot(shown["steps"], shown["loss"], label=label, **line)
        sharp.plot(shown["steps"], shown["sharpness"], **line)
        ratio.plot(shown["steps"], shown["edge_ratio"], **line)
    end = data["gd_steps"][-1] + 1
    sharp.axhline(float(data["gd_threshold"]), **style.LEVEL)
    sharp.text(0.98 * end, float(data["gd_threshold"]) / 1.12, r"$2/\eta_{\mathrm{GD}}$", ha="right", va="top")
    ratio.axhline(1, **style.LEVEL)
    for axes in (loss, sharp, ratio):
        axes.axvline(AT, color=style.PALE, linewidth=0.8, zorder=0)
        axes.set(xlabel="step $t$", xlim=(0, end))
    loss.set(ylabel="loss $L(w_t)$", yscale="log")
    sharp.set(ylabel=r"sharpness $\lambda_{\max}(H)$", yscale="log")
    ratio.set(ylabel=r"edge ratio $\eta\,\lambda_{\max}(P^{-1}H) / k^*$", ylim=(0, 1.5))
    for i, axes in enumerate((loss, sharp, ratio)):
        style.letter(axes, i, "")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
