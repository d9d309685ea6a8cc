"""The edge of stability: a network's sharpness rises to the threshold derived from its rule's code, and stays there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import RATES, Member, numbered, paired
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "edge_of_stability"
TITLE = "Gradient descent, heavy ball and Nesterov take a network on digits to their own thresholds"


class Column(NamedTuple):
    """One rule at its learning rates; `label_end`: the fraction of the width where their labels end, off the curves."""

    rule: str
    title: str
    rates: tuple[float, ...]
    settings: Mapping[str, float]
    label_end: float = 0.985


COLUMNS = (
    Column("gd", "gradient descent", (0.35, 0.45, 0.6), {}),
    Column("heavy_ball", r"heavy ball, $\beta = 0.9$", (0.66, 0.72, 0.8), {"momentum": 0.9}, 0.78),
    Column("nesterov", r"Nesterov, $\beta = 0.9$", (0.21, 0.26, 0.34), {"momentum": 0.9}),
)
MEMBERS: list[Member] = [
    (column.rule, {"learning_rate": rate} | dict(column.settings)) for column in COLUMNS for rate in column.rates
]
RULES = numbered(MEMBERS)
STEPS, QUICK_STEPS, EVERY = 1800, 48, 12


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule r at its learning rates, `steps` (T,) being pairs of consecutive ones: `r_loss`, `r_sharpness`
    (rates, T), and `r_threshold` (rates,) of the sharpness.
    """
    run = toylab.sweep(
        digits_mlp(hidden=(24, 24), examples=200),
        RULES,
        {"member": range(len(MEMBERS))},
        QUICK_STEPS if quick else STEPS,
        observe=toylab.observers(loss=True, sharpness=1),
        every=EVERY,
    )
    thresholds = np.array([theory.cached_edge(NAMED[rule]).at(**settings).threshold for rule, settings in MEMBERS])
    data, start = {"steps": run.steps}, 0
    for column in COLUMNS:
        mine = slice(start, start := start + len(column.rates))
        data |= {
            f"{column.rule}_rates": np.array(column.rates),
            f"{column.rule}_loss": run.loss[mine, 0],
            f"{column.rule}_sharpness": run.sharpness[mine, 0, :, 0],
            f"{column.rule}_threshold": thresholds[mine],
        }
    return data


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A column for each rule: the loss, and below the sharpness with a threshold for every learning rate."""
    figure = Figure(figsize=(style.PAGE, 3.6))
    grid = figure.subplots(2, len(COLUMNS), squeeze=False, sharex=True, sharey="row", height_ratios=(1, 1.35))
    steps, end = data["steps"], data["steps"][-1] + 1
    edges = np.concatenate([data[f"{column.rule}_threshold"] for column in COLUMNS])
    for i, column in enumerate(COLUMNS):
        mine = style.of(data, column.rule)
        for rate, colour, loss, sharpness, threshold in zip(
            mine["rates"], RATES, mine["loss"], mine["sharpness"], mine["threshold"], strict=False
        ):
            grid[0, i].plot(*paired(steps, loss), color=colour)
            grid[1, i].plot(*paired(steps, sharpness), color=colour)
            grid[1, i].axhline(threshold, **style.LEVEL | {"color": colour})
            grid[1, i].annotate(
                rf"$\eta = {rate:g}$", (column.label_end * end, threshold), (0, 3), textcoords="offset points",
                ha="right", va="bottom", path_effects=style.halo(), color=colour,
            )  # fmt: skip
        k = float(mine["rates"][0] * mine["threshold"][0])
        style.letter(grid[0, i], i, rf"{column.title}, $k^* = {k:.4g}$")
        grid[1, i].set(xlabel="step $t$", xlim=(0, end))
    grid[0, 0].set(ylabel="loss $L(w_t)$", yscale="log")
    grid[1, 0].set(ylabel=r"sharpness $S = \lambda_{\max}(H)$", ylim=(0.8 * min(edges), 1.13 * max(edges)))
    figure.align_ylabels(grid[:, 0])
    handles = [Line2D([], [], color=style.BLACK), Line2D([], [], **style.LEVEL)]
    labels = ["mean of two consecutive iterates", r"edge $S = k^*/\eta$, derived from the rule's code"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure
