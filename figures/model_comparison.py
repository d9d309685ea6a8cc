"""Models of the averaged path: how far each ends from the optimizer's own run, against what a step of it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from figures import style
from figures.model_paths import LOOKS
from toylab.model_comparison import compare
from toylab.optimizers import NAMED
from toylab.problems import chebyshev_mlp, digits_mlp
from toylab.problems.base import Problem

NAME = "model_comparison"
TITLE = "Models of the averaged path: error at the end against cost of a step, for three rules"


class Setting(NamedTuple):
    """One rule on one problem; `warm_up` leads past the first steps, where the sharpness falls."""

    rule: str
    title: str
    settings: Mapping[str, float]
    problem: Callable[[], Problem]
    warm_up: int
    steps: int
    models: tuple[str, ...]


REGRESSION = partial(chebyshev_mlp, degree=3, hidden=(32,), seed=10)
DIGITS = partial(digits_mlp, hidden=(16, 16), examples=100, seed=10)
FEW = ("central_map", "rod_flow")
SETTINGS = (
    Setting("gd", "GD, regression", {"learning_rate": 0.5}, REGRESSION, 20, 1000, ("central_flow", *FEW, "edge_flow")),
    Setting("rmsprop", "RMSProp, digits", {"learning_rate": 6e-4, "decay": 0.99}, DIGITS, 20, 600, FEW),
    Setting("adam", "Adam, regression", {"learning_rate": 4e-3, "b2": 0.99}, REGRESSION, 20, 1500, FEW),
)
"""Central flows are left out where they cost most, and the predicted dynamics, which take hundreds of gradients."""

EIGENVALUES = 4
MODELS = ("stable_flow", "central_flow", "central_map", "rod_flow", "edge_flow")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule RULE_models, and RULE_error, the distance at the end over the distance travelled, and RULE_cost,
    gradients a step, of these; RULE_onset, the step from which the run is at the edge (-1: never).
    A model that diverged is left out.
    """
    found: dict[str, Any] = {}
    for setting in SETTINGS[:1] if quick else SETTINGS:
        compared = compare(
            setting.problem(),
            NAMED[setting.rule](**setting.settings),
            40 if quick else setting.steps,
            models=("central_map",) if quick else setting.models,
            count=2 if quick else EIGENVALUES,
            warm_up=setting.warm_up,
        )
        errors = [run.errors for run in compared.runs if run.errors["distance"] is not None]
        found[f"{setting.rule}_models"] = [record["name"] for record in errors]
        found[f"{setting.rule}_error"] = [record["distance"] for record in errors]
        found[f"{setting.rule}_cost"] = [record["gradients_per_step"] for record in errors]
        found[f"{setting.rule}_onset"] = -1 if compared.onset is None else compared.onset
    return {key: np.asarray(value) for key, value in found.items()}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """One panel a rule, one marker a model; lower is closer, further left is cheaper; dotted, how far the optimizer
    is from itself when it starts 1e-6 away."""
    figure = Figure(figsize=(style.PAGE, 2.4))
    shown = [setting for setting in SETTINGS if f"{setting.rule}_models" in data]
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for number, (axes, setting) in enumerate(zip(panels, shown, strict=True)):
        own = style.of(data, setting.rule)
        for name, error, cost in zip(own["models"], own["error"], own["cost"], strict=True):
            if name == "twin":
                axes.axhline(error, **FLOOR)
            else:
                axes.plot(cost, error, **_look(str(name)))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("gradients a step")
        style.letter(axes, number, setting.title)
    panels[0].set_ylabel("distance at the end / travelled")
    drawn = {str(name) for setting in shown for name in data[f"{setting.rule}_models"]}
    handles = [Line2D([], [], label=name.replace("_", " "), **_look(name)) for name in MODELS if name in drawn]
    handles.append(Line2D([], [], label="the optimizer's twin", **FLOOR))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


FLOOR: dict[str, Any] = {"color": LOOKS["twin"][0], "linestyle": LOOKS["twin"][1], "linewidth": 0.9}


def _look(name: str) -> dict[str, Any]:
    colour, _, marker = LOOKS[name]
    return {
        "color": colour, "marker": marker, "markersize": 6, "linestyle": "none", "markeredgecolor": style.BLACK,
        "markeredgewidth": 0.5,
    }  # fmt: skip
