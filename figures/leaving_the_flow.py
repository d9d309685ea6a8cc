"""Gradient descent follows gradient flow up to the edge of stability, and leaves it there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import RATES
from toylab.models.gradient_flow import gradient_flow_steps
from toylab.models.kernel import rollout
from toylab.observing.motion import sketch
from toylab.optimizers import NAMED
from toylab.problems import chebyshev_mlp

NAME = "leaving_the_flow"
TITLE = "Gradient descent stays with gradient flow until the sharpness has crossed 2/eta, and then leaves it"

DIVISORS = (6, 4, 3, 2)  # learning rates are their reciprocals: whole numbers of steps in one unit of flow time
DEGREE, HIDDEN, SIZE = 3, (32,), 500  # fewer weights than SIZE: distances are exact
TIMES, QUICK_TIMES = 380, 24


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At flow times 0, 1, ... `times` (T,): `flow_sharpness`, `flow_loss` (T,), and for each learning rate `distance`
    of gradient descent to the flow, `sharpness`, `loss` (rates, T); `thresholds` (rates,).
    """
    times = QUICK_TIMES if quick else TIMES
    problem = chebyshev_mlp(degree=DEGREE, hidden=HIDDEN)
    rates, edge = 1 / np.array(DIVISORS), theory.cached_edge(NAMED["gd"])
    runs = toylab.sweep(
        problem,
        NAMED["gd"],
        {"learning_rate": rates},
        max(DIVISORS) * (times - 1) + 1,
        observe=toylab.observers(loss=True, sharpness=1, position=SIZE),
    )
    places, sharpness, loss = (np.asarray(array) for array in _flow(problem, times))
    at = [np.arange(times) * divisor for divisor in DIVISORS]
    return {
        "times": np.arange(times),
        "rates": rates,
        "thresholds": np.array([edge.at(learning_rate=float(rate)).threshold for rate in rates]),
        "flow_sharpness": sharpness,
        "flow_loss": loss,
        "distance": np.array([np.linalg.norm(runs.position[i, 0, t] - places, axis=1) for i, t in enumerate(at)]),
        "sharpness": np.array([runs.sharpness[i, 0, t, 0] for i, t in enumerate(at)]),
        "loss": np.array([runs.loss[i, 0, t] for i, t in enumerate(at)]),
    }


@partial(jax.jit, static_argnames="times")
def _flow(problem: toylab.Problem, times: int) -> tuple[Array, Array, Array]:
    """Weights (T, p), sharpness and loss (T,) of the flow at whole times."""
    kernel = gradient_flow_steps(problem, jnp.ones(()), fraction=0.5)
    flow = rollout(kernel, kernel.init(problem.params), times)[1]
    return jax.vmap(partial(sketch, size=SIZE))(flow.params), flow.sharpness, flow.loss


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Sharpness and distance over flow time, and the distance against how near the flow is to the edge."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    sharp, apart, collapsed = figure.subplots(1, 3)
    times = data["times"]
    sharp.plot(times, data["flow_sharpness"], color=style.GREY, linewidth=2.2, zorder=1)
    for rate, threshold, colour, sharpness, distance in zip(
        data["rates"], data["thresholds"], RATES, data["sharpness"], data["distance"], strict=True
    ):
        ratio = data["flow_sharpness"] / threshold
        sharp.plot(times, sharpness, color=colour, linewidth=0.9)
        sharp.axhline(threshold, **style.LEVEL | {"color": colour})
        apart.plot(times[1:], distance[1:], color=colour)
        if (ratio > 1).any():
            crossed = int(np.argmax(ratio > 1))
            sharp.plot(times[crossed], threshold, "o", color=colour, markersize=4, markeredgecolor="white")
            apart.plot(times[crossed], distance[crossed], "o", color=colour, markersize=4, markeredgecolor="white")
        collapsed.plot(ratio[1:], distance[1:] / rate, color=colour, linewidth=0.9)
    collapsed.axvline(1, **style.LEVEL)
    for axes in (sharp, apart):
        axes.set(xlabel=r"flow time $\eta t$", xlim=(0, times[-1]))
    sharp.set(ylabel=r"sharpness $S$", ylim=(0, None))
    apart.set(ylabel=r"distance $|w_t - w(\eta t)|$", yscale="log")
    collapsed.set(
        xlabel=r"$S_{\mathrm{flow}}$ over the threshold $2/\eta$", ylabel=r"distance$/\eta$", yscale="log",
        xlim=(0, None),
    )  # fmt: skip
    for i, (axes, title) in enumerate(
        ((sharp, "sharpness"), (apart, "distance to the flow"), (collapsed, "both rescaled")), 0
    ):
        style.letter(axes, i, title)
    handles = [Line2D([], [], color=style.GREY, linewidth=2.2)]
    handles += [Line2D([], [], color=colour) for colour in RATES]
    handles += [Line2D([], [], **style.LEVEL), Line2D([], [], linestyle="none", marker="o", color=style.BLACK)]
    labels = ["gradient flow", *(rf"GD, $\eta = 1/{divisor}$" for divisor in DIVISORS), r"$2/\eta$"]
    figure.legend(handles, [*labels, "the flow crosses it"], loc="outside upper center", ncols=7, columnspacing=1.2)
    return figure
