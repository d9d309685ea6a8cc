"""Models of the averaged path beside one run of the optimizer, over time: what `toylab flows` draws of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from toylab.models.model import Appearance
from toylab.models.named import models

TWIN = Appearance("twin", style.BLACK, (0, (1.0, 2.0)), "_")
"""The look of the run of the optimizer that began next to its own."""


def appearance(name: str) -> Appearance:
    """How a model looks: as it declares; `twin` is no model."""
    return TWIN if name == "twin" else models()[name].appearance


def line(name: str) -> dict[str, Any]:
    """Colour and dashes of a model's line."""
    look = appearance(name)
    return {"color": look.colour, "linestyle": look.dashes}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Distances, losses and edge ratios over time.

    `models` (M,) names, of which `twin` is a run of the optimizer that began next to its own; `steps` (T,); `times`,
    at which MODEL_distance is given; `phases`: onset and the settled phase's begin, or none; `optimizer_loss` (T,),
    `optimizer_edge_ratios` (T, K); MODEL_loss (T,), the model's average; MODEL_edge_ratios (T, any).
    """
    figure = Figure(figsize=(style.PAGE, 2.4))
    apart, loss, ratio = figure.subplots(1, 3)
    steps, names = data["steps"], [str(name) for name in data["models"]]
    loss.plot(steps, data["optimizer_loss"], color=style.PALE, linewidth=0.8, label="optimizer")
    ratio.plot(steps, data["optimizer_edge_ratios"][:, 0], color=style.PALE, linewidth=0.8)
    ratio.axhline(1, **style.LEVEL)
    for name in names:
        look = line(name)
        apart.plot(data["times"], _positive(data[f"{name}_distance"]), label=appearance(name).label, **look)
        if name == "twin":  # a run of the optimizer, which would hide its loss
            continue
        loss.plot(steps, _positive(data[f"{name}_loss"]), **look)
        ratio.plot(steps, data[f"{name}_edge_ratios"][:, 0], **look)
    titles = ("distance to the optimizer", "loss, time average", "edge ratio")
    for index, (axes, title) in enumerate(zip((apart, loss, ratio), titles, strict=True)):
        _finished(axes, data, index, title)
    for axes in (apart, loss):
        if any((line.get_ydata() > 0).any() for line in axes.get_lines()):
            axes.set_yscale("log")
    handles = [*loss.get_legend_handles_labels()[0], *apart.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _finished(axes: Axes, data: Mapping[str, np.ndarray], index: int, title: str) -> None:
    for step in data["phases"]:
        axes.axvline(step, color=style.PALE, linewidth=0.6, zorder=0)
    axes.set_xlim(0, data["steps"][-1])
    axes.set_xlabel("step $t$")
    style.letter(axes, index, title)


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)
