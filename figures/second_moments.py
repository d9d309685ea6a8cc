"""RMSProp's second moments beside the convex programme that they come to rest at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from toylab.claims.flow_effects import RATE, regression_run, rest, stationary

NAME = "second_moments"
TITLE = "RMSProp's second moments at the edge are those of a convex programme that knows no history"

SEED, STEPS, QUICK_STEPS, WINDOW, SHOWN = 10, 4000, 200, 200, 4
LOOKS = ((style.BLACK, "o"), (style.BLUE, "s"), (style.ORANGE, "D"), ("#009e73", "^"))


def compute(quick: bool) -> dict[str, np.ndarray]:
    """`roots` (T, p), sqrt(nu)/eta; in the middle of windows, at `times` (W,), their means `measured` (W, p) and the
    programme's `solutions` (W, p)."""
    run = regression_run(SEED, QUICK_STEPS if quick else STEPS)
    length = len(run.roots)
    windows = [slice(begin, begin + WINDOW) for begin in range(0, length, WINDOW)]
    rests = [rest(SEED, run, window) for window in windows]
    return {
        "roots": run.roots / RATE,
        "times": np.array([window.start + WINDOW / 2 for window in windows]),
        "measured": np.array([found.root / RATE for found in rests]),
        "solutions": np.array([stationary(found, RATE) for found in rests]),
    }


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Coordinates over time with the programme's as markers, and all coordinates of the last window."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    time, last = figure.subplots(1, 2, width_ratios=(1.7, 1))
    order = np.argsort(data["solutions"][-1])[::-1]
    chosen = order[np.linspace(0, len(order) - 1, SHOWN).astype(int)]
    for index, (colour, marker) in zip(chosen, LOOKS, strict=True):
        time.plot(data["roots"][:, index], color=colour, linewidth=0.8)
        time.plot(
            data["times"], data["solutions"][:, index], color=colour, marker=marker, markersize=4, linestyle="none",
            markerfacecolor="white",
        )  # fmt: skip
    shown = data["solutions"][:, chosen]
    time.set(ylim=(shown.min() / 2, 1.6 * shown.max()))
    time.set(yscale="log", xlim=(0, len(data["roots"])), xlabel="step $t$", ylabel=r"$\sqrt{\nu_i}/\eta$")
    style.letter(time, 0, "four coordinates; markers, the programme")
    _diagonal(last, data["solutions"][-1], data["measured"][-1])
    return figure


def _diagonal(axes: Axes, solution: np.ndarray, measured: np.ndarray) -> None:
    rim = np.array([0, 1.1 * max(solution.max(), measured.max())])
    axes.plot(rim, rim, **style.LEVEL)
    axes.plot(solution, measured, color=style.BLUE, marker="o", linestyle="none")
    axes.set(xlim=rim, ylim=rim, xlabel="$M_i$ of the programme", ylabel=r"measured $\sqrt{\nu_i}/\eta$")
    style.letter(axes, 1, "all coordinates, last window")
