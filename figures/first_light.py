"""First light on real data: a small network on 8 x 8 digits, trained to the edge by three rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import toylab
from figures import style
from toylab.filters import held_filter, roles
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "first_light"
TITLE = "A network on real digits reaches the edge: loss, sharpness and edge ratio of three rules"


class Column(NamedTuple):
    """One rule, how it is set and shown, and how many steps it takes."""

    rule: str
    title: str
    settings: Mapping[str, float]
    steps: int


COLUMNS = (
    Column("gd", r"GD, $\eta = 0.28$", {"learning_rate": 0.28}, 2000),
    Column(
        "rmsprop", r"RMSProp, $\eta = 3{\times}10^{-4},\,\beta_2 = 0.99$", {"learning_rate": 3e-4, "decay": 0.99}, 3000
    ),
    Column("adam", r"Adam, $\eta = 2{\times}10^{-3},\,\beta_2 = 0.99$", {"learning_rate": 2e-3, "b2": 0.99}, 3000),
)
MEAN: dict[str, Any] = {"color": style.BLUE, "linewidth": 1.0}
EVERY, QUICK = 25, 3  # steps between two observed pairs; quick runs are so many times shorter


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule r, at pairs of consecutive steps: `r_steps`, `r_loss`, `r_sharpness` (of H), `r_edge_ratio` (T,);
    `r_plateau` (2,), mean and spread over time of the edge ratio (NaN unless its `r_outcome` is "settled"); and
    `r_threshold` of the sharpness itself, NaN for a rule with a preconditioner.
    """
    data: dict[str, np.ndarray] = {}
    observe = toylab.observers(loss=True, sharpness=1, edge_ratio=True)
    for column in COLUMNS:
        transform = NAMED[column.rule](**column.settings)
        steps = column.steps // QUICK if quick else column.steps
        run = toylab.train(digits_mlp(), transform, steps, observe=observe, every=EVERY)
        settled = toylab.plateau(run.steps, run.edge_ratio)
        bare = not roles(transform, jnp.zeros(())).slow
        arrays = {
            "steps": run.steps,
            "loss": run.loss,
            "sharpness": run.sharpness[:, 0],
            "edge_ratio": run.edge_ratio,
            "plateau": (settled.mean, settled.spread),
            "outcome": settled.outcome,
            "threshold": held_filter(transform).threshold if bare else np.nan,
        }
        data |= {f"{column.rule}_{name}": np.asarray(value) for name, value in arrays.items()}
    return data


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A column for each rule; rows share their scale."""
    figure = Figure(figsize=(style.PAGE, 4.5))
    grid = figure.subplots(3, len(COLUMNS), squeeze=False, sharex="col", sharey="row", height_ratios=(1, 1, 1.1))
    for i, column in enumerate(COLUMNS):
        mine = style.of(data, column.rule)
        for axes, name in zip(grid[:, i], ("loss", "sharpness", "edge_ratio"), strict=True):
            _pairs(axes, mine["steps"], mine[name])
        if np.isfinite(mine["threshold"]):
            grid[1, i].axhline(mine["threshold"], **style.LEVEL)
        grid[2, i].axhline(1, **style.LEVEL)
        mean, spread = mine["plateau"]
        text = rf"plateau ${mean:.3f} \pm {spread:.3f}$" if np.isfinite(mean) else str(mine["outcome"])
        grid[2, i].text(0.96, 0.08, text, transform=grid[2, i].transAxes, ha="right")
        grid[2, i].set(xlabel="step $t$", xlim=(0, mine["steps"][-1] + 1))
        style.letter(grid[0, i], i, column.title)
    grid[0, 0].set(ylabel="loss $L(w_t)$", yscale="log")
    grid[1, 0].set(ylabel=r"sharpness $\lambda_{\max}(H)$", ylim=(0, None))
    grid[2, 0].set(ylabel="edge ratio\n" r"$\eta\,\lambda_{\max}(P^{-1}H) / k^*$", ylim=(0, 1.5))
    figure.align_ylabels(grid[:, 0])
    handles = [Line2D([], [], **MEAN), Line2D([], [], **style.LEVEL)]
    labels = ["mean of two consecutive iterates", "the edge"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _pairs(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """The mean of each two consecutive values: what an oscillation of period two leaves."""
    first = np.flatnonzero(np.diff(steps) == 1)
    axes.plot(steps[first] + 0.5, (values[first] + values[first + 1]) / 2, **MEAN)
