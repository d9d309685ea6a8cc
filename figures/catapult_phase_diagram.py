"""Where the two-layer linear net lands, over all feasible starts: gradient descent and heavy ball."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory import cached_edge
from theory.toy_losses.catapult import catapult_window
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import two_layer_linear

NAME = "catapult_phase_diagram"
TITLE = "Catapults of the two-layer linear net: where each feasible start lands, and how"

RULES = {"gd": ("gd", {}), "momentum": ("heavy_ball", {"momentum": 0.5})}
SPAN = 2.3  # of eta lambda_0, in edges of the rule
EXAMPLES = (0.8, 1.3, 1.8, 2.02)  # starts of the runs that are shown, in edges: lazy, two catapults, divergence
SMALL = 1e-3  # their eta f_0/sqrt(n)
STEPS = 60


def _net(a: Array, share: Array) -> tuple[Array, Array]:
    """Weights of width 2 with lambda = a and f/sqrt(n) = share a/2."""
    zero = jnp.zeros_like(a)
    p, q = jnp.sqrt(2 * a * (1 + share)), jnp.sqrt(2 * a * (1 - share))
    return jnp.stack([p, q], -1) / 2, jnp.stack([p, -q], -1) / 2 + zero[..., None]


def _output_and_curvature(params: tuple[Array, Array]) -> tuple[Array, Array]:
    u, v = params
    return jnp.sum(u * v) / 2, (jnp.sum(u * u) + jnp.sum(v * v)) / 2


def _kernel(rule: str, a: Array, share: Array) -> Any:
    name, settings = RULES[rule]
    problem = two_layer_linear(u=_net(a, share)[0], v=_net(a, share)[1])
    kernel = discrete_steps(problem, NAMED[name](learning_rate=1.0, **settings))
    return kernel, kernel.init(problem.params)


@partial(jax.jit, static_argnames=("rule", "steps"))
def _landings(rule: str, a: Array, share: Array, steps: int) -> tuple[Array, Array]:
    def one(a: Array, share: Array) -> tuple[Array, Array]:
        kernel, state = _kernel(rule, a, share)
        return _output_and_curvature(lax.fori_loop(0, steps, lambda _, state: kernel.step(state)[0], state).params)

    return jax.vmap(one)(a, share)


@partial(jax.jit, static_argnames=("rule",))
def _runs(rule: str, a: Array, share: Array) -> tuple[Array, Array]:
    def one(a: Array, share: Array) -> tuple[Array, Array]:
        kernel, state = _kernel(rule, a, share)
        _, visited = rollout(kernel, state, STEPS)
        return visited.loss, jax.vmap(_output_and_curvature)(visited.params)[1]

    return jax.vmap(one)(a, share)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule `landing` (rows, columns), the final eta lambda in edges, -1 where the run diverged; the starts `a`
    (columns,) and `share` (rows,) = 2 |f_0|/(sqrt(n) lambda_0); runs `loss` (4, T) over n/eta^2 and `curvature` (4, T),
    held at 1e6 once they diverge; and its `edge`.  From theory, for gradient descent: `upper`, the `fall` line (the eta
    lambda above which the first step raises the loss) over `share`.
    """
    columns, rows, steps = (90, 60, 400) if quick else (280, 180, 800)
    window = catapult_window(two_layer_linear(width=1).loss, NAMED["gd"])
    share = (np.arange(rows) + 0.5) / rows
    data: dict[str, np.ndarray] = {"share": share, "upper": np.array(float(window.numeric("upper_edge")()))}
    for rule, (name, settings) in RULES.items():
        edge = cached_edge(NAMED[name]).at(learning_rate=1.0, **settings).threshold
        a = SPAN * edge * (np.arange(columns) + 0.5) / columns
        grid = np.meshgrid(a, share)
        output, curvature = (np.asarray(e) for e in _landings(rule, *(jnp.asarray(e.ravel()) for e in grid), steps))
        landed = np.isfinite(curvature) & (np.abs(output) < 1) & (curvature < 2 * SPAN * edge)
        landing = np.where(landed, np.where(landed, curvature, 0) / edge, -1).reshape(rows, columns)
        starts = edge * np.array(EXAMPLES)
        loss, path = _runs(rule, jnp.asarray(starts), jnp.asarray(2 * SMALL / starts))
        data |= {
            f"{rule}_edge": np.array(edge),
            f"{rule}_a": a / edge,
            f"{rule}_landing": landing,
            f"{rule}_loss": np.nan_to_num(np.asarray(loss) / 2, nan=1e6, posinf=1e6).clip(max=1e6),
            f"{rule}_curvature": np.nan_to_num(np.asarray(path) / edge, nan=1e6, posinf=1e6).clip(max=1e6),
        }
    heights = np.linspace(0, 2, 401)  # of eta^2 f^2/n
    raises = np.asarray(jax.vmap(lambda c: window.numeric("edge")(c=c))(jnp.asarray(heights)))
    data["fall_a"], data["fall_share"] = raises / data["gd_edge"], 2 * np.sqrt(heights) / raises
    return data


COLOURS = (style.GREY, style.BLUE, style.ORANGE, style.BLACK)
LINES: tuple[Any, ...] = ("-", "-", "-", (0, (5.0, 1.2, 1.0, 1.2)))


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Per rule a row: the map of landings, then eta lambda and the loss along four runs."""
    figure = Figure(figsize=(style.PAGE, 4.3))
    grid = figure.subplots(2, 3, width_ratios=(1.75, 1, 1))
    names = {"gd": "gradient descent", "momentum": r"heavy ball, $\beta = 0.5$"}
    edges = {"gd": r"2/\eta", "momentum": r"2(1+\beta)/\eta"}
    image: Any = None
    for row, rule in enumerate(RULES):
        own = style.of(data, rule)
        panel, curvature, loss = grid[row]
        image = _diagram(panel, data, own)
        panel.set(xlabel=rf"initial $\lambda_0$ over the edge ${edges[rule]}$")
        panel.set_ylabel(r"initial output $2|f_0|/(\sqrt{n}\,\lambda_0)$")
        style.letter(panel, 3 * row, names[rule])
        upper = float(data["upper"] / data["gd_edge"]) if rule == "gd" else None
        if upper is not None:
            panel.axvline(upper, **style.LEVEL, path_effects=style.halo())
            panel.plot(data["fall_a"], data["fall_share"], **style.PAIR, path_effects=style.halo(1.6))
        panel.axvline(1, **style.LEVEL, path_effects=style.halo())
        for i, start in enumerate(EXAMPLES):
            look = {"color": COLOURS[i], "linestyle": LINES[i]}
            shown = own["curvature"][i] < 1e3
            curvature.plot(np.flatnonzero(shown), own["curvature"][i][shown], **look, label=f"{start:g}")
            visible = own["loss"][i] < 1e3
            loss.plot(np.flatnonzero(visible), own["loss"][i][visible], **look)
        curvature.axhline(1, **style.LEVEL)
        curvature.set(xlabel="step $t$", ylabel=r"$\lambda_t$ over the edge", xlim=(0, STEPS), ylim=(0, 2.6))
        loss.set(xlabel="step $t$", ylabel=r"loss $L(w_t)\,\eta^2/n$", yscale="log", xlim=(0, STEPS), ylim=(1e-12, 1e2))
        style.letter(curvature, 3 * row + 1, "kernel")
        style.letter(loss, 3 * row + 2, "loss")
    bar = figure.colorbar(image, ax=grid[:, 0], location="left", shrink=0.7, pad=0.02)
    bar.set_label(r"final $\lambda$ over the edge (black: diverges)")
    handles = [Line2D([], [], color=c, linestyle=s) for c, s in zip(COLOURS, LINES, strict=True)]
    handles += [Line2D([], [], **style.LEVEL), Line2D([], [], **style.PAIR)]
    labels = [rf"$\lambda_0$ = {start:g} $\times$ edge" for start in EXAMPLES]
    labels += ["derived edges", "first step keeps the loss"]
    figure.legend(handles, labels, loc="outside upper center", ncols=6, columnspacing=0.9)
    return figure


def _diagram(panel: Axes, data: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> Any:
    colours = mpl.colormaps["YlGnBu"].with_extremes(under=style.BLACK)
    share, a = data["share"], own["a"]
    step_a, step_share = a[1] - a[0], share[1] - share[0]
    extent = (a[0] - step_a / 2, a[-1] + step_a / 2, share[0] - step_share / 2, share[-1] + step_share / 2)
    image = panel.imshow(
        own["landing"], origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=0, vmax=1, rasterized=True
    )
    panel.set(ylim=(0, 1), xlim=extent[:2])
    return image
