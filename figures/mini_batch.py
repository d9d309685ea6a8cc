"""Mini-batches: the smaller they are, the further below the edge the Hessian of all examples settles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import toylab
from figures import style
from figures.members import RATES
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "mini_batch"
TITLE = "The smaller the mini-batches, the further below its edge the whole loss settles"

EXAMPLES, HIDDEN = 128, (16,)
SIZES, QUICK_SIZES = (4, 16, 64, 128), (32, 128)
RULES = {  # name -> settings, steps
    "gd": ({"learning_rate": 0.6}, 1500),
    "adam": ({"learning_rate": 4e-3, "b1": 0.9, "b2": 0.99}, 1500),
}
EVERY = 10


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule `RULE_steps` (T,), and `RULE_ratio` (sizes, T), the edge ratio of the Hessian of all examples; for
    GD also `gd_felt` (sizes, T), the batch sharpness over the same threshold; `sizes`. One start, one sequence of
    batches for each size.
    """
    sizes, data = QUICK_SIZES if quick else SIZES, {}
    problem = digits_mlp(hidden=HIDDEN, examples=EXAMPLES)
    for rule in ("gd",) if quick else RULES:
        settings, steps = RULES[rule]
        transform = NAMED[rule](**settings)
        runs = []
        for size in sizes:
            observers = toylab.observers(edge_ratio=True, batch_sharpness=size if rule == "gd" else 0)
            runs.append(
                toylab.train(problem, transform, 60 if quick else steps, observers, every=EVERY, batch_size=size)
            )
        data[f"{rule}_steps"] = runs[0].steps
        data[f"{rule}_ratio"] = np.array([run.edge_ratio for run in runs])
        if rule == "gd":
            thresholds = [run.preconditioned_sharpness / run.edge_ratio for run in runs]
            pairs = zip(runs, thresholds, strict=True)
            data["gd_felt"] = np.array([run.batch_sharpness / threshold for run, threshold in pairs])
    return data | {"sizes": np.array(sizes)}


def smoothed(values: np.ndarray, width: int = 10) -> np.ndarray:
    """Means over `width` observations on either side (..., T), fewer at the ends."""
    total = np.cumsum(np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1), axis=-1)
    place = np.arange(values.shape[-1])
    first, last = np.maximum(place - width, 0), np.minimum(place + width + 1, values.shape[-1])
    return (total[..., last] - total[..., first]) / (last - first)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The edge ratio over time for SGD and Adam, and for SGD the batch sharpness, along the batches' own gradients."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    panels = [("gd_ratio", "SGD"), ("gd_felt", "SGD, felt by its batches"), ("adam_ratio", "Adam")]
    panels = [(key, title) for key, title in panels if key in data]
    labels = {
        "gd_ratio": r"$\lambda_{\max}(H)\,\eta/2$",
        "gd_felt": r"batch sharpness $\times\,\eta/2$",
        "adam_ratio": r"$\lambda_{\max}(P^{-1}H)\,\eta/k^*$",
    }
    for number, (axes, (key, title)) in enumerate(
        zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True)
    ):
        steps = data[f"{key.partition('_')[0]}_steps"]
        axes.axhline(1, color=style.BLACK, linestyle="--", linewidth=0.9)
        for colour, values in zip(RATES, smoothed(data[key]), strict=False):
            axes.plot(steps, values, color=colour)
        style.letter(axes, number, title)
        axes.set_xlabel("step $t$")
        axes.set_ylabel(labels[key])
        axes.set_xlim(0, steps[-1])
    handles = [Line2D([], [], color=c, label=f"{size}") for c, size in zip(RATES, data["sizes"], strict=False)]
    handles.append(Line2D([], [], color=style.BLACK, linestyle="--", linewidth=0.9, label="edge of the full batch"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title="examples in a batch")
    return figure
