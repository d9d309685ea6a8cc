"""Gradient descent on a quadratic whose sharpness lies just below, or just above, the derived threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory import cached_edge
from toylab.optimizers import NAMED
from toylab.problems import quadratic

NAME = "quadratic_edge"
TITLE = "Gradient descent on a quadratic, just below and just above 2/eta"

ETA = 0.1
RATIOS = (0.96, 1.04)  # top eigenvalue over the threshold
FLAT = 0.07  # the other eigenvalue over the threshold
START = (0.5, 2.6)  # along the top eigenvector u and along the other, v
STEPS = 24


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For both ratios `iterates` (2, T, 2), along the top eigenvector and along the other, and `loss` (2, T); from
    theory the `threshold` and the `multipliers` (2, 2) of each direction.
    """
    del quick  # it is quick
    numbers = cached_edge(NAMED["gd"]).at(learning_rate=ETA)
    spectra = numbers.threshold * np.stack([RATIOS, np.full(len(RATIOS), FLAT)], axis=1)
    rule = NAMED["gd"](ETA)

    def run(spectrum: Array) -> tuple[Array, Array]:
        problem = quadratic(spectrum, START)

        def step(carry: tuple[Any, optax.OptState], _: None) -> tuple[tuple[Any, optax.OptState], tuple]:
            w, state = carry
            update, state = rule.update(problem.gradient(w), state, w)
            return (optax.apply_updates(w, update), state), (w, problem.value(w))

        return lax.scan(step, (problem.params, rule.init(problem.params)), length=STEPS)[1]

    iterates, loss = jax.jit(jax.vmap(run))(jnp.asarray(spectra))
    return {
        "eta": np.array(ETA),
        "threshold": np.array(numbers.threshold),
        "spectra": spectra,
        "multipliers": np.array([[numbers.roots(value)[0].real for value in spectrum] for spectrum in spectra]),
        "iterates": np.asarray(iterates),
        "loss": np.asarray(loss),
    }


LOOKS: tuple[dict[str, Any], ...] = (
    {"color": style.BLUE, "marker": "o", "linestyle": "-"},
    {"color": style.ORANGE, "marker": "s", "linestyle": "-", "markerfacecolor": "white"},
)


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The plane of the weights for both; then the iterates along the top eigenvector, and the loss."""
    figure = Figure(figsize=(style.PAGE, 2.3))
    below, above, iterates, loss = figure.subplots(1, 4, width_ratios=(1, 1, 1.5, 1.5))
    times, spectra, multipliers = np.arange(data["loss"].shape[1]), data["spectra"], data["multipliers"]
    for i, (axes, look) in enumerate(zip((below, above), LOOKS, strict=True)):
        top, other = np.meshgrid(np.linspace(-3.2, 3.2, 129), np.linspace(-1, 3.2, 129), indexing="ij")
        height = np.sqrt(spectra[i, 0] * top**2 + spectra[i, 1] * other**2)
        axes.contour(other, top, height, levels=9, colors=style.PALE, linewidths=0.5)
        axes.plot(data["iterates"][i, :, 1], data["iterates"][i, :, 0], **look, linewidth=0.6, markersize=2.6)
        axes.set(xlabel=r"flat direction $v \cdot w_t$", xticks=(0, 2), yticks=(-2, 0, 2))
        style.letter(axes, i, rf"$S = {RATIOS[i]:.2f} \cdot 2/\eta$")
    below.set_ylabel(r"sharp direction $u \cdot w_t$", labelpad=0)
    above.tick_params(labelleft=False)
    for i, look in enumerate(LOOKS):
        along = data["iterates"][i, :, 0]
        envelope = np.abs(along[0]) * np.abs(multipliers[i, 0]) ** times
        shares = 0.5 * spectra[i] * data["iterates"][i, 0] ** 2
        predicted = (shares * multipliers[i] ** (2 * times[:, None])).sum(axis=1)
        iterates.plot(times, along, **look, linewidth=0.5, markersize=2.6)
        iterates.plot(times, np.stack([envelope, -envelope], axis=1), **style.LEVEL, zorder=3)
        loss.plot(times, data["loss"][i], **look, linewidth=0, markersize=2.6)
        loss.plot(times, predicted, **style.LEVEL, zorder=3)
    iterates.set(xlabel="step $t$", ylabel=r"$u \cdot w_t$", xlim=(-0.7, len(times) - 0.3), yticks=(-2, 0, 2))
    iterates.yaxis.labelpad = 0
    loss.set(xlabel="step $t$", ylabel="loss $L(w_t)$", yscale="log", xlim=(-0.7, len(times) - 0.3))
    style.letter(iterates, 2, "along the top eigenvector $u$")
    style.letter(loss, 3, "loss")
    handles = [Line2D([], [], **look) for look in LOOKS] + [Line2D([], [], **style.LEVEL)]
    labels = ["just below the edge", "just above the edge", "predicted: $z = 1 - \\eta\\lambda$ along each eigenvector"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
