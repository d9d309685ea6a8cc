"""Scalar RMSProp: its step becomes 2/S at the edge, and takes it through flatter regions by the curvature penalty."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import paired
from toylab.curvature import begin_track, follow
from toylab.models.central_map import central_map_steps
from toylab.models.kernel import advanced
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp
from toylab.rules.edge import edge_data

NAME = "scalar_rmsprop"
TITLE = "Scalar RMSProp steps by 2/S at the edge; without its curvature penalty S is higher and the loss falls slower"

LEARNING_RATE, DECAY, COUNT, WARM_UP = 0.03, 0.99, 6, 20
STEPS, QUICK_STEPS = 1000, 30
RUNS = {"optimizer": None, "penalty": True, "without": False}
"""The optimizer, and its central map with and without the gradient of tr(H Sigma)/2."""


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For the optimizer and both maps r, at `steps` (T,): `r_loss` (of maps the mean loss), `r_nu` after the step's
    update, `r_sharpness` (T,); `threshold` of S/sqrt(nu), and `learning_rate`.
    """
    settings = {"learning_rate": LEARNING_RATE, "decay": DECAY}
    transform = NAMED["scalar_rmsprop"](**settings)
    problem = digits_mlp(hidden=(4,), examples=20) if quick else digits_mlp(hidden=(32, 32), examples=300, seed=10)
    threshold = float(theory.cached_edge(NAMED["scalar_rmsprop"]).at(**settings).threshold)
    kernel = discrete_steps(problem, transform)
    start = advanced(kernel, kernel.init(problem.params), WARM_UP)
    steps, count = (QUICK_STEPS, 2) if quick else (STEPS, COUNT)
    data = {"steps": WARM_UP + np.arange(steps), "threshold": threshold, "learning_rate": LEARNING_RATE}
    for name, penalty in RUNS.items():
        if penalty is None:
            loss, nu, sharpness = _trained(problem, transform, start, steps)
        else:
            loss, nu, ratio = _mapped(problem, transform, start, steps, count, penalty)
            sharpness = ratio * threshold * np.sqrt(nu)
        arrays = {"loss": loss, "nu": nu, "sharpness": sharpness}
        data |= {f"{name}_{key}": np.asarray(array) for key, array in arrays.items()}
    return {key: np.asarray(array) for key, array in data.items()}


@partial(jax.jit, static_argnames=("transform", "steps"))
def _trained(problem: toylab.Problem, transform: Any, start: Any, steps: int) -> tuple[Array, Array, Array]:
    kernel = discrete_steps(problem, transform)

    def one(carry: Any, _: None) -> tuple[Any, tuple[Array, Array, Array]]:
        state, track = carry
        pairs, track = follow(problem.hessian(state.params), track, state.params)
        after, visited = kernel.step(state)
        return (after, track), (visited.loss, after.state.nu, pairs.value[0])

    return lax.scan(one, (start, begin_track(start.params, 1)), length=steps)[1]


def _mapped(
    problem: toylab.Problem, transform: Any, start: Any, steps: int, count: int, penalty: bool
) -> tuple[Array, Array, Array]:
    """Mean loss, nu and the largest edge ratio (T,) of a central map."""
    known = edge_data(transform, problem.params)
    kernel = central_map_steps(problem, transform, known, count=count, curvature_penalty=penalty)

    def one(state: Any, _: None) -> tuple[Any, tuple[Array, Array, Array]]:
        after, predictions = kernel.step(state)
        return after, (predictions.mean_loss, after.state.nu, predictions.edge_ratios[0])

    run = jax.jit(partial(lax.scan, one, length=steps))
    return run(kernel.init(start.params, start.state))[1]


LOOKS: dict[str, dict[str, Any]] = {
    "optimizer": {"color": style.PALE, "linewidth": 2.4},
    "penalty": {"color": style.ORANGE, "linewidth": 1.1},
    "without": {"color": style.BLUE, "linewidth": 1.1, "linestyle": (0, (5.0, 1.2, 1.0, 1.2))},
}
LABELS = ("optimizer, pairs of iterates", "central map", "central map without penalty", "$2/S$ of each")
TWO_OVER_S: dict[str, Any] = style.LEVEL | {"linewidth": 0.7, "zorder": 3}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Effective step against 2/S, second moment, sharpness and loss."""
    figure = Figure(figsize=(style.PAGE, 3.7))
    ((step, nu), (sharp, loss)) = figure.subplots(2, 2, sharex=True)
    for name, look in LOOKS.items():
        mine = style.of(data, name)
        effective = data["learning_rate"] / np.sqrt(mine["nu"])
        # the threshold is of S/sqrt(nu): the same of the step eta/sqrt(nu) is 2/S
        edge = data["learning_rate"] * data["threshold"] / mine["sharpness"]
        for axes, values in ((step, effective), (nu, mine["nu"]), (sharp, mine["sharpness"]), (loss, mine["loss"])):
            _line(axes, data, name, values, **look)
        _line(step, data, name, edge, **TWO_OVER_S)
    for index, (axes, label, title) in enumerate(
        (
            (step, r"step $\eta/\sqrt{\nu}$", "effective step and $2/S$"),
            (nu, r"$\nu$", "second moment"),
            (sharp, r"$S = \lambda_{\max}(H)$", "sharpness"),
            (loss, "loss", "loss, time average"),
        )
    ):
        axes.set(ylabel=label, xlim=(0, data["steps"][-1]))
        style.letter(axes, index, title)
    sharp.set(ylim=(0, None), xlabel="step $t$")
    loss.set(yscale="log", xlabel="step $t$")
    handles = [Line2D([], [], **look) for look in LOOKS.values()] + [Line2D([], [], **TWO_OVER_S)]
    figure.legend(handles, LABELS, loc="outside upper center", ncols=4)
    return figure


def _line(axes: Axes, data: Mapping[str, np.ndarray], name: str, values: np.ndarray, **look: Any) -> None:
    """A series over time; the optimizer's as means of two consecutive iterates."""
    series = paired(data["steps"], values) if name == "optimizer" else (data["steps"], values)
    axes.plot(*series, **look)
