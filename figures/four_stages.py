"""The four stages of self-stabilization, in real gradient descent and in its predicted dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory import cached_edge
from toylab.curvature import dense_hessian
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.models.predicted import predicted_dynamics
from toylab.numerics.period_two import midpoint
from toylab.optimizers import NAMED
from toylab.problems import curved_valley

NAME = "four_stages"
TITLE = "The four stages of self-stabilization"

ETA = 0.1
EPS = 0.02  # eta sqrt(alpha)
STEPS = 520
START = (0.3, -1.0)  # x in units of delta, y in units of sqrt(alpha)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Over T steps: `x`, `loss`, `sharpness` and `cosine` (of the midpoint-averaged gradient with grad S) of real
    gradient descent and `predicted_*` of the first three; `middle_sharpness` and `predicted_sharpness` are midpoints,
    (T - 2,) as `cosine`.  Of the constrained trajectory `held_loss` and `delta`; the `stage` 0..3 of each step, and
    from theory the `threshold`.
    """
    del quick  # it is quick
    threshold = cached_edge(NAMED["gd"]).at(learning_rate=ETA).threshold
    alpha = (EPS / ETA) ** 2
    problem = curved_valley(threshold, alpha, 1.0, drift=0.7 * alpha, bend=0.4, swell=0.3, third=0.1)

    @jax.jit
    def run() -> tuple:
        kernel, real = predicted_dynamics(problem, ETA), discrete_steps(problem, NAMED["gd"](ETA))
        centre = kernel.init(problem.params).centre
        off = START[0] * jnp.sqrt(2 * alpha) * centre.here.vectors[0] + jnp.zeros(4).at[1].set(START[1] * alpha**0.5)
        first = centre.params + off
        predicted = rollout(kernel, kernel.init(first, centre.params), STEPS)[1]
        visited = rollout(real, real.init(first), STEPS)[1]

        def local(w: Array) -> tuple[Array, Array, Array, Array]:
            values, vectors = jnp.linalg.eigh(dense_hessian(problem, w))
            u = vectors[:, -1]
            steepening = jax.grad(lambda v: u @ problem.hvp(v, u))(w)
            return values[-1], u, problem.gradient(w), steepening

        both = jax.vmap(jax.vmap(local))(jnp.stack([visited.params, predicted.centre.params]))
        sharpness, gradients, steepenings = both[0][0], both[2][0], both[3][0]
        # at the constrained trajectory, the eigenvectors in one orientation
        tops, pushes = both[1][1], both[3][1]
        tops = tops * jnp.sign(tops @ centre.here.vectors[0])[:, None]
        away = visited.params - predicted.centre.params
        x = jnp.sum(away * tops, axis=1)
        y = jnp.sum(away * (pushes - jnp.sum(pushes * tops, axis=1, keepdims=True) * tops), axis=1)
        middle, across = _middle(gradients), _middle(steepenings)
        norms = jnp.linalg.norm(middle, axis=1) * jnp.linalg.norm(across, axis=1)
        return predicted, visited.loss, sharpness, x, y, jnp.sum(middle * across, axis=1) / norms

    prediction, loss, sharpness, x, y, cosine = run()
    delta = np.sqrt(np.asarray(prediction.centre.variance))
    above, wide = np.asarray(y) > 0, np.abs(np.asarray(x)) > delta
    return {
        "eta": np.array(ETA),
        "threshold": np.array(threshold),
        "stage": np.select([~above & ~wide, above & ~wide, above & wide], [0, 1, 2], 3),
        "x": np.asarray(x),
        "loss": np.asarray(loss),
        "sharpness": np.asarray(sharpness),
        "cosine": np.asarray(cosine),
        "delta": delta,
        "held_loss": np.asarray(prediction.centre.loss),
        "predicted_x": np.asarray(prediction.x),
        "predicted_loss": np.asarray(prediction.loss),
        "middle_sharpness": np.asarray(_middle(sharpness)),
        "predicted_sharpness": np.asarray(_middle(prediction.sharpness)),
    }


def _middle(path: Array) -> Array:
    """The second-order midpoints (p_{t-1} + 2 p_t + p_{t+1})/4, which show no oscillation of period 2, (T - 2, ...)."""
    return midpoint(path[:-2], path[1:-1], path[2:])


STAGES = ("progressive\nsharpening", "blow-up", "self-\nstabilization", "return to\nstability")
SHADES = ("#ffffff", "#f0f0f0", "#d4d4d4", "#e6e6e6")


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Four panels over one axis of steps.  The shades are the stages, told apart by the signs of y and |x| - delta in
    the real run; the averaged sharpness and gradient are midpoints, and the thin line is the sharpness itself.
    """
    figure = Figure(figsize=(style.PAGE, 4.9))
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(1.15, 1, 1, 0.9))
    oscillation, loss, sharpness, cosine = panels
    times = np.arange(len(data["x"]))
    real: dict[str, Any] = {"color": style.BLUE, "linewidth": 0.9}
    model: dict[str, Any] = {"color": style.ORANGE, "linewidth": 0.9, "linestyle": (0, (3, 1.2))}
    _shade(panels, data["stage"])

    oscillation.plot(times, data["x"], color=style.BLUE, linewidth=0.35, marker=".", markersize=1.6)
    for sign in (1, -1):
        envelope = sign * np.abs(data["predicted_x"])
        oscillation.plot(times, envelope, **model)
        oscillation.plot(times, sign * data["delta"], color=style.BLACK, linewidth=0.7, linestyle=(0, (1, 1.3)))
    oscillation.set_ylabel(r"$x_t = u\cdot(w_t - w^\dagger_t)$")

    loss.plot(times, data["loss"], **real)
    loss.plot(times, data["predicted_loss"], **model)
    loss.plot(times, data["held_loss"], color=style.BLACK, linewidth=0.7, linestyle=(0, (4, 1, 1, 1)))
    loss.set_ylabel("loss $L(w_t)$")

    unit = data["threshold"]
    sharpness.plot(times, data["sharpness"] / unit, color=style.BLUE, linewidth=0.3, alpha=0.55)
    sharpness.plot(times[1:-1], data["middle_sharpness"] / unit, **real)
    sharpness.plot(times[1:-1], data["predicted_sharpness"] / unit, **model)
    sharpness.axhline(1, **style.LEVEL)
    sharpness.set_ylabel(r"$S(w_t)\,/\,(2/\eta)$")

    cosine.plot(times[1:-1], data["cosine"], **real)
    cosine.axhline(0, color=style.GREY, linewidth=0.6)
    cosine.set(ylim=(-1.1, 1.1), yticks=(-1, 0, 1), xlabel="step $t$", xlim=(0, len(times) - 1))
    cosine.set_ylabel(r"$\cos(\bar g_t, \nabla S)$")
    for index, panel in enumerate(panels):
        panel.text(
            0.006,
            0.95,
            rf"$\bf{{{chr(ord('a') + index)}}}$",
            transform=panel.transAxes,
            va="top",
            path_effects=style.halo(),
        )
    figure.align_ylabels(panels)
    handles = [
        Line2D([], [], **real),
        Line2D([], [], **model),
        Line2D([], [], color=style.BLACK, linewidth=0.7, linestyle=(0, (1, 1.3))),
        Line2D([], [], color=style.BLACK, linewidth=0.7, linestyle=(0, (4, 1, 1, 1))),
        Line2D([], [], **style.LEVEL),
    ]
    labels = ["gradient descent", "predicted dynamics", r"$\pm\delta$", r"loss at $w^\dagger_t$", r"$S = 2/\eta$"]
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    return figure


def _shade(panels: np.ndarray, stages: np.ndarray) -> None:
    """Shade every stretch of one stage in all panels; name those of the first cycle above the first panel."""
    ends = np.flatnonzero(np.diff(stages)) + 1
    starts = np.concatenate([[0], ends])
    stops = np.concatenate([ends, [len(stages) - 1]])
    named: set[int] = set()
    for start, stop in zip(starts, stops, strict=True):
        stage = int(stages[start])
        for panel in panels:
            panel.axvspan(start - 0.5, stop - 0.5, color=SHADES[stage], linewidth=0, zorder=0)
        if stage not in named:
            named.add(stage)
            panels[0].annotate(
                STAGES[stage],
                ((start + stop) / 2, 1.0),
                (0, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
            )
