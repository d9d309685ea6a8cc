"""Runs of an optimizer and of the models of its average that several figures share: their arrays and their panels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures import style
from figures.model_paths import appearance, line
from toylab.experiments import compared_models as flow_settings
from toylab.experiments.compared_models import Setting, compared
from toylab.models.comparison.run import TWIN
from toylab.models.named import models

GD = replace(flow_settings.GD, models=("central_map", "central_flow"))
RMSPROP, ADAM = flow_settings.RMSPROP, flow_settings.ADAM
"""The runs that the claims are about, the central flow beside the first; one process computes each of them once."""

TITLES = {"gd": "gradient descent", "rmsprop": "RMSProp", "adam": "Adam"}
PLAIN: dict[str, Any] = {"color": "#9c9c9c", "linewidth": 0.7}
WIDE: dict[str, Any] = {"color": style.PALE, "linewidth": 2.2}
"""The looks of the optimizer's own run: light, since the models are drawn over it, and wide where they hide it."""

MAP = style.ORANGE
SHADES = (MAP, "#e9a91c", "#6b3300")
"""Colours of the first, second and third eigenvalue of the central map: warm, and middle, light and dark in grey."""


def arrays(setting: Setting, quick: bool) -> dict[str, np.ndarray]:
    """The comparison of one setting as arrays: RULE_name, with T steps from the end of the warm-up on.

    `loss`, `variance` (T,) and `edges` (T, K) of the optimizer, `times` (T/every,); for each model m and the twin
    `m_distance` (T/every,) to the optimizer; for each model `m_loss` at its mean, `m_mean_loss`, its average, and
    `m_edges` (T, K); for the central map `central_map_variance` (T,) = tr(P Sigma), its parts along the principal axes
    `central_map_variances` (T, K) and the square of the optimizer's oscillation along them, `central_map_along` (T, K).
    The optimizer's variance is of the second difference of its iterates: the smooth motion of an early transient is in
    it, too.
    """
    if quick:
        small = (("hidden", (4,)), ("loss", "mse"), ("examples", 20))
        setting = replace(setting, steps=40, count=2, settings=small)
    comparison = compared(setting)
    data = {
        "start": np.array(setting.warm_up),
        "eta": np.array(setting.learning_rate),
        "times": comparison.times,
        "loss": np.asarray(comparison.measured.loss),
        "edges": np.asarray(comparison.measured.edge_ratios),
        "variance": np.asarray(comparison.measured.variance),
    }
    for run in comparison.runs:
        data[f"{run.name}_distance"] = run.distances
        if run.name == TWIN:  # a run of the optimizer, which predicts no averages
            continue
        data |= {
            f"{run.name}_loss": np.asarray(run.predictions.loss),
            f"{run.name}_mean_loss": np.asarray(run.predictions.mean_loss),
            f"{run.name}_edges": np.asarray(run.predictions.edge_ratios),
        }
        if run.name == "central_map":
            parts = np.asarray(run.predictions.variances)
            data["central_map_variance"], data["central_map_variances"] = np.sum(parts, axis=1), parts
            data["central_map_along"] = np.zeros_like(parts) if run.along is None else run.along
    return {f"{setting.rule}_{key}": np.asarray(array) for key, array in data.items()}


def title(rule: str, mine: Mapping[str, np.ndarray]) -> str:
    """The rule's name and its learning rate."""
    return rf"{TITLES[rule]}, $\eta = {float(mine['eta']):g}$"


def steps(mine: Mapping[str, np.ndarray]) -> np.ndarray:
    """The steps (T,) of the series: t = 1, 2, ... after the warm-up."""
    return int(mine["start"]) + 1 + np.arange(len(mine["loss"]))


def losses(axes: Axes, mine: Mapping[str, np.ndarray]) -> None:
    """The optimizer's loss, the average that the central map predicts, the loss at its mean, the stable flow's; the
    central flow's average as circles, where it was run."""
    t = steps(mine)
    axes.plot(t, mine["loss"], **WIDE)
    axes.plot(t, mine["stable_flow_loss"], **_look("stable_flow"))
    axes.plot(t, mine["central_map_loss"], color=style.BLACK, linewidth=0.8)
    axes.plot(t, mine["central_map_mean_loss"], color=MAP, linewidth=1.1)
    _circles(axes, t, mine.get("central_flow_mean_loss"))
    late = mine["loss"][len(t) // 10 :]  # what comes before is steep, and the same for all
    axes.set(yscale="log", xlim=(0, t[-1]), ylim=(0.85 * mine["stable_flow_loss"].min(), 1.1 * late.max()))
    axes.set_ylabel("loss")


def edges(axes: Axes, mine: Mapping[str, np.ndarray], shown: int, limits: tuple[float, float]) -> None:
    """The `shown` largest edge ratios: the optimizer's at midpoints thin, the central map's thick, the central flow's
    as circles; the stable flow's largest until it leaves the panel's `limits`."""
    t = steps(mine)
    axes.axhline(1, **style.LEVEL, zorder=1)
    axes.plot(t, mine["stable_flow_edges"][:, 0], **_look("stable_flow"))
    for index in reversed(range(min(shown, mine["edges"].shape[1]))):
        axes.plot(t, mine["edges"][:, index], color=SHADES[index], linewidth=0.5, alpha=0.8)
        axes.plot(t, mine["central_map_edges"][:, index], color=SHADES[index], linewidth=1.3)
        _circles(axes, t, mine["central_flow_edges"][:, index] if "central_flow_edges" in mine else None)
    axes.set(xlim=(0, t[-1]), ylim=limits, ylabel="edge ratios")


def distances(axes: Axes, mine: Mapping[str, np.ndarray]) -> None:
    """How far each model's path is from the optimizer's, both without their oscillation of period two; before the
    edge the central map is the optimizer, and their distance, of rounding, below the panel."""
    t = int(mine["start"]) + mine["times"]
    for name in present(mine):
        distance = mine[f"{name}_distance"]
        if (distance > 0).any():  # a line without points has no length to put markers at
            axes.plot(t, np.where(distance > 0, distance, np.nan), **_look(name), **_mark(name), markevery=0.11)
    farthest = max(mine[f"{name}_distance"].max() for name in present(mine))
    axes.set(yscale="log", ylim=(1e-3 * farthest, 2 * farthest), ylabel=r"$|w - \bar w_t|$")
    axes.set(xlim=(0, steps(mine)[-1]), xlabel="step $t$")


def present(mine: Mapping[str, np.ndarray]) -> list[str]:
    """The models of a run, and its twin."""
    return [name for name in (*models(), TWIN) if f"{name}_distance" in mine]


def legend(mine: Mapping[str, np.ndarray], shown: int) -> tuple[list[Line2D], list[str]]:
    """Handles and labels of the three kinds of panels."""
    handles = [
        Line2D([], [], **WIDE),
        *(Line2D([], [], **_look(name), **_mark(name)) for name in present(mine)),
        Line2D([], [], color=style.BLACK, linewidth=0.8),
        Line2D([], [], **style.LEVEL),
        Line2D([], [], color=MAP, linewidth=0.5),
    ]
    labels = [
        "optimizer",
        *(appearance(name).label for name in present(mine)),
        r"central map, only $L(\bar w)$",
        "edge",
        "optimizer's eigenvalues",
    ]
    handles += [Line2D([], [], color=shade, linewidth=1.3) for shade in SHADES[1:shown]]
    return handles, labels + [f"{name} eigenvalue" for name in ("2nd", "3rd")[: shown - 1]]


def _circles(axes: Axes, t: np.ndarray, series: np.ndarray | None) -> None:
    """The central flow over the central map, which it hides otherwise or is hidden by."""
    if series is not None:
        open_: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white"}
        look = {**_look("central_flow"), **_mark("central_flow"), **open_}
        axes.plot(t, series, **look, markevery=(0.05, 0.1))


def _mark(name: str) -> dict[str, Any]:
    return {"marker": appearance(name).marker, "markersize": 2.8}


def _look(name: str) -> dict[str, Any]:
    return {**line(name), "linewidth": 1.1}
