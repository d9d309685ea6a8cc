"""How the roots z of six rules move with the loop gain k, and where they leave the unit circle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from figures import style
from theory import cached_edge
from toylab.optimizers import NAMED

NAME = "root_loci"
TITLE = "Root loci of six rules: where the multipliers leave the unit circle"

REACH = 1.5  # k / k* at the end of the loci
CROSSING: dict[str, Any] = {
    "marker": "D", "markersize": 4.5, "color": "white", "markeredgecolor": "black", "linestyle": "none",
}  # fmt: skip


class Panel(NamedTuple):
    """One rule, with the hyperparameters that are set."""

    rule: str
    title: str
    settings: Mapping[str, float] = {}


PANELS = (
    Panel("gd", "gradient descent"),
    Panel("heavy_ball", r"heavy ball, $\beta_1 = 0.6$", {"momentum": 0.6}),
    Panel("nesterov", r"Nesterov, $\beta_1 = 0.9$", {"momentum": 0.9}),
    Panel("adam", r"Adam, $\beta_1 = 0.9$", {"b1": 0.9}),
    Panel("ema_cascade", r"two EMAs, $\beta_1 = 0.6,\,\beta_2 = 0.5$", {"b1": 0.6, "b2": 0.5}),
    Panel("delayed_gradient", "gradient one step late"),
)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule r: `r_ratio` (n,) = k/k*, `r_roots` (n, d), each column one root followed along k; and `r_k`,
    `r_angle`, `r_flip` of the crossing.
    """
    data: dict[str, np.ndarray] = {}
    for panel in PANELS:
        edge = cached_edge(NAMED[panel.rule]).at(**panel.settings)
        ratio, roots = locus(lambda r, edge=edge: np.roots(edge.polynomial(edge.k * r)), rounds=8 if quick else 16)
        arrays = {"ratio": ratio, "roots": roots, "k": edge.k, "angle": edge.angle, "flip": edge.crossing == "flip"}
        data |= {f"{panel.rule}_{name}": np.asarray(value) for name, value in arrays.items()}
    return data


def locus(roots_at: Callable[[float], np.ndarray], rounds: int, step: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Ratios k/k* from 0 to `REACH` and the roots there; intervals are halved (at most `rounds` times) where a root
    moves by more than `step`: where two roots meet, they move like a square root of k.
    """
    ratio = np.linspace(0, REACH, 76)
    roots = followed([roots_at(r) for r in ratio])
    for _ in range(rounds):
        wide = np.flatnonzero(np.abs(np.diff(roots, axis=0)).max(axis=1) > step)
        if not len(wide):
            break
        middle = (ratio[wide] + ratio[wide + 1]) / 2
        ratio = np.insert(ratio, wide + 1, middle)
        roots = followed(list(np.insert(roots, wide + 1, [roots_at(r) for r in middle], axis=0)))
    return ratio, roots


def followed(sets: list[np.ndarray]) -> np.ndarray:
    """The same roots (n, d), ordered so that each column moves as little as possible from row to row."""
    rows = [sets[0].astype(complex)]
    orders = [list(order) for order in permutations(range(len(sets[0])))]
    for roots in sets[1:]:
        rows.append(min((roots[order] for order in orders), key=lambda row: np.sum(np.abs(row - rows[-1]) ** 2)))
    return np.array(rows)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Six complex planes with one scale of colour."""
    figure = Figure(figsize=(style.PAGE, 4.4))
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    scale = Normalize(0, REACH)
    for index, (axes, panel) in enumerate(zip(grid.flat, PANELS, strict=True)):
        mine = style.of(data, panel.rule)
        ratio, roots, angle, flip = mine["ratio"], mine["roots"], mine["angle"], mine["flip"]
        axes.axhline(0, color=style.GREY, linewidth=0.4, zorder=0)
        axes.axvline(0, color=style.GREY, linewidth=0.4, zorder=0)
        axes.add_patch(Circle((0, 0), 1, fill=False, linestyle=(0, (4.5, 2.0)), linewidth=0.9, zorder=1))
        for root in roots.T:
            path = np.stack([root.real, root.imag], axis=1)
            segments = np.stack([path[:-1], path[1:]], axis=1)
            lines = LineCollection(
                list(segments), cmap="viridis_r", norm=scale, linewidth=2.2, capstyle="round", zorder=2
            )
            lines.set_array((ratio[:-1] + ratio[1:]) / 2)
            axes.add_collection(lines)
        axes.plot(roots[0].real, roots[0].imag, "x", color="black", markersize=4.5, zorder=4)
        for sign in {1.0, -1.0} if not flip else {1.0}:
            axes.plot(np.cos(angle), sign * np.sin(angle), **CROSSING, zorder=5)
        kind = "flip at $z = -1$" if flip else rf"pair at ${np.degrees(angle):.1f}\degree$"
        axes.text(
            0.03, 0.03, f"$k^* = {mine['k']:.4g}$\n{kind}", transform=axes.transAxes, va="bottom", linespacing=1.3
        )
        axes.set(aspect="equal", xlim=(-1.75, 1.35), ylim=(-1.35, 1.35), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        style.letter(axes, index, panel.title)
    for axes in grid[:, 0]:
        axes.set_ylabel(r"$\mathrm{Im}\ z$")
    for axes in grid[1]:
        axes.set_xlabel(r"$\mathrm{Re}\ z$")
    bar = figure.colorbar(lines, ax=grid, aspect=34, pad=0.015, ticks=(0, 0.5, 1, 1.5))
    bar.ax.axhline(1, color="black", linewidth=1.0)
    bar.set_label("loop gain over its critical value,  $k / k^*$")
    handles = [
        Line2D([], [], color="black", marker="x", markersize=4.5, linestyle="none"),
        Line2D([], [], **CROSSING),
        Line2D([], [], **style.LEVEL),
    ]
    labels = ["root at $k = 0$", "crossing at $k = k^*$", "unit circle $|z| = 1$"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
