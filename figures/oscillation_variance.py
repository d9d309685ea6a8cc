"""How strongly an optimizer oscillates: the variance that the central map derives from curvature, and the measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import flow_runs, style
from toylab.models.comparison.errors import WINDOW

NAME = "oscillation_variance"
TITLE = "The variance of the oscillation at the edge, predicted by the central map and measured"

AXES = 3
"""Principal axes shown, the largest first."""

DASHED = (0, (4.5, 1.5))
SERIES = ("start", "eta", "loss", "variance", "central_map_variance", "central_map_variances", "central_map_along")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """See `flow_runs.arrays`; of each rule only `SERIES`."""
    arrays = {}
    for setting in (flow_runs.GD, flow_runs.RMSPROP, flow_runs.ADAM):
        data = flow_runs.arrays(setting, quick)
        arrays |= {key: data[key] for key in (f"{setting.rule}_{name}" for name in SERIES)}
    return arrays


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Means over `window` steps."""
    return np.convolve(values, np.ones(window) / window, "valid")


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """A column for each rule: the total above, where bursts of single steps go beyond the panel, and its parts along
    the principal axes below."""
    figure = Figure(figsize=(style.PAGE, 4.0))
    panels = figure.subplots(2, 3, sharex="col")
    for index, rule in enumerate(flow_runs.TITLES):
        mine = style.of(data, rule)
        t = flow_runs.steps(mine)
        window = min(WINDOW, len(t) // 2)
        middle = _smooth(t, window)
        _total(panels[0, index], t, middle, mine, window)
        style.letter(panels[0, index], index, flow_runs.title(rule, mine))
        _parts(panels[1, index], middle, mine, window)
        style.letter(panels[1, index], 3 + index, "along principal axes")
        panels[1, index].set(xlabel="step $t$", xlim=(0, t[-1]))
    panels[0, 0].set_ylabel(r"total variance $\mathrm{tr}(P\Sigma)$")
    panels[1, 0].set_ylabel(r"variance $\sigma_i^2$")
    handles = [
        Line2D([], [], **flow_runs.PLAIN),
        Line2D([], [], color=style.BLACK, linewidth=1.6),
        Line2D([], [], color=flow_runs.MAP, linewidth=0.5, alpha=0.5),
        Line2D([], [], color=flow_runs.MAP, linewidth=1.6, linestyle=DASHED),
        *(Line2D([], [], color=shade, linewidth=1.6) for shade in flow_runs.SHADES[1:AXES]),
    ]
    over = f"mean of {WINDOW} steps"
    labels = ["optimizer", f"optimizer, {over}", "central map", f"central map, {over}", "2nd axis", "3rd axis"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _total(axes: Axes, t: np.ndarray, middle: np.ndarray, mine: Mapping[str, np.ndarray], window: int) -> None:
    measured, predicted = (_smooth(mine[name], window) for name in ("variance", "central_map_variance"))
    axes.plot(t, mine["variance"], color=flow_runs.PLAIN["color"], linewidth=0.5)
    axes.plot(t, mine["central_map_variance"], color=flow_runs.MAP, linewidth=0.5, alpha=0.5)
    axes.plot(middle, measured, color=style.BLACK, linewidth=1.6)
    axes.plot(middle, predicted, color=flow_runs.MAP, linewidth=1.6, linestyle=DASHED)
    top = 3 * max(measured.max(), predicted.max())
    axes.set(ylim=(0, top if top > 0 else None))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)


def _parts(axes: Axes, middle: np.ndarray, mine: Mapping[str, np.ndarray], window: int) -> None:
    """The optimizer's solid, the central map's dashed, the first axis in the colours of the total."""
    for index in range(min(AXES, mine["central_map_along"].shape[1])):
        shade = flow_runs.SHADES[index]
        measured, predicted = (mine[f"central_map_{name}"][:, index] for name in ("along", "variances"))
        axes.plot(middle, _smooth(measured, window), color=shade if index else style.BLACK, linewidth=1.4)
        axes.plot(middle, _smooth(predicted, window), color=shade, linewidth=1.4, linestyle=DASHED)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
