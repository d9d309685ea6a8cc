"""How strongly an optimizer oscillates: the variance that the central map derives from curvature, and the measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import flow_runs, style
from toylab.model_comparison import WINDOW

NAME = "oscillation_variance"
TITLE = "The variance of the oscillation at the edge, predicted by the central map and measured"


def compute(quick: bool) -> dict[str, np.ndarray]:
    """See `flow_runs.arrays`; of each rule only `start`, `eta`, `loss`, `variance` and `central_map_variance`."""
    found = {}
    for setting in (flow_runs.GD, flow_runs.RMSPROP, flow_runs.ADAM):
        data = flow_runs.arrays(setting, quick)
        for name in ("start", "eta", "loss", "variance", "central_map_variance"):
            key = f"{setting.rule}_{name}"
            found[key] = data[key]
    return found


def _smooth(t: np.ndarray, values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over `window` steps, and the middle of each window."""
    even = np.ones(window) / window
    return np.convolve(t, even, "valid"), np.convolve(values, even, "valid")


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A panel for each rule; bursts of single steps go beyond the panel."""
    figure = Figure(figsize=(style.PAGE, 2.3))
    panels = figure.subplots(1, 3)
    for index, (axes, rule) in enumerate(zip(panels, flow_runs.TITLES, strict=True)):
        mine = style.of(data, rule)
        t = flow_runs.steps(mine)
        window = min(WINDOW, len(t) // 2)
        measured, predicted = (_smooth(t, mine[name], window) for name in ("variance", "central_map_variance"))
        axes.plot(t, mine["variance"], **flow_runs.PLAIN | {"linewidth": 0.5})
        axes.plot(t, mine["central_map_variance"], color=flow_runs.MAP, linewidth=0.5, alpha=0.5)
        axes.plot(*measured, color=style.BLACK, linewidth=1.6)
        axes.plot(*predicted, color=flow_runs.MAP, linewidth=1.6, linestyle=(0, (4.5, 1.5)))
        top = 3 * max(measured[1].max(), predicted[1].max())
        axes.set(xlabel="step $t$", xlim=(0, t[-1]), ylim=(0, top if top > 0 else None))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        style.letter(axes, index, flow_runs.title(rule, mine))
    panels[0].set_ylabel(r"variance $\mathrm{tr}(P\Sigma)$")
    handles = [
        Line2D([], [], **flow_runs.PLAIN),
        Line2D([], [], color=style.BLACK, linewidth=1.6),
        Line2D([], [], color=flow_runs.MAP, linewidth=0.5, alpha=0.5),
        Line2D([], [], color=flow_runs.MAP, linewidth=1.6, linestyle=(0, (4.5, 1.5))),
    ]
    over = f"mean of {WINDOW} steps"
    labels = ["optimizer", f"optimizer, {over}", "central map", f"central map, {over}"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure
