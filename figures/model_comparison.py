"""Models of the averaged path: how far each ends from the optimizer's own run, against what a step of it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from figures import style
from figures.model_paths import appearance, line
from toylab.claims.flows.table import described, kept
from toylab.experiments.compared_models import CONVOLUTIONAL, GRID
from toylab.models.named import models

NAME = "model_comparison"
TITLE = "Models of the averaged path: error at the end against cost of a step, for seven rules on three problems"

TITLES = {
    "gd": "GD", "heavy_ball": "heavy ball", "nesterov": "Nesterov", "rmsprop": "RMSProp", "adam": "Adam",
    "nadam": "NAdam", "scalar_rmsprop": "scalar RMSProp",
}  # fmt: skip
PROBLEMS = {"digits_mlp": "digits, MLP", "chebyshev_mlp": "regression", "digits_cnn": "digits, CNN"}
RUNS = {
    "digits_mlp": ("gd", "heavy_ball", "nesterov", "rmsprop", "adam", "nadam"),
    "chebyshev_mlp": ("gd", "scalar_rmsprop", "adam"),
    "digits_cnn": ("gd", "rmsprop", "adam"),
}
"""The rules that are shown on each problem, a panel each; of several settings the longest."""

COLUMNS = 4


class Panel(NamedTuple):
    """A rule on a problem."""

    rule: str
    problem: str

    @property
    def key(self) -> str:
        """The beginning of its arrays' names."""
        return f"{self.rule}-{self.problem}"

    def kept(self, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Its records, one for each seed."""
        mine = (one for one in (*GRID, *CONVOLUTIONAL) if (one.rule, one.problem) == self)
        setting = described(max(mine, key=lambda one: one.steps))
        return [one for one in records if {**one["setting"], "seed": 0} == {**setting, "seed": 0}]


PANELS = tuple(Panel(rule, problem) for problem, rules in RUNS.items() for rule in rules)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """What `make models` keeps of runs that take hours: for each panel KEY_models (M,), KEY_error (M, seeds), the
    distance at the end over the distance travelled (nan for a model that diverged), and KEY_cost (M, seeds), gradients
    a step; `quick` is the same."""
    del quick
    records, data = kept()["records"], {}
    for panel in PANELS:
        seeds = [{own["name"]: own for own in one["models"]} for one in panel.kept(records)]
        names = list(seeds[0])
        data[f"{panel.key}_models"] = np.array(names)
        for key, column in {"error": "distance", "cost": "gradients_per_step"}.items():
            data[f"{panel.key}_{key}"] = np.array([[one[name][column] for one in seeds] for name in names], float)
    return data


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """One panel a rule and problem, one marker a model at the geometric mean of its seeds, with a bar from the lowest
    to the highest; lower is closer, further left is cheaper; dotted, the optimizer from itself when it starts 1e-6
    away."""
    rows = -(-len(PANELS) // COLUMNS)
    figure = Figure(figsize=(style.PAGE, 0.7 + 1.6 * rows))
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True).ravel()
    for number, (axes, panel) in enumerate(zip(panels, PANELS, strict=True)):
        _panel(axes, style.of(data, panel.key))
        style.letter(axes, number, f"{TITLES[panel.rule]}; {PROBLEMS[panel.problem]}")
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel("gradients a step")
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("distance at end / travelled")
    drawn = {str(name) for panel in PANELS for name in data[f"{panel.key}_models"]}
    handles = [Line2D([], [], label=appearance(name).label, **_look(name)) for name in models() if name in drawn]
    handles.append(Line2D([], [], label="the optimizer's twin", **FLOOR))
    figure.legend(handles=handles, loc="outside upper center", ncols=COLUMNS)
    return figure


def _panel(axes: Axes, own: Mapping[str, np.ndarray]) -> None:
    for name, errors, costs in zip(own["models"], own["error"], own["cost"], strict=True):
        error, cost = (np.exp(np.mean(np.log(values))) for values in (errors, costs))
        if name == "twin":
            axes.axhline(error, **FLOOR)
            continue
        axes.plot([cost, cost], [errors.min(), errors.max()], color=appearance(str(name)).colour, linewidth=0.9)
        axes.plot(cost, error, **_look(str(name)))
    axes.set(xscale="log", yscale="log")
    axes.margins(0.15)
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


FLOOR: dict[str, Any] = {**line("twin"), "linewidth": 0.9}


def _look(name: str) -> dict[str, Any]:
    look, rim = appearance(name), {"markeredgecolor": style.BLACK, "markeredgewidth": 0.5}
    return {"color": look.colour, "marker": look.marker, "markersize": 5, "linestyle": "none", **rim}
