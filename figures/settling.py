"""Where gradient descent settles below the edge, from the excess of the sharpness that it starts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import theory
from figures import style
from theory.self_stabilization.reflection import settled
from toylab import problems
from toylab.claims.self_stabilization import settling as laws
from toylab.experiments.settling_runs import settled_excess
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems.scalar_nets import flow_sharpness

NAME = "settling"
TITLE = "Where rules settle below the edge when nothing pushes, and what decreases all the way"

FAMILIES = (
    ("minimalist", "gd", 8.0),
    ("minimalist", "gd", 30.0),
    ("minimalist", "heavy_ball .5", 16.0),
    ("minimalist", "nesterov .5", 16.0),
    ("product_regression", "gd", 3.0),
    ("product_regression", "heavy_ball .5", 3.0),
    ("hyperbolic_product", "gd", 60.0),
)
"""Loss, rule and x^2 + y^2 at the edge: learning rates from 1/8 to 1/60."""

SPANS = {"minimalist": (0.25, 6.0), "product_regression": (0.05, 0.3), "hyperbolic_product": (0.12, 0.85)}
"""Range of |Y_0|; on (1 - xy)^2/2 there is no far start: 1/C is as large as the edge itself."""

QUICK = (0, 4, 6)  # each rule on each loss compiles anew

TRACED = (0.6, 2.0, 5.0)  # Y_0 of the trajectories of the second panel
PLACE = 8.0
NET, NET_ETA, NET_STEPS = (2.2, 1.3, 0.32), 0.25, 45
TRACE_STEPS = 2200


def compute(quick: bool) -> dict[str, np.ndarray]:
    """`collapse_i` (2, runs): Y_0 and Y_f of each family; `law` (2, points) from theory; `trace_y` (3, steps): scaled
    excess of the minimum beside each iterate, `trace_end` (3,): where theory lets it rest; `net_loss`, `net_sharpness`
    (steps,) and `net_edge`.
    """
    data: dict[str, np.ndarray] = {}
    count = 6 if quick else 11
    for i, (loss, label, place) in enumerate(FAMILIES):
        if quick and i not in QUICK:
            continue
        runs = laws.runs_from(loss, label, np.full(count, place), np.linspace(*SPANS[loss], count), "law")
        c = laws.constants(runs.rule, runs.settings, loss, runs.place)["coefficient"]
        data[f"collapse_{i}"] = np.stack([c * runs.excess, c * settled_excess(runs)])
    at = np.concatenate([np.linspace(-0.93, -0.01, 60), np.linspace(0.01, 7, 140)])
    data["law"] = np.stack([at, np.asarray(settled(jnp.asarray(at)))])
    data |= _traces() | _net()
    return data


def _traces() -> dict[str, np.ndarray]:
    """Zhu's example, gradient descent: Y of the minimum that gradient flow would find from each iterate, per step."""
    scaled = np.array(TRACED)
    runs = laws.runs_from("minimalist", "gd", np.full(len(scaled), PLACE), scaled, "law")
    c = laws.constants(runs.rule, {}, "minimalist", runs.place)["coefficient"]
    problem = problems.minimalist()
    # a start that is not too close: the growth of the oscillation is seen, not waited for
    on_curve = runs.start / np.sqrt(runs.start.prod(axis=1, keepdims=True))
    start = on_curve + 2e-4 * on_curve[:, ::-1]

    def one(eta: Array, w: Array) -> Array:
        kernel = discrete_steps(problem, NAMED["gd"](learning_rate=eta))
        visited = rollout(kernel, kernel.init(w), TRACE_STEPS)[1].params
        # the gradient flow conserves x^2 - y^2, and its minimum has x y = 1
        return 2 * jnp.sqrt((visited[:, 0] ** 2 - visited[:, 1] ** 2) ** 2 + 4)

    beside = jax.jit(jax.vmap(one))(jnp.asarray(runs.eta), jnp.asarray(start))
    return {
        "trace_y": c[:, None] * (np.asarray(beside) - runs.edge[:, None]),
        "trace_end": np.asarray(settled(jnp.asarray(scaled))),
    }


def _net() -> dict[str, np.ndarray]:
    """A chain of three weights: loss and flow sharpness along gradient descent, and the edge."""
    problem = problems.scalar_chain(NET)
    kernel = discrete_steps(problem, NAMED["gd"](learning_rate=NET_ETA))
    visited = rollout(kernel, kernel.init(problem.params), NET_STEPS)[1]
    edge = theory.cached_edge(NAMED["gd"]).at(learning_rate=NET_ETA).threshold
    return {
        "net_loss": np.asarray(visited.loss),
        "net_sharpness": np.asarray(jax.vmap(flow_sharpness)(visited.params)),
        "net_edge": np.array(edge),
    }


THIN: dict[str, Any] = {**style.LEVEL, "linewidth": 0.6}

MARKS: tuple[dict[str, Any], ...] = (
    {"color": style.BLUE, "marker": "o"},
    {"color": style.BLUE, "marker": "o", "markerfacecolor": "white"},
    {"color": style.BLUE, "marker": "s", "markerfacecolor": "white"},
    {"color": style.BLUE, "marker": "^"},
    {"color": style.GREY, "marker": "D"},
    {"color": style.GREY, "marker": "v"},
    {"color": style.ORANGE, "marker": "x"},
)
NAMES = (
    r"minimalist, GD, $\eta = 1/8$",
    r"minimalist, GD, $\eta = 1/30$",
    "minimalist, heavy ball .5",
    "minimalist, Nesterov .5",
    r"$(1-xy)^2/2$, GD",
    r"$(1-xy)^2/2$, heavy ball .5",
    r"$\cosh(xy-1)-1$, GD",
)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Final against starting excess on the derived curve; trajectories to it; loss and flow sharpness of a chain."""
    figure = Figure(figsize=(style.PAGE, 2.6))
    collapse, traces, net = figure.subplots(1, 3, width_ratios=(1.5, 1.15, 1.15))
    _collapse(collapse, data)
    looks = ((style.BLUE, "-"), (style.ORANGE, "-"), (style.GREY, "-"))
    for y, end, start, (colour, line) in zip(data["trace_y"], data["trace_end"], TRACED, looks, strict=True):
        traces.plot(np.arange(len(y)), y, color=colour, linestyle=line, label=f"$Y_0 = {start:g}$")
        traces.plot([0, len(y)], [end, end], **style.LEVEL)
    traces.axhline(0, color=style.BLACK, linewidth=0.6)
    traces.set(
        xlabel="step $t$",
        ylabel=r"scaled excess $Y = C\,(S - k^\ast\!/\eta)$",
        xlim=(0, data["trace_y"].shape[1]),
        ylim=(-1.5, 5.6),
    )
    traces.legend(loc="upper right")
    style.letter(traces, 1, "settling below the edge")
    times = np.arange(len(data["net_loss"]))
    net.plot(times, data["net_sharpness"] / data["net_edge"], color=style.BLUE, linewidth=1.6)
    net.axhline(1, **style.LEVEL)
    net.set(xlabel="step $t$", xlim=(-1, len(times)))
    net.set_ylabel(r"flow sharpness $\phi\,/\,(2/\eta)$", color=style.BLUE)
    other = net.twinx()
    other.plot(times, data["net_loss"], color=style.ORANGE, linewidth=0.7, marker="o", markersize=1.8)
    other.set_yscale("log")
    other.set_ylabel("loss", color=style.ORANGE, labelpad=0)
    style.letter(net, 2, "a chain of three weights")
    return figure


def _collapse(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    at, law = data["law"]
    for part in (at < 0, at > 0):
        axes.plot(at[part], law[part], color=style.BLACK, linewidth=0.9, zorder=1)
    axes.plot([-1.5, 1.5], [1.5, -1.5], **THIN, zorder=0)
    axes.axhline(-1, **THIN, zorder=0)
    for i, (look, name) in enumerate(zip(MARKS, NAMES, strict=True)):
        if f"collapse_{i}" not in data:
            continue
        start, end = data[f"collapse_{i}"]
        axes.plot(start, end, linestyle="", markersize=3.4, label=name, **look)
    axes.set(
        xlabel=r"starting excess $Y_0 = C\,(S_0 - k^\ast\!/\eta)$",
        ylabel=r"excess at rest $Y_f = C\,(S_f - k^\ast\!/\eta)$",
        xlim=(-1.05, 6.6),
        ylim=(-1.25, 2.6),
    )
    axes.text(3.6, -1.13, "fixed gap", va="center", fontsize=7)
    axes.text(1.12, -1.13, "reflection", va="center", fontsize=7)
    axes.legend(loc="upper right", fontsize=6.8, handletextpad=0.2, borderaxespad=0.2)
    style.letter(axes, 0, r"$Y - \log(1 + Y)$ is kept")
