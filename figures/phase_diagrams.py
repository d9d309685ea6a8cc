"""Where six rules are stable: growth measured by running the held step, and the derived threshold over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array, lax
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory import cached_edge
from theory.theorem import as_jax
from toylab.filters import limit_state, roles
from toylab.optimizers import NAMED
from toylab.rules.held import held_step

NAME = "phase_diagrams"
TITLE = "Measured growth and derived threshold of six rules, over two hyperparameters"

GAINS = (0.5, 500.0)  # k = eta lambda(P^-1 H)
END = 0.99  # of the swept hyperparameter, which starts at 0
SHOWN = 2.0  # growth rates beyond +- this have the last colour
FLOOR = -5.0  # where a root is zero the rate is minus infinity


class Panel(NamedTuple):
    """One rule: which of its hyperparameters is swept, with what label, and which are set to what."""

    rule: str
    title: str
    swept: str
    label: str
    fixed: Mapping[str, float] = {}


PANELS = (
    Panel("heavy_ball", "heavy ball", "momentum", r"momentum $\beta_1$"),
    Panel("nesterov", "Nesterov momentum", "momentum", r"momentum $\beta_1$"),
    Panel("adam", "Adam", "b1", r"first-moment decay $\beta_1$"),
    Panel("nadam", "NAdam", "b1", r"first-moment decay $\beta_1$"),
    Panel(
        "quasi_hyperbolic",
        r"quasi-hyperbolic, $\beta_1 = 0.9$",
        "mix",
        r"mixing weight $\mathrm{mix}$",
        {"momentum": 0.9},
    ),
    Panel("ema_cascade", r"two EMAs in a row, $\beta_2 = 0.3$", "b1", r"decay of the first EMA $\beta_1$", {"b2": 0.3}),
)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For each rule r: `r_values` (n,), `gains` (m,), `r_growth` (n, m) in nats per step; and from theory the curve
    `r_curve_x` (c,), `r_curve_k` (c,), `r_curve_flips` (c,) and its formulas `r_formulas`.
    """
    size, steps = (24, 600) if quick else (120, 2000)
    gains = np.geomspace(*GAINS, size)
    data: dict[str, np.ndarray] = {"gains": gains}
    for panel in PANELS:
        values = np.linspace(0.0, END, size)
        data[f"{panel.rule}_values"] = values
        data[f"{panel.rule}_growth"] = measured_growth(panel, values, gains, steps)
        data |= {f"{panel.rule}_{name}": array for name, array in derived(panel).items()}
    return data


def measured_growth(panel: Panel, values: np.ndarray, gains: np.ndarray, steps: int) -> np.ndarray:
    """Growth rate (n, m) of the rule's own held step at g = lambda w, with lambda = 1, P = 1 and eta = each gain."""
    factory, weight = NAMED[panel.rule], jnp.zeros(())
    middle = {panel.swept: float(values[len(values) // 2]), **panel.fixed}
    parts = roles(factory(learning_rate=1.0, **middle), weight)

    def one(value: Array, gain: Array) -> Array:
        transform = factory(learning_rate=gain, **{panel.swept: value}, **panel.fixed)
        leaves, tree = jax.tree.flatten(limit_state(transform, weight, parts))
        held = [jnp.ones_like(leaves[i]) for i in parts.slow]
        step = held_step(transform, parts)

        def moved(oscillation: list[Array]) -> list[Array]:
            perturbed_leaves = list(leaves)
            for indices, content in ((parts.slow, held), (parts.fast, oscillation[1:])):
                for i, leaf in zip(indices, content, strict=True):
                    perturbed_leaves[i] = leaf
            w = oscillation[0]
            update, after = step(w, jax.tree.unflatten(tree, perturbed_leaves), w, held)
            after_leaves = jax.tree.leaves(after)
            return [w + update, *(after_leaves[i] for i in parts.fast)]

        start = [jnp.ones(()), *(jnp.zeros_like(leaves[i]) for i in parts.fast)]
        return growth_rate(moved, start, steps)

    grid = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(grid(jnp.asarray(values), jnp.asarray(gains)))


def growth_rate(linear: Any, start: list[Array], steps: int) -> Array:
    """Mean of log |x_{t+1}|/|x_t| along x+ = linear(x), renormalised each step, in nats per step; after a quarter of
    the steps, and with the weight 1 - cos, so that the ripple of a turning pair of roots averages out quickly.
    """
    skipped = steps // 4
    tiny = jnp.finfo(start[0].dtype).tiny

    def body(t: Array, carry: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        x, total = carry
        x = linear(x)
        norm = jnp.maximum(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in x)), tiny)
        phase = (t - skipped + 0.5) / (steps - skipped)
        weight = jnp.where(t < skipped, 0.0, 1 - jnp.cos(2 * jnp.pi * phase))
        return [leaf / norm for leaf in x], total + weight * jnp.log(norm)

    _, total = lax.fori_loop(0, steps, body, (start, jnp.zeros_like(start[0])))
    return jnp.maximum(total / (steps - skipped), FLOOR)


def derived(panel: Panel, points: int = 397) -> dict[str, np.ndarray]:
    """The theorem's curve k*(x) = eta threshold, where it is a flip, and its formulas as LaTeX, one for each piece."""
    theorem = cached_edge(NAMED[panel.rule])
    assert theorem.threshold is not None, "every rule drawn here has a closed threshold"
    others = {name: float(number) for name, number in theorem.reference.items()} | {"learning_rate": 1.0, **panel.fixed}
    x = np.linspace(0.0, END, points)

    def along(formula: sp.Expr) -> np.ndarray:
        function = as_jax(formula, theorem.arguments)
        values = jax.vmap(lambda value: jnp.asarray(function(**(others | {panel.swept: value}))))(jnp.asarray(x))
        return np.asarray(values)

    pieces = _pieces(theorem.threshold)
    piece = along(sp.Piecewise(*((sp.Float(i), condition) for i, (_, condition) in enumerate(pieces))))
    kinds = [
        theorem.at(**{**panel.fixed, panel.swept: round(float(np.median(x[piece == i])), 4)}).crossing
        for i in range(len(pieces))
    ]
    return {
        "curve_x": x,
        "curve_k": along(theorem.threshold),
        "curve_flips": np.array([kinds[int(i)] == "flip" for i in piece]),
        "formulas": np.array([_latex(theorem.symbols["learning_rate"] * formula) for formula, _ in pieces]),
        "formulas_flip": np.array([kind == "flip" for kind in kinds]),
    }


def _pieces(threshold: Any) -> list[tuple[Any, Any]]:
    """(formula, condition) of each piece; one piece that always holds where the threshold is one formula."""
    return [tuple(p) for p in threshold.args] if isinstance(threshold, sp.Piecewise) else [(threshold, sp.true)]


def _latex(formula: sp.Expr) -> str:
    """LaTeX with upright names for symbols that are words, and 1 before the symbols."""
    names = {symbol: (str(symbol), sp.latex(symbol)) for symbol in formula.free_symbols}
    words = {s: rf"\,\mathrm{{{name}}}" for s, (name, shown) in names.items() if name == shown and len(name) > 1}
    return sp.latex(formula, symbol_names=words, order="rev-lex").replace(r"\frac", r"\dfrac")


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Six panels with one scale of k and one of colour."""
    figure = Figure(figsize=(style.PAGE, 4.3))
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    scale = AsinhNorm(linear_width=0.05, vmin=-SHOWN, vmax=SHOWN)
    for index, (axes, panel) in enumerate(zip(grid.flat, PANELS, strict=True)):
        mine = style.of(data, panel.rule)
        image = axes.pcolormesh(
            mine["values"], data["gains"], mine["growth"].T,
            cmap=style.growth_colours(), norm=scale, shading="nearest", rasterized=True,
        )  # fmt: skip
        x, k, flips = mine["curve_x"], mine["curve_k"], mine["curve_flips"]
        for part, look in ((flips, style.FLIP), (~flips, style.PAIR)):
            axes.plot(x, np.where(part, k, np.nan), **look, path_effects=style.halo())
        for i in np.flatnonzero(np.diff(flips)):
            axes.plot(x[i], k[i], "o", color="white", markeredgecolor="black", markersize=4, zorder=4)
        names = {True: "", False: ""} if flips.all() else {True: r"\mathrm{flip}\!:\;", False: r"\mathrm{pair}\!:\;"}
        for i, (formula, flip) in enumerate(zip(mine["formulas"], mine["formulas_flip"], strict=True)):
            axes.text(
                0.035, 0.94 - 0.225 * i, f"${names[bool(flip)]}k^* = {formula}$", transform=axes.transAxes, va="top",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "boxstyle": "round,pad=0.2"},
            )  # fmt: skip
        axes.set(yscale="log", ylim=GAINS, xlim=(0, END), xlabel=panel.label)
        axes.tick_params(labelbottom=True)
        style.letter(axes, index, panel.title)
    for height, word, colour in ((25, "unstable", "white"), (0.95, "stable", "black")):
        grid[0, 0].text(0.5 * END, height, word, ha="center", va="center", color=colour, style="italic")
    for axes in grid[:, 0]:
        axes.set_ylabel(r"loop gain  $k = \eta\,\lambda(P^{-1}H)$")
    bar = figure.colorbar(image, ax=grid, extend="both", aspect=34, pad=0.015, ticks=[-1, -0.1, 0, 0.1, 1])
    bar.ax.set_yticklabels(["$-1$", "$-0.1$", "$0$", "$0.1$", "$1$"])
    bar.minorticks_off()
    bar.set_label("measured growth rate of the held step  [nats per step]")
    handles = [Line2D([], [], **look) for look in (style.FLIP, style.PAIR)]
    labels = ["derived threshold, flip ($z = -1$)", "derived threshold, Neimark\N{EN DASH}Sacker pair ($|z| = 1$)"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure
