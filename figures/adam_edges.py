"""Adam's edge moves with its momentum: the preconditioned sharpness settles at 2 (1 + b1)/((1 - b1) eta)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import RATES, Member, numbered, paired
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "adam_edges"
TITLE = "Adam on digits: eta times the preconditioned sharpness settles at the edge of each momentum"

MOMENTA = (0.0, 0.5, 0.9, 0.95)
LEARNING_RATES = (  # for each momentum: large enough to be at the edge in time
    (3e-4, 6e-4, 1.2e-3),
    (1e-3, 2e-3, 4e-3),
    (1e-3, 2e-3, 4e-3),
    (2e-3, 4e-3, 8e-3),
)
SHOWN, B2 = 2, 0.99  # index of the momentum whose learning rates are shown one by one
MEMBERS: list[Member] = [
    ("adam", {"learning_rate": rate, "b1": b1, "b2": B2})
    for b1, rates in zip(MOMENTA, LEARNING_RATES, strict=True)
    for rate in rates
]
ADAMS = numbered(MEMBERS)
STEPS, QUICK_STEPS, EVERY = 2200, 60, 20


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive `steps` (T,) for all `momenta` and three `rates` (momenta, rates) each: `preconditioned`
    sharpness (momenta, rates, T), its `plateau` mean and spread (momenta, rates, 2), 0 where it did not settle,
    and the critical `k` (momenta,), eta times it; and the derived curve `curve` (2, points), b1 and k.
    """
    run = toylab.sweep(
        digits_mlp(hidden=(16, 16), examples=200),
        ADAMS,
        {"member": range(len(MEMBERS))},
        QUICK_STEPS if quick else STEPS,
        observe=toylab.observers(loss=False, edge_ratio=True),
        every=EVERY,
    )
    shape = (len(MOMENTA), len(LEARNING_RATES[0]))
    settled = [toylab.plateau(run.steps, ratio) for ratio in run.edge_ratio[:, 0]]
    edge = theory.cached_edge(NAMED["adam"])
    b1 = np.linspace(0, 0.97, 80)
    return {
        "steps": run.steps,
        "momenta": np.array(MOMENTA),
        "rates": np.array(LEARNING_RATES),
        "preconditioned": run.preconditioned_sharpness[:, 0].reshape(*shape, -1),
        "plateau": np.nan_to_num([(one.mean, one.spread) for one in settled]).reshape(*shape, 2),
        "k": np.array([_critical(edge, value) for value in MOMENTA]),
        "curve": np.stack([b1, [_critical(edge, value) for value in b1]]),
    }


def _critical(edge: theory.Edge, b1: float) -> float:
    return float(edge.at(learning_rate=1.0, b1=float(b1), b2=B2).threshold)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Learning rates at one momentum; momenta at their middle learning rate; all plateaus on the derived curve."""
    figure = Figure(figsize=(style.PAGE, 2.6))
    rates, momenta, levels = figure.subplots(1, 3)
    end = data["steps"][-1] + 1
    for eta, values, colour in zip(data["rates"][SHOWN], data["preconditioned"][SHOWN], RATES, strict=False):
        rates.plot(*paired(data["steps"], values), color=colour, linewidth=0.9)
        threshold = data["k"][SHOWN] / eta
        rates.axhline(threshold, **style.LEVEL | {"color": colour})
        rates.annotate(
            rf"$\eta = {1e3 * eta:g}\times 10^{{-3}}$", (end, threshold), (-3, 3), textcoords="offset points",
            ha="right", color=colour, path_effects=style.halo(),
        )  # fmt: skip
    for b1, eta, values, k, colour in zip(
        data["momenta"], data["rates"], data["preconditioned"], data["k"], RATES, strict=True
    ):
        steps, mean = paired(data["steps"], eta[1] * values[1])
        momenta.plot(steps, mean, color=colour, linewidth=0.9)
        momenta.axhline(k, **style.LEVEL | {"color": colour})
        momenta.annotate(
            rf"$\beta_1 = {b1:g}$", (end, k), (-3, 3), textcoords="offset points", ha="right", color=colour,
            path_effects=style.halo(),
        )  # fmt: skip
    levels.plot(*data["curve"], **style.LEVEL)
    levels.sharey(momenta)
    levels.tick_params(labelleft=False)
    for b1, k, plateau, colour in zip(data["momenta"], data["k"], data["plateau"], RATES, strict=True):
        for (mean, spread), shift, marker in zip(plateau, (-0.012, 0, 0.012), "osD", strict=True):
            if mean:
                levels.errorbar(
                    b1 + shift, k * mean, k * spread, color=colour, marker=marker, markersize=3.5,
                    markerfacecolor="white", linewidth=0.8, zorder=3,
                )  # fmt: skip
        reached = plateau[plateau[:, 0] > 0, 0]
        if reached.size:
            levels.annotate(
                rf"${reached.mean():.2f}\,k^*$", (b1, k), (7, -4) if b1 < 0.8 else (-9, 0), textcoords="offset points",
                va="top" if b1 < 0.8 else "center", ha="left" if b1 < 0.8 else "right", color=colour,
            )  # fmt: skip
    for i, (axes, title) in enumerate(
        (
            (rates, rf"$\beta_1 = {data['momenta'][SHOWN]:g}$"),
            (momenta, r"four momenta, middle $\eta$"),
            (levels, "all plateaus"),
        )
    ):
        style.letter(axes, i, title)
        axes.set_yscale("log")
    for axes in (rates, momenta):
        axes.set(xlabel="step $t$", xlim=(0, end))
    rates.set_ylabel(r"$\lambda_{\max}(P^{-1}H)$")
    momenta.set_ylabel(r"$\eta\,\lambda_{\max}(P^{-1}H)$")
    momenta.set_ylim(0.12 * data["k"][0], 1.8 * data["k"][-1])
    levels.set(xlabel=r"momentum $\beta_1$", xlim=(-0.06, 1))
    handles = [Line2D([], [], **style.LEVEL)]
    handles += [
        Line2D([], [], linestyle="none", marker=marker, color=style.BLACK, markerfacecolor="white", markersize=3.5)
        for marker in "osD"
    ]
    labels = [r"edge $k^*(\beta_1)$, derived from the code", "smallest", "middle", "largest learning rate"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, columnspacing=1.2)
    return figure
