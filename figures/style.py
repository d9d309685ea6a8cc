"""The look of all figures, as data: functions that return rcParams, sizes in inches, and how lines are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke, withStroke

PAGE = 6.9
"""Width in inches of the text of a two-column paper."""

BLACK, BLUE, ORANGE = "#000000", "#0072b2", "#d55e00"
"""Colours from the palette of Okabe & Ito (2008), told apart by all common kinds of colour vision."""

GREY, PALE = "#767676", "#bdbdbd"
"""Colours of axes and of contours behind the data."""

FLIP: dict[str, Any] = {"color": BLACK, "linestyle": (0, (4.5, 2.0))}
PAIR: dict[str, Any] = {"color": BLACK, "linestyle": (0, (1.0, 1.3))}
LEVEL: dict[str, Any] = {"color": BLACK, "linestyle": (0, (4.5, 2.0)), "linewidth": 0.9}
"""Line styles of a threshold that is crossed by a flip, by a complex pair, and of a level to compare with."""


def paper(dpi: int = 300) -> dict[Any, Any]:
    """rcParams of every figure: 8 pt Times-like text and mathematics, thin axes, no clipping at the rim."""
    return {
        "figure.dpi": dpi,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.03,
        "figure.constrained_layout.h_pad": 0.03,
        "font.family": ["STIXGeneral", "DejaVu Serif"],
        "mathtext.fontset": "stix",
        "font.size": 8.0,
        "axes.titlesize": 8.5,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "axes.linewidth": 0.6,
        "axes.titlepad": 4.0,
        "axes.labelpad": 2.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 3.0,
        **{f"{axis}tick.{which}.width": 0.6 for axis in "xy" for which in ("major", "minor")},
        **{f"{axis}tick.direction": "in" for axis in "xy"},
        **{f"{axis}tick.major.size": 3.0 for axis in "xy"},
        **{f"{axis}tick.minor.size": 1.6 for axis in "xy"},
        "image.interpolation": "nearest",
    }


def styled(draw: Callable[[Mapping[str, np.ndarray]], Figure]) -> Callable[[Mapping[str, np.ndarray]], Figure]:
    """A figure's `draw`, in the style of `paper`; laid out at once, so that nothing takes its style later."""

    @wraps(draw)
    def drawn(data: Mapping[str, np.ndarray]) -> Figure:
        with mpl.rc_context(paper()):
            figure = draw(data)
            figure.draw_without_rendering()
        return figure

    return drawn


def of(data: Mapping[str, np.ndarray], owner: str) -> dict[str, np.ndarray]:
    """The arrays called ``owner_name`` in a figure's data, by name."""
    start = f"{owner}_"
    return {key.removeprefix(start): array for key, array in data.items() if key.startswith(start)}


def growth_colours() -> LinearSegmentedColormap:
    """Blue below zero, orange above, and darker all the way up: in grey the order of all values is still seen."""
    below = [(0.0, "#f7fafc"), (0.25, "#d3e4f1"), (0.5, "#94bfe0")]
    above = [(0.5, "#e39552"), (0.75, "#b85c22"), (1.0, "#5c2408")]
    return LinearSegmentedColormap.from_list("growth", below + above)


def halo(width: float = 2.0) -> list[Stroke]:
    """A white rim, for lines and letters that lie on an image."""
    return [withStroke(linewidth=width, foreground="white")]


def letter(axes: Axes, index: int, title: str = "") -> None:
    """The panel's letter and title, left above its axes."""
    axes.set_title(rf"$\bf{{{chr(ord('a') + index)}}}$  {title}", loc="left")
