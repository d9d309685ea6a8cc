"""Where gradient descent and momentum go at a flip: late iterates against the distance to the edge, and the 2-cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory.two_cycles.bifurcation import period_two
from theory.two_cycles.harmonic_balance import balance
from toylab.experiments.two_cycles import quartic_loss
from toylab.models import rollout
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.problems import quartic

NAME = "bifurcation_diagram"
TITLE = "Orbits of period 2 at the edge: born stable or unstable, and the same for every momentum"

SUPER, SUB = (1.0, 0.7, -1.0), (1.0, 0.5, 2.0)  # a, c3, c4 = f'', f''', f'''' on either side of 3 c3^2 = a c4
RATIO = (0.94, 1.12)  # of eta to the edge
RULES: tuple[tuple[str, dict[str, float]], ...] = (
    ("gd", {}),
    ("heavy_ball", {"momentum": 0.5}),
    ("nesterov", {"momentum": 0.5}),
    ("ema_momentum", {"momentum": 0.5}),
)
KEPT = 2


def _late(rule: str, settings: dict[str, float], jet: tuple[float, ...], etas: Array, starts: Array, steps: int) -> Any:
    """The last iterates (etas, starts, KEPT) of runs, one run for each start."""

    def run(eta: Array, start: Array) -> Array:
        problem = quartic(*jet, start)
        kernel = discrete_steps(problem, NAMED[rule](learning_rate=eta, **settings))
        state = lax.fori_loop(0, steps, lambda _, state: kernel.step(state)[0], kernel.init(problem.params))
        return rollout(kernel, state, KEPT)[1].params

    return jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(etas, starts)


def _branch(jet: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The orbits of the exact balance, one for each amplitude A: the mean B by Newton's method, then eta/eta*."""
    theorem = balance(quartic_loss)
    odd, even = (theorem.numeric(name) for name in ("odd", "even"))
    given = dict(zip(("a", "c3", "c4"), jet, strict=True))

    def mean(size: Array) -> Array:
        def improve(_: int, centre: Array) -> Array:
            value, slope = jax.value_and_grad(lambda b: even(A=size, B=b, **given))(centre)
            return centre - value / slope

        return lax.fori_loop(0, 20, improve, jnp.zeros_like(size))

    sizes = jnp.linspace(1e-4, 0.75, 200)
    centres = jax.jit(jax.vmap(mean))(sizes)
    ratio = jet[0] / odd(A=sizes, B=centres, **given)  # the orbit sets the odd part to k*/eta, and eta* = k*/f''
    return {"ratio": np.asarray(ratio), "upper": np.asarray(centres + sizes), "lower": np.asarray(centres - sizes)}


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Late iterates against eta/eta* (`super_`, `sub_`, and one each rule `momentum_`), and the derived branches."""
    count, steps = (61, 800) if quick else (151, 3000)
    ratios = np.linspace(*RATIO, count)
    data: dict[str, np.ndarray] = {"ratios": ratios}
    gd = period_two(NAMED["gd"]).numeric("critical_gain")(learning_rate=1.0)
    data["super_late"] = _finite(_late("gd", {}, SUPER, jnp.asarray(gd * ratios), jnp.array([0.05]), steps))
    data |= {f"super_{k}": v for k, v in _branch(SUPER).items()}
    starts = np.linspace(-0.8, 0.8, 40 if quick else 100)
    late = np.asarray(_late("gd", {}, SUB, jnp.asarray(gd * ratios), jnp.asarray(starts), steps))
    data["sub_starts"], data["sub_stays"] = starts, np.abs(late).max(axis=-1) < np.abs(starts) + 1e-9
    data |= {f"sub_{k}": v for k, v in _branch(SUB).items()}
    few = np.linspace(1.002, RATIO[1], 13)
    data["momentum_ratios"] = few
    for rule, settings in RULES:
        gain = period_two(NAMED[rule]).numeric("critical_gain")(learning_rate=1.0, **settings)
        late = _late(rule, settings, SUPER, jnp.asarray(gain * few), jnp.array([0.05]), steps)
        data[f"momentum_{rule}"] = _finite(late)
        data[f"momentum_{rule}_edge"] = np.asarray(gain, float)
    return data


def _finite(late: Any) -> np.ndarray:
    return np.nan_to_num(np.asarray(late), nan=9.0, posinf=9.0, neginf=-9.0).clip(-9, 9)


LOOKS: dict[str, dict[str, Any]] = {
    "gd": {"marker": "o", "color": style.BLACK, "markersize": 6.5, "markerfacecolor": "none"},
    "heavy_ball": {"marker": "s", "color": style.BLUE, "markersize": 4.2, "markerfacecolor": "none"},
    "nesterov": {"marker": "x", "color": style.ORANGE, "markersize": 3.6},
    "ema_momentum": {"marker": ".", "color": style.GREY, "markersize": 2.6},
}
LABELS = {
    "gd": "gradient descent",
    "heavy_ball": r"heavy ball, $\beta_1 = 0.5$",
    "nesterov": r"Nesterov, $\beta_1 = 0.5$",
    "ema_momentum": r"averaged momentum, $\beta_1 = 0.5$",
}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Supercritical, subcritical, and the collapse of all rules onto one branch."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    ratios = data["ratios"]
    for axes in panels:
        axes.axvline(1, color=style.GREY, linewidth=0.6, linestyle=(0, (1.0, 1.3)))
        axes.set(xlabel=r"$\eta / \eta^*$", xlim=RATIO, ylim=(-0.85, 0.85))
    panels[0].plot(ratios, data["super_late"].reshape(len(ratios), -1), ".", color=style.BLUE, markersize=1.8)
    stays = data["sub_stays"]
    panels[1].pcolormesh(
        ratios, data["sub_starts"], np.where(stays.T, 0.25, np.nan), cmap="Greys", vmin=0, vmax=1, shading="nearest",
        rasterized=True,
    )  # fmt: skip
    for rule, look in LOOKS.items():
        late = data[f"momentum_{rule}"].reshape(len(data["momentum_ratios"]), -1)
        panels[2].plot(data["momentum_ratios"], late, linestyle="", markeredgewidth=0.7, **look)
    for axes, owner in zip(panels, ("super", "sub", "super"), strict=True):
        for side in ("upper", "lower"):
            axes.plot(data[f"{owner}_ratio"], data[f"{owner}_{side}"], **style.LEVEL, zorder=4)
    panels[0].set_ylabel("weight $w$")
    style.letter(panels[0], 0, r"$3 c_3^2 > a\,c_4$: stable 2-cycle")
    style.letter(panels[1], 1, r"$3 c_3^2 < a\,c_4$: unstable 2-cycle")
    style.letter(panels[2], 2, "the same branch for every rule")
    panels[1].text(0.965, 0.0, "returns", ha="center", va="center", fontsize=7.5)
    panels[1].text(1.06, 0.0, "leaves", ha="center", va="center", fontsize=7.5)
    handles = [
        Line2D([], [], color=style.BLUE, marker=".", linestyle="", markersize=3),
        Line2D([], [], color="#d0d0d0", marker="s", linestyle="", markersize=5),
        Line2D([], [], **style.LEVEL),
        *(Line2D([], [], linestyle="", markeredgewidth=0.7, **look) for look in LOOKS.values()),
    ]
    labels = ["late iterates", "starts that return", r"derived 2-cycle", *LABELS.values()]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, columnspacing=1.4, handletextpad=0.5)
    return figure
