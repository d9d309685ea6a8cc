"""Gradient descent and its flows on a loss of two weights, as a picture and as an animation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from figures.model_paths import line
from toylab.curvature import dense_hessian
from toylab.models import rollout
from toylab.models.named import models
from toylab.models.optimizer import discrete_steps
from toylab.problems import berthier_one_eigenvalue

NAME = "flows_in_the_plane"
TITLE = "Gradient descent, its central flow and gradient flow on a loss of two weights (with an animation)"

ETA, PUSH, ZETA, START = 0.3, 0.01, 0.6, (0.05, 6.0)
STEPS, QUICK_STEPS = 1600, 60
FLOWS = {"stable_flow": "gradient flow", "central_flow": "central flow"}
PATHS = ("optimizer", *FLOWS)
FRAMES = 100
TAIL = 12
"""Iterates that the animation shows at a time: an oscillation is seen by its last few."""


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For gradient descent (`optimizer`) and each flow r: `r_path` (T, 2), the weights (x, y) at every step, and
    `r_sharpness` (T,) there; `edge`, 2/eta."""
    problem = berthier_one_eigenvalue(PUSH, ZETA, start=START)
    rule, steps = optax.sgd(ETA), QUICK_STEPS if quick else STEPS
    kernels = {"optimizer": discrete_steps(problem, rule)} | {
        name: models()[name].steps(problem, rule, count=1) for name in FLOWS
    }
    data: dict[str, Any] = {"edge": 2 / ETA}
    for name, kernel in kernels.items():

        @jax.jit
        def run(kernel: Any = kernel) -> Any:
            path = rollout(kernel, kernel.init(problem.params), steps)[1].params
            tops = jax.vmap(lambda w: jnp.linalg.eigvalsh(dense_hessian(problem, w))[-1])(path)
            return path, tops

        data[f"{name}_path"], data[f"{name}_sharpness"] = run()
    return {key: np.asarray(value) for key, value in data.items()}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Paths in the plane, and the sharpness along them."""
    figure, plane, time = _panels(data)
    for name in PATHS:
        x, y = data[f"{name}_path"].T
        plane.plot(x, y, **_look(name))
        time.plot(data[f"{name}_sharpness"], **_look(name))
    return figure


def animate(data: Mapping[str, np.ndarray]) -> FuncAnimation:
    """The same, growing; of the optimizer only the last iterates are joined."""
    with mpl.rc_context(style.paper()):
        figure, plane, time = _panels(data)
        figure.draw_without_rendering()
    length = len(data["optimizer_path"])
    lines: dict[str, tuple[Line2D, Line2D, Line2D]] = {}
    for name in PATHS:
        (path,), (sharpness,) = plane.plot([], [], **_look(name)), time.plot([], [], **_look(name))
        (head,) = plane.plot([], [], marker="o", markersize=4, linestyle="none", color=_look(name)["color"])
        lines[name] = path, sharpness, head

    def frame(number: int) -> list[Line2D]:
        length_shown = max(2, (number + 1) * length // FRAMES)
        for name, (path, sharpness, head) in lines.items():
            x, y = data[f"{name}_path"][:length_shown].T
            shown = slice(-TAIL if name == "optimizer" else 0, None)
            path.set_data(x[shown], y[shown])
            head.set_data(x[-1:], y[-1:])
            sharpness.set_data(np.arange(length_shown), data[f"{name}_sharpness"][:length_shown])
        return [line for three in lines.values() for line in three]

    return FuncAnimation(figure, frame, frames=FRAMES, interval=60, blit=False)


def _panels(data: Mapping[str, np.ndarray]) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(style.PAGE, 2.6))
    plane, time = figure.subplots(1, 2)
    edge, x = float(data["edge"]), data["optimizer_path"][:, 0]
    low = min(float(data[f"{name}_path"][:, 1].min()) for name in PATHS)
    high = max(float(data[f"{name}_path"][:, 1].max()) for name in PATHS)
    plane.axhline(edge, **style.LEVEL)
    plane.set(xlim=(1.15 * x.min(), 1.15 * x.max()), ylim=(low - 0.1, high + 0.1), xlabel="$x$", ylabel="$y$")
    style.letter(plane, 0, "weights")
    time.axhline(edge, **style.LEVEL)
    tops = np.concatenate([data[f"{name}_sharpness"] for name in PATHS])
    time.set(xlim=(0, len(x)), ylim=(tops.min() - 0.1, tops.max() + 0.1), xlabel="step $t$")
    style.letter(time, 1, r"sharpness; dashed, $2/\eta$")
    labels = {"optimizer": "gradient descent", **FLOWS}
    handles = [Line2D([], [], label=labels[name], **_look(name)) for name in PATHS]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure, plane, time


def _look(name: str) -> dict[str, Any]:
    if name == "optimizer":
        return {"color": "#9c9c9c", "linewidth": 0.5}
    black = {"color": style.BLACK} if name == "stable_flow" else {}
    return {**line(name), **black, "linewidth": 1.4}
