"""RMSProp: the raw sharpness knows no level, the preconditioned sharpness settles at 2/eta."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import RATES, paired
from toylab.optimizers import NAMED
from toylab.problems import chebyshev_mlp, digits_mlp

NAME = "rmsprop_edge"
TITLE = "RMSProp: learning rates set no level of the raw sharpness, but that of the preconditioned one"


def _digits(key: Any) -> toylab.Problem:
    return digits_mlp(hidden=(16, 16), examples=200, seed=key)


def _regression(key: Any) -> toylab.Problem:
    return chebyshev_mlp(hidden=(30,), seed=key)


class Row(NamedTuple):
    """One problem, from a seed, and how many steps it takes."""

    name: str
    title: str
    problem: Callable[[Any], toylab.Problem]
    steps: int


ROWS = (
    Row("regression", "Chebyshev regression", _regression, 3200),
    Row("digits", "digits", _digits, 1800),
)
LEARNING_RATES, DECAY, SEEDS = (3e-4, 6e-4, 1.2e-3), 0.99, 3
QUICK_STEPS, EVERY = 60, 20


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each problem p at pairs of consecutive `p_steps` (T,): `p_loss`, `p_raw` sharpness of H and `p_felt`, that of
    P^-1 H, (rates, seeds, T); `rates`, and `thresholds` of the latter (rates,). Quick runs do the first problem only.
    """
    edge = theory.cached_edge(NAMED["rmsprop"])
    data = {
        "rates": np.array(LEARNING_RATES),
        "thresholds": np.array([edge.at(learning_rate=rate, decay=DECAY).threshold for rate in LEARNING_RATES]),
    }
    for row in ROWS[:1] if quick else ROWS:
        run = toylab.sweep(
            row.problem,
            NAMED["rmsprop"],
            {"learning_rate": LEARNING_RATES, "decay": [DECAY]},
            QUICK_STEPS if quick else row.steps,
            seeds=SEEDS,
            observe=toylab.observers(loss=True, sharpness=1, edge_ratio=True),
            every=EVERY,
        )
        data |= {
            f"{row.name}_steps": run.steps,
            f"{row.name}_loss": run.loss[:, 0],
            f"{row.name}_raw": run.sharpness[:, 0, :, :, 0],
            f"{row.name}_felt": run.preconditioned_sharpness[:, 0],
        }
    return data


COLOURS = RATES[1:]  # black is for the thresholds
LABELS = {"loss": "loss $L(w_t)$", "raw": r"sharpness $\lambda_{\max}(H)$", "felt": r"$\lambda_{\max}(P^{-1}H)$"}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Loss, raw and preconditioned sharpness of each problem; a line for each seed, thick for the first."""
    rows = [row for row in ROWS if f"{row.name}_steps" in data]
    figure = Figure(figsize=(style.PAGE, 0.5 + 1.75 * len(rows)))
    grid = figure.subplots(len(rows), len(LABELS), squeeze=False)
    highest = max(data[f"{row.name}_raw"].max() for row in rows)
    for i, row in enumerate(rows):
        mine = style.of(data, row.name)
        end = mine["steps"][-1] + 1
        for axes, name in zip(grid[i], LABELS, strict=True):
            for runs, colour in zip(mine[name], COLOURS, strict=True):
                steps, values = paired(mine["steps"], runs)
                axes.plot(steps, values[1:].T, color=colour, linewidth=0.4, alpha=0.8)
                axes.plot(steps, values[0], color=colour, linewidth=1.0)
            axes.set(xlim=(0, end), yscale="log", ylabel=LABELS[name])
        for threshold, colour in zip(data["thresholds"], COLOURS, strict=True):
            grid[i, 2].axhline(threshold, **style.LEVEL, zorder=3)
            grid[i, 2].annotate(
                rf"$2/\eta = {threshold:.0f}$", (end, threshold), (-2, -3), textcoords="offset points",
                ha="right", va="top", path_effects=style.halo(), color=colour,
            )  # fmt: skip
        grid[i, 1].set(yscale="linear", ylim=(0, 1.05 * highest))
        grid[i, 2].set_ylim(0.35 * data["thresholds"][-1], 1.9 * data["thresholds"][0])
        style.letter(grid[i, 0], 3 * i, row.title)
        style.letter(grid[i, 1], 3 * i + 1, "raw")
        style.letter(grid[i, 2], 3 * i + 2, "preconditioned")
    for axes in grid[-1]:
        axes.set_xlabel("step $t$")
    for axes in grid.T:
        figure.align_ylabels(axes)
    handles = [Line2D([], [], color=colour) for colour in COLOURS]
    labels = [rf"$\eta = {1e3 * rate:.1f}\times 10^{{-3}}$" for rate in data["rates"]]
    handles.append(Line2D([], [], **style.LEVEL))
    figure.legend(handles, [*labels, r"edge of $P^{-1}H$, derived"], loc="outside upper center", ncols=4)
    return figure
