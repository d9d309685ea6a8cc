"""Second moments beside the convex programme that they come to rest at: RMSProp, and Adam, which does not rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from toylab.experiments.second_moments import ADAM, RMSPROP, Case, regression_run, rest, stationary

NAME = "second_moments"
TITLE = "Second moments at the edge are those of a convex programme: RMSProp's, and Adam's up to its unrest"

CASES = {"rmsprop": ("RMSProp", RMSPROP), "adam": (r"Adam, $\beta_1 = .9$", ADAM)}
STEPS, QUICK_STEPS, WINDOW, SHOWN = 4000, 200, 200, 4
LOOKS = ((style.BLACK, "o"), (style.BLUE, "s"), (style.ORANGE, "D"), ("#009e73", "^"))


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule RULE_roots (T, p), P/eta; in the middle of windows, at RULE_times (W,), their means RULE_measured
    (W, p) and the programme's RULE_solutions (W, p)."""
    arrays = {}
    for name, (_, case) in CASES.items():
        arrays |= {f"{name}_{key}": array for key, array in _arrays(case, QUICK_STEPS if quick else STEPS).items()}
    return arrays


def _arrays(case: Case, steps: int) -> dict[str, np.ndarray]:
    run = regression_run(case, steps)
    windows = [slice(begin, begin + WINDOW) for begin in range(0, steps, WINDOW)]
    rests = [rest(case, run, window) for window in windows]
    return {
        "roots": run.preconditioners / case.rate,
        "times": np.array([window.start + WINDOW / 2 for window in windows]),
        "measured": np.array([one.preconditioner / case.rate for one in rests]),
        "solutions": np.array([stationary(one, case.rate, case.edge) for one in rests]),
    }


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A row for each rule: coordinates over time with the programme's as markers, and all coordinates of the last
    window."""
    figure = Figure(figsize=(style.PAGE, 4.4))
    grid = figure.subplots(len(CASES), 2, width_ratios=(1.7, 1))
    for row, (name, (title, _)) in enumerate(CASES.items()):
        mine = style.of(data, name)
        _over_time(grid[row, 0], mine)
        style.letter(grid[row, 0], 2 * row, f"{title}; four coordinates, markers: the programme")
        _diagonal(grid[row, 1], mine["solutions"][-1], mine["measured"][-1])
        style.letter(grid[row, 1], 2 * row + 1, "all coordinates, last window")
    for axes, label in zip(grid[-1], ("step $t$", "$M_i$ of the programme"), strict=True):
        axes.set_xlabel(label)
    return figure


def _over_time(axes: Axes, mine: Mapping[str, np.ndarray]) -> None:
    order = np.argsort(mine["solutions"][-1])[::-1]
    chosen = order[np.linspace(0, len(order) - 1, SHOWN).astype(int)]
    for index, (colour, marker) in zip(chosen, LOOKS, strict=True):
        axes.plot(mine["roots"][:, index], color=colour, linewidth=0.8)
        axes.plot(
            mine["times"], mine["solutions"][:, index], color=colour, marker=marker, markersize=4, linestyle="none",
            markerfacecolor="white",
        )  # fmt: skip
    shown = mine["solutions"][:, chosen]
    axes.set(ylim=(shown.min() / 2, 1.6 * shown.max()))
    axes.set(yscale="log", xlim=(0, len(mine["roots"])), ylabel=r"$\sqrt{\nu_i}/\eta$")


def _diagonal(axes: Axes, solution: np.ndarray, measured: np.ndarray) -> None:
    rim = np.array([0, 1.1 * max(solution.max(), measured.max())])
    axes.plot(rim, rim, **style.LEVEL)
    axes.plot(solution, measured, color=style.BLUE, marker="o", linestyle="none")
    axes.set(xlim=rim, ylim=rim, ylabel=r"measured $\sqrt{\nu_i}/\eta$")
