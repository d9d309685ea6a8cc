"""The spectrum of the Hessian in training: several eigenvalues come to the edge, the bulk stays near zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
import toylab
from figures import style
from figures.members import paired
from toylab.curvature import spectral_density
from toylab.optimizers import NAMED
from toylab.problems import digits_mlp

NAME = "spectrum"
TITLE = "One eigenvalue of the Hessian after the other comes to 2/eta; the bulk stays near zero"

ETA, COUNT = 0.5, 8
STEPS, QUICK_STEPS, EVERY = 3000, 60, 20
PROBES, PRODUCTS, WIDTH = 8, 64, 0.02  # WIDTH: of a smoothed eigenvalue, over the threshold


def compute(quick: bool) -> dict[str, np.ndarray]:
    """At pairs of consecutive `steps` (T,): the largest `eigenvalues` (T, count); on `grid` (g,), in units of the
    `threshold`, the spectral `density` (2, g) and its standard `error` at the start and at the end.
    """
    problem = digits_mlp(hidden=(24, 24), examples=200)
    rule = NAMED["gd"](ETA)
    observe = toylab.observers(loss=True, sharpness=COUNT)
    run = toylab.train(problem, rule, QUICK_STEPS if quick else STEPS, observe=observe, every=EVERY)
    threshold = theory.cached_edge(NAMED["gd"]).at(learning_rate=ETA).threshold
    grid = np.linspace(-0.4, 1.6, 401)
    densities = [
        _density(problem, params, threshold * grid, WIDTH * threshold) for params in (problem.params, run.params)
    ]
    density, error = threshold * np.moveaxis(np.array(densities), 1, 0)
    return {
        "steps": run.steps,
        "loss": run.loss,
        "eigenvalues": run.sharpness,
        "threshold": np.array(threshold),
        "grid": grid,
        "density": density,
        "error": error,
        "weights": np.array(sum(leaf.size for leaf in jax.tree.leaves(problem.params))),
    }


@jax.jit
def _density(problem: toylab.Problem, params: tuple, grid: Array, width: Array) -> tuple[Array, Array]:
    """Density and its standard error on `grid`."""
    matvec = problem.hessian(params)
    spectrum = spectral_density(matvec, params, jax.random.key(0), probes=PROBES, products=PRODUCTS)
    return spectrum.density(grid, width)


FLOOR = 1e-5  # below it one eigenvalue among all cannot be told from none
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "0.45", "linewidth": 1.4, "label": "start"},
    {"color": style.BLUE, "linewidth": 1.0, "label": "end of the run"},
)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The largest eigenvalues over time; the density of all of them at both ends of the run."""
    figure = Figure(figsize=(style.PAGE, 2.6))
    top, density = figure.subplots(1, 2, width_ratios=(1.25, 1))
    shades = [str(shade) for shade in np.linspace(0.72, 0.3, data["eigenvalues"].shape[1])]
    shades[-1:] = [style.BLUE]
    steps, values = paired(data["steps"], data["eigenvalues"].T)
    for value, shade in zip(values[::-1], shades, strict=True):
        top.plot(steps, value / data["threshold"], color=shade, linewidth=0.8)
    top.axhline(1, **style.LEVEL)
    top.set(xlabel="step $t$", xlim=(0, data["steps"][-1] + 1), ylim=(0.3, 1.6))
    top.set_ylabel(r"eigenvalues of $H$ over the threshold $2/\eta$")
    for values, error, look in zip(data["density"], data["error"], LOOKS, strict=True):
        density.plot(data["grid"], values, **look)
        low, high = np.maximum(values - error, FLOOR / 10), values + error
        density.fill_between(data["grid"], low, high, color=look["color"], alpha=0.2, linewidth=0)
    density.axvline(1, **style.LEVEL)
    density.set(xlabel=r"eigenvalue over the threshold $2/\eta$", ylabel="spectral density", yscale="log")
    density.set(ylim=(FLOOR, 200), xlim=(data["grid"][0], data["grid"][-1]))
    density.legend(loc="upper left", bbox_to_anchor=(0.29, 1))
    style.letter(top, 0, rf"the {len(shades)} largest, $\eta = {ETA}$")
    style.letter(density, 1, "all of them, smoothed")
    handles = [Line2D([], [], color=shades[-1]), Line2D([], [], color=shades[-2]), Line2D([], [], **style.LEVEL)]
    labels = ["the largest", "the others", "edge"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
