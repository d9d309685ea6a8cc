"""The plane of self-stabilization: iterates of real rules on the closed orbits that theory gives, and their drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.integrate import solve_ivp

from figures import style
from theory.self_stabilization import orbits as closed
from theory.self_stabilization.drift import drift_law
from toylab.claims.self_stabilization.drawn_toys import alpha_of, law_values, theorem, toys
from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT

NAME = "phase_portrait"
TITLE = "Iterates of real rules spiral on the closed orbits of self-stabilization"


class Run(NamedTuple):
    """A rule and its settings, the title of its panel, the level at which it starts and for how many turns it goes."""

    rule: str
    title: str
    level: float
    turns: float
    look: Mapping[str, Any]
    settings: Mapping[str, float] = {}


RUNS = (
    Run("gd", "gradient descent", 0.12, 5, {"color": style.BLUE, "marker": "o"}),
    Run(
        "heavy_ball",
        r"heavy ball, $\beta_1 = 0.5$",
        0.12,
        2.2,
        {"color": style.ORANGE, "marker": "s"},
        {"momentum": 0.5},
    ),
    Run("optimistic_gd", "optimistic GD, $b = 2$", 2.4, 5, {"color": style.BLACK, "marker": "D"}, {"beta": 2.0}),
)

ETA = 0.1
TURN = 0.08  # radians per step of small orbits, the same for all
LEVELS = (0.1, 0.4, 1.0, 2.0, 3.5)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """In the plane of v = log(x^2/delta^2) and v'/omega = y sqrt(2 kappa/(Q(1) alpha)), omega the radians per step of
    small orbits: from theory the closed `orbits` (levels, 2, points); for each rule r its `r_path` (2, T), amplitude
    (of the period-2 part of x) and level (without that part) of every step.  Its energies E `r_found` at the turning
    points, at `r_when` = omega x steps, and from theory `r_drift` (2, points), times and energies, with the number that
    sets it, `r_strength` = Lambda/Q(1).
    """
    del quick  # it is quick
    phase = np.linspace(0, 2 * np.pi, 241)
    data = {"orbits": np.array([_orbit(level, phase) for level in LEVELS])}
    for run in RUNS:
        data |= {f"{run.rule}_{name}": array for name, array in _portrait(run).items()}
    return data


def _orbit(level: float, phase: np.ndarray) -> np.ndarray:
    """The curve e^v - v - 1 + (v'/omega)^2/2 = level, (2, points)."""
    left = level * np.cos(phase) ** 2
    v = np.where(np.cos(phase) > 0, closed.branch(left, 1), closed.branch(left, -1))
    return np.stack([v, np.sqrt(2 * level) * np.sin(phase)])


def _portrait(run: Run) -> dict[str, np.ndarray]:
    reference = {name: float(number) for name, number in theorem(run.rule).edge.reference.items()}
    point = reference | {"learning_rate": ETA} | dict(run.settings)
    numbers = theorem(run.rule).at(**point)
    jet = {"alpha": alpha_of(numbers, TURN)}
    members = toys(run.rule, [point], [jet])
    quiet = np.sqrt(2 * jet["alpha"] * np.exp(closed.branch(run.level, -1)))
    steps = round(run.turns * closed.period(run.level) / TURN)
    orbit = toy.orbits(run.rule, members.hyperparameters, members.model, UNIT * np.array([[quiet, 0.0]]), steps)
    unit = np.sqrt(numbers.gain * jet["alpha"] / (2 * numbers.kappa))
    v = np.log((orbit.amplitude[0] / UNIT) ** 2 / (2 * jet["alpha"]))
    rate = orbit.level[0] / UNIT / unit
    # at a turning point of v nothing is in the rate, and the other way round: there the level is read off one of them
    times, levels = [], []
    for sign in (1, -1):
        when, height = toy.peaks(sign * v)
        times.append(when)
        levels.append(np.exp(sign * height) - sign * height - 1)
        when, height = toy.peaks(sign * rate)
        times.append(when)
        levels.append(height**2 / 2)
    order = np.argsort(np.concatenate(times))
    drift = float(drift_law().expressions["drift"].xreplace(law_values(numbers, jet)))
    # dE/dn = c <y^2> in units of the theorem is 2 c/(Q(1) alpha) <y^2> = (c/kappa) <(v'/omega)^2> in these
    speed = drift / numbers.kappa / TURN
    ends = (0.0, TURN * len(v))
    path = solve_ivp(
        lambda _, e: speed * closed.mean_square_rate(float(e[0])), ends, [run.level], dense_output=True, rtol=1e-6
    )
    grid = np.linspace(*ends, 60)
    assert numbers.lag is not None, "every rule drawn here crosses by a flip"
    return {
        "path": np.stack([v, rate]),
        "when": TURN * np.concatenate(times)[order],
        "found": np.concatenate(levels)[order],
        "drift": np.stack([grid, path.sol(grid)[0]]),
        "strength": np.array(numbers.lag / numbers.gain),
    }


DOTS: dict[str, Any] = {"linestyle": "none", "markersize": 1.5, "markeredgewidth": 0}
MARKERS: dict[str, Any] = {"linestyle": "none", "markersize": 3.2, "markerfacecolor": "none", "markeredgewidth": 0.8}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """The plane for each rule; then the level of the conserved quantity over time."""
    figure = Figure(figsize=(style.PAGE, 2.35))
    *planes, levels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.05))
    for i, (axes, run) in enumerate(zip(planes, RUNS, strict=True)):
        _plane(axes, data, run)
        style.letter(axes, i, run.title)
        if i:
            axes.tick_params(labelleft=False)
    planes[0].set_ylabel(r"$v'/\omega \propto$ excess of the sharpness")
    for i, run in enumerate(RUNS):
        mine = style.of(data, run.rule)
        levels.plot(*mine["drift"], **style.LEVEL)
        levels.annotate(
            rf"$\bf{{{'abc'[i]}}}$", mine["drift"][:, -1], (2, 3 if i < 2 else -3), textcoords="offset points",
            va="center", color=run.look["color"],
        )  # fmt: skip
        levels.plot(mine["when"], mine["found"], **MARKERS, **run.look)
    levels.set(yscale="log", ylim=(0.06, 5), xlim=(0, 41), xlabel=r"time $\omega t$", ylabel="level $E$")
    style.letter(levels, 3, "drift of the level")
    handles = [
        Line2D([], [], color=style.PALE, linewidth=0.7),
        Line2D([], [], linestyle="none", marker="o", color=style.BLUE, markersize=3, markeredgewidth=0),
        Line2D([], [], linestyle="none", marker="*", color=style.BLACK, markersize=5, markeredgewidth=0),
        Line2D([], [], linestyle="none", marker="+", color=style.BLACK, markersize=6),
        Line2D([], [], **style.LEVEL),
    ]
    labels = ["closed orbits, derived", "every step of the real rule", "start", "2-cycle", "derived drift"]
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    return figure


def _plane(axes: Axes, data: Mapping[str, np.ndarray], run: Run) -> None:
    mine = style.of(data, run.rule)
    for orbit in data["orbits"]:
        axes.plot(*orbit, color=style.PALE, linewidth=0.7, zorder=1)
    axes.plot(*mine["path"], color=run.look["color"], linewidth=0.35, zorder=2)
    axes.plot(*mine["path"], **DOTS, **run.look, zorder=3)
    axes.plot(0, 0, "+", color=style.BLACK, markersize=6, zorder=4)
    axes.plot(*mine["path"][:, 0], marker="*", color=style.BLACK, markersize=5, zorder=5, markeredgewidth=0)
    axes.text(
        0.04, 0.04, rf"$\Lambda/Q(1) = {float(mine['strength']):+.2f}$", transform=axes.transAxes,
        path_effects=style.halo(),
    )  # fmt: skip
    axes.set(xlim=(-4.9, 2.4), xticks=(-4, -2, 0, 2), ylim=(-3.5, 2.9), xlabel=r"$v = \log(x^2/\delta^2)$")
