"""RMSProp: the raw sharpness knows no level, the preconditioned sharpness settles at 2/eta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import RATES, paired
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "rmsprop_edge"
TITLE = "RMSProp on digits: the raw sharpness has no level, the preconditioned one has 2/eta"

LEARNING_RATES, DECAY, SEEDS = (3e-4, 6e-4, 1.2e-3), 0.99, 3
STEPS, QUICK_STEPS, EVERY = 3000, 60, 20


def _digits(key: Any) -> toylab.Problem:
    return digits_mlp(hidden=(16, 16), examples=200, seed=key)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive `steps` (T,): `loss`, `sharpness` of H and `preconditioned` sharpness of P^-1 H,
    (rates, seeds, T); `rates`, `thresholds` of the latter (rates,).
    """
    run = toylab.sweep(
        _digits,
        NAMED["rmsprop"],
        {"learning_rate": LEARNING_RATES, "decay": [DECAY]},
        QUICK_STEPS if quick else STEPS,
        seeds=SEEDS,
        observe=toylab.observers(loss=True, sharpness=1, edge_ratio=True),
        every=EVERY,
    )
    edge = theory.cached_edge(NAMED["rmsprop"])
    return {
        "steps": run.steps,
        "rates": np.array(LEARNING_RATES),
        "loss": run.loss[:, 0],
        "sharpness": run.sharpness[:, 0, :, :, 0],
        "preconditioned": run.preconditioned_sharpness[:, 0],
        "thresholds": np.array([edge.at(learning_rate=rate, decay=DECAY).threshold for rate in LEARNING_RATES]),
    }


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Loss, raw and preconditioned sharpness; a line for each seed, thick for the first."""
    figure = Figure(figsize=(style.PAGE, 2.45))
    loss, raw, felt = figure.subplots(1, 3)
    for axes, name in ((loss, "loss"), (raw, "sharpness"), (felt, "preconditioned")):
        for runs, colour in zip(data[name], RATES, strict=False):
            steps, values = paired(data["steps"], runs)
            axes.plot(steps, values[1:].T, color=colour, linewidth=0.4, alpha=0.7)
            axes.plot(steps, values[0], color=colour, linewidth=1.0)
        axes.set(xlabel="step $t$", xlim=(0, data["steps"][-1] + 1), yscale="log")
    for threshold, colour in zip(data["thresholds"], RATES, strict=False):
        felt.axhline(threshold, **style.LEVEL | {"color": colour})
        felt.annotate(
            rf"$2/\eta = {threshold:.0f}$", (data["steps"][-1], threshold), (-2, 4), textcoords="offset points",
            ha="right", path_effects=style.halo(), color=colour,
        )  # fmt: skip
    loss.set_ylabel("loss $L(w_t)$")
    raw.set_ylabel(r"$\lambda_{\max}(H)$")
    felt.set_ylabel(r"$\lambda_{\max}(P^{-1}H)$")
    for i, (axes, title) in enumerate(((loss, "loss"), (raw, "raw sharpness"), (felt, "preconditioned sharpness"))):
        style.letter(axes, i, title)
    handles = [Line2D([], [], color=colour) for colour in RATES[: len(data["rates"])]]
    labels = [rf"$\eta = {1e4 * rate:g}\times 10^{{-4}}$" for rate in data["rates"]]
    handles.append(Line2D([], [], **style.LEVEL))
    figure.legend(handles, [*labels, r"edge of $P^{-1}H$"], loc="outside upper center", ncols=4)
    return figure
