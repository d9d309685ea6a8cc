"""Mini-batch noise: the mean-square edge against batch size, the two edges, and the sharpness that noise holds down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory import cached_edge
from theory.noise.almost_sure import edge_splitting
from theory.noise.mean_square import closed_loop, mean_square_edge
from theory.noise.sampling import batch_variance
from theory.noise.thermostats import thermostat
from toylab.experiments import sampled as lab
from toylab.optimizers import NAMED

NAME = "batch_threshold"
TITLE = "Mini-batch noise lowers the edge, and holds the sharpness below it"

ETA = 0.1
RULES: dict[str, dict[str, float]] = {"gd": {}, "heavy_ball": {"momentum": 0.6}, "nesterov": {"momentum": 0.6}}
CURVATURES = np.array([0.0, 0.0, 0.0, 0.2, 0.3, 1.5, 2.5, 3.5])  # mean 1, c = 1.49 for single examples
VARIANCES = np.array([0.02, 0.05, 0.1, 0.15, 0.2])
EPS, SQUARE = 0.02, 1.0
LEVELS = np.array([0.25, 0.5, 1.0, 1.5, 2.0])


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Panel a: for each rule and way of drawing, measured and derived eta a at the edge against B (`RULE_without`,
    `RULE_with`: (2, sizes)).  Panel b: for gradient descent, measured and derived mean-square and almost-sure edges
    against c.  Panel c: for each rule, (2, levels) gap and spread of y in units of sqrt(alpha), against the level.
    """
    data: dict[str, np.ndarray] = {"sizes": np.arange(1, len(CURVATURES) + 1)}
    formula = batch_variance()
    few = data["sizes"][[1]] if quick else data["sizes"]
    spread, mean = float(CURVATURES.std()), float(CURVATURES.mean())
    for rule, more in list(RULES.items())[: 2 if quick else None]:
        named = {"learning_rate": ETA, **more}
        theorem = mean_square_edge(NAMED[rule])
        data[f"{rule}_edge"] = np.array(cached_edge(NAMED[rule]).at(**named).k)
        arrays = {name: np.array([value]) for name, value in named.items()}
        edges_by_way: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for b in few:  # all batches are run: no more than 8^3 sequences of independent draws
            groups = [lab.all_batches(8, int(b), independent) for independent in (False, True)[: 2 if b <= 3 else 1]]
            edges = ETA * lab.critical_scale(rule, arrays, CURVATURES[None], groups)[0]
            for way, edge in zip(edges_by_way, edges, strict=False):
                edges_by_way[way].append((b, edge))
        for way, points in edges_by_way.items():
            variance = formula.numeric(f"{way}_replacement")
            predicted = [
                ETA * theorem.at(float(variance(examples=8, batch=int(b), spread=spread)) / mean**2, **named)
                for b in data["sizes"]
            ]
            data[f"{rule}_{way}_told"] = np.array(predicted)
            data[f"{rule}_{way}_found"] = np.array(points, dtype=float).T
    data |= _two_edges(quick)
    data |= _gaps(quick)
    return data


def _two_edges(quick: bool) -> dict[str, np.ndarray]:
    """Gradient descent on two examples a(1 - r), a(1 + r), one at a time."""
    theorem, pair = mean_square_edge(NAMED["gd"]), np.array([[0], [1]])
    step = closed_loop(NAMED["gd"])
    smooth = np.linspace(0.0, 0.24, 25)
    shifts = 1 + np.sqrt(smooth)[:, None] * np.array([-1.0, 1.0])[None]
    multiplier = jax.jit(jax.vmap(jax.vmap(lambda h: step(h[None, None], learning_rate=ETA)[0, 0])))
    low, high = np.full(len(smooth), 2.0), np.full(len(smooth), 3.0)
    for _ in range(24):
        middle = (low + high) / 2
        fades = np.log(np.abs(np.asarray(multiplier(middle[:, None] / ETA * shifts)))).mean(axis=1) < 0
        low, high = np.where(fades, middle, low), np.where(fades, high, middle)

    random = np.random.default_rng(3)
    batches = random.integers(0, 2, (400 if quick else 3_000, 64, 1), dtype=np.int32)
    both = np.concatenate([batches, 1 - batches], axis=1)
    pairs = 1 + np.sqrt(VARIANCES)[:, None] * np.array([-1.0, 1.0])[None]
    moments = ETA * lab.critical_scale("gd", {"learning_rate": np.full(len(pairs), ETA)}, pairs, [pair])[:, 0]
    edges = []
    for curves, at in zip(pairs, moments, strict=True):
        bottom, top = 1.8, 3.2
        for _ in range(10):
            middle = (bottom + top) / 2
            grows = lab.exponents("gd", {"learning_rate": ETA}, middle / ETA * curves, both).mean() > 0
            bottom, top = (bottom, middle) if grows else (middle, top)
        edges.append([at, (bottom + top) / 2])
    split = edge_splitting(NAMED["gd"])
    slope = float(split.numeric("almost_sure")(learning_rate=ETA, relative_variance=1.0))
    critical = float(cached_edge(NAMED["gd"]).at(learning_rate=ETA).k)
    return {
        "variances": smooth,
        "moments_told": np.array([ETA * theorem.at(c, learning_rate=ETA) for c in smooth]),
        "almost_told": low,
        "slope": np.array(slope * critical),
        "critical": np.array(critical),
        "seen_variances": VARIANCES,
        "two_found": np.array(edges),
    }


def _gaps(quick: bool) -> dict[str, np.ndarray]:
    """The noisy cubic model at eps = .02, gradient noise sigma^2 = level x that of gradient descent's unit gap."""
    rate, out = (EPS / ETA) ** 2, {"levels": LEVELS}
    steps, chains = (1_500, 64) if quick else (12_000, 128)
    batches = np.random.default_rng(7).integers(0, 4, (steps, chains, 1), dtype=np.int32)
    unit = float(
        thermostat(NAMED["gd"]).numeric("gap")(
            learning_rate=ETA, sharpening_rate=rate, grad_sharpness_sq=SQUARE, gradient_noise=1.0
        )
    )
    noises = np.sqrt(LEVELS * np.sqrt(rate) / unit)
    for rule in ("gd", "heavy_ball"):
        named = {"learning_rate": ETA} | ({"momentum": 0.3} if rule == "heavy_ball" else {})
        law = thermostat(NAMED[rule])
        threshold = cached_edge(NAMED[rule]).at(**named).threshold
        same = np.ones(len(LEVELS))
        models = {
            "threshold": threshold * same,
            "rate": rate * same,
            "square": SQUARE * same,
            "gradient_noise": noises,
            "curvature_noise": 0 * same,
        }
        burns = np.full(len(LEVELS), steps // 5)
        means, _ = lab.run_edges(rule, jnp.asarray(burns), named, models, jnp.asarray(batches))
        y, yy = np.moveaxis(np.asarray(means).mean(axis=1), -1, 0)[:2]
        inputs: dict[str, Any] = {"sharpening_rate": rate, "grad_sharpness_sq": SQUARE}
        predicted = [float(law.numeric("gap")(**named, **inputs, gradient_noise=s)) for s in noises]
        width = float(law.numeric("sharpness_variance")(**named, **inputs, gradient_noise=1.0)) ** 0.5
        out[f"{rule}_gap_found"] = np.stack([-y, np.sqrt(yy - y**2)]) / np.sqrt(rate)
        out[f"{rule}_gap_told"] = np.stack([np.array(predicted), width * same]) / np.sqrt(rate)
        if rule == "gd":
            more = [float(law.numeric("gap_corrected")(**named, **inputs, gradient_noise=s)) for s in noises]
            out["gd_gap_corrected"] = np.array(more) / np.sqrt(rate)
    return out


LOOKS: dict[str, dict[str, Any]] = {
    "gd": {"color": style.BLACK, "marker": "o"},
    "heavy_ball": {"color": style.BLUE, "marker": "s"},
    "nesterov": {"color": style.ORANGE, "marker": "^"},
}
LABELS = {"gd": "gradient descent", "heavy_ball": "heavy ball", "nesterov": "Nesterov"}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Three panels: against batch size, against the variance, against the gradient noise."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    batch, two, gap = figure.subplots(1, 3)
    _draw_batch(batch, data)
    _draw_two(two, data)
    _draw_gap(gap, data)
    return figure


def _draw_batch(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    shown = {rule: look for rule, look in LOOKS.items() if f"{rule}_edge" in data}
    for rule, look in shown.items():
        for way, dashes, face in (("without", (0, (4.5, 2.0)), look["color"]), ("with", (0, (1.0, 1.3)), "white")):
            line = data[f"{rule}_{way}_told"]
            axes.plot(data["sizes"], line, color=look["color"], linestyle=dashes, linewidth=0.9)
            axes.plot(*data[f"{rule}_{way}_found"], **look, linestyle="none", markerfacecolor=face, markersize=3.6)
    handles = [Line2D([], [], **look, linestyle="none", markersize=3.6) for look in shown.values()]
    handles += [
        Line2D([], [], color=style.GREY, linestyle=d, linewidth=0.9) for d in ((0, (4.5, 2.0)), (0, (1.0, 1.3)))
    ]
    axes.legend(
        handles, [*(LABELS[r] for r in shown), "without repl.", "with replacement"], loc="upper left",
        borderaxespad=0.2, labelspacing=0.25, handlelength=1.8,
    )  # fmt: skip
    axes.set(xlabel="batch size $B$ (of $n = 8$)", ylabel=r"critical $\eta\, a$", ylim=(0, 4.7), xlim=(0.6, 8.4))
    axes.set_xticks(data["sizes"])
    style.letter(axes, 0, "edge of $E[w^2]$")


def _draw_two(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    c, edges = data["variances"], data["two_found"]
    critical, slope = float(data["critical"]), float(data["slope"])
    axes.fill_between(c, data["moments_told"], data["almost_told"], color="#e8e8e8", linewidth=0)
    axes.axhline(critical, color=style.GREY, linewidth=0.6)
    axes.plot(c, critical + slope * c, color=style.GREY, linewidth=0.6, linestyle=(0, (1.0, 1.3)))
    axes.plot(c, critical - slope * c, color=style.GREY, linewidth=0.6, linestyle=(0, (1.0, 1.3)))
    axes.plot(c, data["almost_told"], **style.LEVEL)
    axes.plot(c, data["moments_told"], **style.LEVEL)
    axes.plot(data["seen_variances"], edges[:, 1], "D", color=style.ORANGE, markersize=3.4)
    axes.plot(data["seen_variances"], edges[:, 0], "o", color=style.BLUE, markersize=3.6)
    axes.set(xlabel="relative variance $c = v/a^2$", ylabel=r"critical $\eta\, a$", xlim=(0, 0.24), ylim=(1.46, 2.72))
    axes.text(0.015, 2.42, "single runs grow\n(almost surely)", color=style.ORANGE)
    axes.text(0.015, 1.56, "second moments fade", color=style.BLUE)
    axes.text(0.236, 2.34, r"$2\,(1 \pm c)$", ha="right", va="center", color=style.GREY, fontsize=7)
    axes.text(0.236, 2.04, "runs fade,\nmoments explode", ha="right", va="bottom", color=style.BLACK)
    style.letter(axes, 1, "two edges of gradient descent")


def _draw_gap(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    for rule in ("gd", "heavy_ball"):
        look = LOOKS[rule]
        axes.plot(data["levels"], data[f"{rule}_gap_told"][0], color=look["color"], linestyle=(0, (4.5, 2.0)), lw=0.9)
        axes.plot(data["levels"], data[f"{rule}_gap_found"][0], **look, linestyle="none", markersize=3.6)
        axes.plot(
            data["levels"], data[f"{rule}_gap_found"][1], **look, linestyle="none", markerfacecolor="white",
            markersize=3.6,
        )  # fmt: skip
    axes.plot(data["levels"], data["gd_gap_told"][1], color=style.GREY, linestyle=(0, (4.5, 2.0)), lw=0.9)
    axes.plot(data["levels"], data["gd_gap_corrected"], color=style.BLACK, linewidth=0.5)
    handles = [Line2D([], [], **LOOKS[r], linestyle="none", markersize=3.6) for r in ("gd", "heavy_ball")]
    handles.append(Line2D([], [], color=style.BLACK, marker="o", markerfacecolor="white", linestyle="none"))
    handles.append(Line2D([], [], color=style.BLACK, linewidth=0.5))
    labels = ["gap, gradient descent", r"gap, heavy ball, $\beta_1 = 0.3$", "spread of $S$, both", "next order, GD"]
    axes.legend(handles, labels, loc="upper left", borderaxespad=0.2, labelspacing=0.25, handlelength=1.4)
    axes.set(
        xlabel=r"gradient noise $\eta \sigma^2 \beta / (4 \alpha^{3/2})$", ylabel=r"in units of $\sqrt{\alpha}$",
        xlim=(0, 2.2), ylim=(0, 4.9),
    )  # fmt: skip
    style.letter(axes, 2, "sharpness held below the edge")
