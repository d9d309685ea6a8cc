"""The laws of self-stabilization: what all rules share at any amplitude, and how fast each rule leaves its 2-cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import sympy as sp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from theory.self_stabilization import orbits as closed
from theory.theorem import Theorem, as_jax
from toylab.claims.self_stabilization.drawn_toys import alpha_of, theorem, toys
from toylab.experiments import toy_orbits as toy
from toylab.experiments.toys import UNIT

NAME = "orbit_laws"
TITLE = "Closed orbits that all rules share, and how fast each rule's orbits grow"

GREEN = "#009e73"  # from the same palette as style.BLUE


class PlottedRule(NamedTuple):
    """How a rule is drawn in panels a to c: its name, label and marker, and its settings."""

    name: str
    label: str
    look: Mapping[str, Any]
    settings: Mapping[str, float] = {}


RULES = (
    PlottedRule("gd", "gradient descent", {"marker": "o", "color": style.BLUE}),
    PlottedRule(
        "heavy_ball", r"heavy ball, $\beta_1 = 0.5$", {"marker": "s", "color": style.ORANGE}, {"momentum": 0.5}
    ),
    PlottedRule("ema_momentum", r"EMA momentum, $\beta_1 = 0.5$", {"marker": "^", "color": GREEN}, {"momentum": 0.5}),
    PlottedRule("optimistic_gd", r"optimistic GD, $b = 2$", {"marker": "D", "color": style.BLACK}, {"beta": 2.0}),
)


class Family(NamedTuple):
    """A rule of panel d, its label, and which of its hyperparameters is swept."""

    name: str
    label: str
    look: Mapping[str, Any]
    swept: str = "momentum"


FAMILIES = (
    Family("heavy_ball", "heavy ball", {"color": style.ORANGE, "marker": "s"}),
    Family("nesterov", "Nesterov", {"color": style.BLACK, "marker": "v"}),
    Family("ema_momentum", "EMA momentum, Adam", {"color": GREEN, "marker": "^"}),
    Family("quasi_hyperbolic", "quasi-hyperbolic, mix 0.7", {"color": style.BLUE, "marker": "o"}),
    Family("schedule_free_sgd", "schedule-free", {"color": style.GREY, "marker": "D"}, "b1"),
)

ETA = 0.1
MEMORIES = np.array([0.02, 0.25, 0.5, 0.7, 0.85, 0.94])
EXTRAPOLATIONS = np.array([0.1, 0.35, 0.6, 0.85, 1.1, 1.35])
TURN = 0.01  # radians per step of the orbits of panels d and e, times (1 - memory)^2


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Scaled as in theory.self_stabilization.orbits, E the level.  From theory `curve_*` over `curve_levels`,
    and `limit_*`; measured for each rule r at E = `r_levels` (n,): `r_period`, `r_stages` (n, 4), `r_extremes` (n, 3)
    of x^2/delta^2, largest and smallest, and of (v'/omega)^2/2, highest.  For each family f derived `f_drift` over
    `memory`, with its `f_formula` if that is short, and measured `f_grown` over `memories`, both per step in units of
    eta^2 alpha; with `optimistic_` the same over that rule's own parameter, and the zero `optimistic_still`.
    """
    rules, families = (RULES[1:2], FAMILIES[:1]) if quick else (RULES, FAMILIES)
    levels = np.geomspace(0.05, 50, 5 if quick else 20)
    curve = np.geomspace(0.03, 80, 40 if quick else 80)
    laws = closed.closed_orbits(2)
    series = sp.Poly(laws.expressions["period_series"], closed.level)
    names = ("largest", "smallest", "highest")
    stages = np.array([closed.stages(e) for e in curve])
    data = {
        "curve_levels": curve,
        "curve_period": stages.sum(axis=1),
        "curve_stages": stages,
        "curve_extremes": np.stack([_along(laws, name, curve) for name in names], axis=1),
        "limit_small": np.array([float(series.coeff_monomial(closed.level**n)) for n in (0, 1)]),
        # far below delta nothing pulls back, v'' = omega^2: up and down again from the highest speed
        "limit_large": 2 * np.sqrt(2 * _along(laws, "highest", curve)),
    }
    for i, rule in enumerate(rules):
        mine = levels[i :: len(rules)]
        arrays = {"levels": mine} | orbits(rule, mine, 4e-3 if quick else 1e-3)
        data |= {f"{rule.name}_{name}": array for name, array in arrays.items()}
    data["memories"], data["memory"] = MEMORIES, np.linspace(0, 0.96, 97)
    for family in families:
        data[f"{family.name}_drift"] = drift(family.name, family.swept, data["memory"])
        data[f"{family.name}_formula"] = np.array(formula(family.name))
        turns = TURN * (1 - MEMORIES) ** 2
        data[f"{family.name}_grown"] = growth(family.name, family.swept, MEMORIES, turns)
    data["optimistic_values"], data["optimistic_grid"] = EXTRAPOLATIONS, np.linspace(0, 1.6, 81)
    data["optimistic_drift"] = drift("optimistic_gd", "beta", data["optimistic_grid"])
    data["optimistic_still"] = np.array(still("optimistic_gd", "beta"))
    turns = np.full(len(EXTRAPOLATIONS), TURN)
    data["optimistic_grown"] = growth("optimistic_gd", "beta", EXTRAPOLATIONS, turns)
    return data


def _along(laws: Theorem, name: str, levels: np.ndarray) -> np.ndarray:
    """A formula with Lambert's W, which JAX lacks."""
    formula = sp.lambdify(closed.level, laws.expressions[name], modules=["scipy", "numpy"])
    return np.real(formula(levels.astype(complex)))


def point_of(rule: str, settings: Mapping[str, float]) -> dict[str, float]:
    """The rule's reference hyperparameters with these ones and the learning rate `ETA`."""
    reference = {name: float(number) for name, number in theorem(rule).edge.reference.items()}
    return reference | {"learning_rate": ETA} | dict(settings)


def orbits(rule: PlottedRule, levels: np.ndarray, turn: float) -> dict[str, np.ndarray]:
    """One revolution of real orbits that start at their quietest place, turning by ``turn`` radians a step if small."""
    point = point_of(rule.name, rule.settings)
    numbers = theorem(rule.name).at(**point)
    alpha = alpha_of(numbers, turn)
    members = toys(rule.name, [point] * len(levels), [{"alpha": alpha}] * len(levels))
    quiet = np.sqrt(2 * alpha * np.exp(closed.branch(levels, -1)))
    start = UNIT * np.stack([quiet, np.zeros(len(levels))], axis=1)
    steps = int(1.7 * closed.period(levels.max()) / turn)
    orbit = toy.orbits(rule.name, members.hyperparameters, members.model, start, steps)
    turns = [toy.turn(a / UNIT, s / UNIT) for a, s in zip(orbit.amplitude, orbit.level, strict=True)]
    squares = np.array([one.squares[:2] for one in turns]) / (2 * alpha)
    highest = np.array([one.levels[1] for one in turns]) ** 2 * numbers.kappa / (numbers.gain * alpha)
    return {
        "period": np.array([one.period for one in turns]) * turn,
        "stages": np.array([one.stages for one in turns]) * turn,
        "extremes": np.concatenate([squares, highest[:, None]], axis=1),
    }


def drift(rule: str, swept: str, values: np.ndarray) -> np.ndarray:
    """Derived growth of small orbits per step in units of eta^2 alpha: kappa Lambda."""
    stabilization = theorem(rule)
    assert stabilization.kappa is not None and stabilization.lag is not None, "every rule drawn here crosses by a flip"
    return _swept(rule, stabilization.kappa * stabilization.lag, swept, values)


def formula(rule: str) -> str:
    """kappa Lambda as LaTeX; empty where it is long."""
    stabilization = theorem(rule)
    assert stabilization.kappa is not None and stabilization.lag is not None, "every rule drawn here crosses by a flip"
    latex = sp.latex(stabilization.kappa * stabilization.lag, order="rev-lex").replace(r"\frac", r"\dfrac")
    return latex if len(latex) < 60 else ""


def growth(rule: str, swept: str, values: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The same measured where small orbits turn by ``turns``: Floquet exponents of the 2-cycle of the rule's step."""
    stabilization = theorem(rule)
    assert stabilization.kappa is not None, "every rule drawn here crosses by a flip"
    points = [point_of(rule, {swept: float(value)}) for value in values]
    alpha = turns**2 / (2 * ETA**2 * _swept(rule, stabilization.kappa * stabilization.gain, swept, values))
    members = toys(rule, points, [{"alpha": one} for one in alpha.tolist()])
    cycle = toy.two_cycles(rule, members.hyperparameters, members.model, members.start)
    return toy.slowest_oscillation(cycle.multipliers)[:, 0] / (ETA**2 * members.alpha)


def _swept(rule: str, expression: sp.Expr, swept: str, values: np.ndarray) -> np.ndarray:
    function = as_jax(expression, theorem(rule).edge.symbols)
    others = point_of(rule, {})
    del others[swept]
    return np.broadcast_to(np.asarray(function(**{swept: jnp.asarray(values)}, **others)), values.shape)


def still(rule: str, swept: str) -> float:
    """The positive root of the derived Lambda in the hyperparameter, the others at their reference values."""
    stabilization = theorem(rule)
    assert stabilization.lag is not None, "every rule drawn here crosses by a flip"
    symbols = stabilization.edge.symbols
    others = {symbols[name]: sp.sympify(value) for name, value in stabilization.edge.reference.items() if name != swept}
    over = sp.Poly(sp.numer(sp.together(stabilization.lag.xreplace(others))), symbols[swept])
    (root,) = (root for root in map(complex, over.nroots()) if abs(root.imag) < 1e-12 and root.real > 0)
    return root.real


MARKERS: dict[str, Any] = {"linestyle": "none", "markersize": 3.6, "markerfacecolor": "none", "markeredgewidth": 0.8}
CURVE: dict[str, Any] = {"color": style.GREY, "linewidth": 1.0, "zorder": 1}


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Above what is the same for all rules, over the level of the orbit; below what is different."""
    figure = Figure(figsize=(style.PAGE, 4.6))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.12))[:, 0]
    _shared(above.subplots(1, 3), data)
    rules = [rule for rule in RULES if f"{rule.name}_period" in data]
    handles = [Line2D([], [], **MARKERS, **rule.look) for rule in rules]
    handles += [Line2D([], [], **CURVE), Line2D([], [], **style.LEVEL)]
    labels = [*(rule.label for rule in rules), "closed orbits", "limits"]
    above.legend(handles, labels, loc="outside upper center", ncols=6, handlelength=1.8, columnspacing=1.3)
    memory, own = below.subplots(1, 2, width_ratios=(1.8, 1))
    _families(memory, data)
    _optimistic(own, data)
    return figure


def _shared(panels: np.ndarray, data: Mapping[str, np.ndarray]) -> None:
    period, extremes, stages = panels
    curve = data["curve_levels"]
    first, second = data["limit_small"]
    period.plot(curve, data["curve_period"], **CURVE)
    stages.plot(curve, data["curve_stages"][:, [0, 2]], **CURVE)
    extremes.plot(curve, data["curve_extremes"], **CURVE)
    for limit in (np.full(len(curve), first), first + second * curve, data["limit_large"]):
        period.plot(curve, limit, **style.LEVEL, zorder=0)
    for rule in RULES:
        mine = style.of(data, rule.name)
        for axes, name in ((period, "period"), (extremes, "extremes"), (stages, "stages")):
            if "levels" in mine:
                axes.plot(mine["levels"], mine[name], **MARKERS, **rule.look)
    period.text(0.04, first - 0.8, r"$2\pi$", va="top")
    period.text(9, 15.5, r"$2\pi + \frac{\pi}{6}E$", ha="right", va="bottom")
    period.text(4.6, 5.2, r"$2\sqrt{2E}$", ha="left", va="top")
    period.set(ylim=(0, 30), ylabel=r"period $\times\ \omega$")
    extremes.text(0.05, 1.9, r"largest $x^2/\delta^2$", va="bottom")
    extremes.text(2.6, 2e-3, r"smallest $x^2/\delta^2$", va="top", ha="right")
    extremes.text(70, 1.4, "highest\n" + r"$\kappa y^2/(Q(1)\,\alpha)$", va="top", ha="right", linespacing=1.1)
    extremes.set(yscale="log", ylim=(1e-5, 300), ylabel="extremes of an orbit")
    stages.text(0.04, 3.3, "progressive sharpening,\nblow-up", va="bottom", linespacing=1.1)
    stages.text(0.04, 0.8, "self-stabilization,\nreturn to stability", va="top", linespacing=1.1)
    stages.set(yscale="log", ylim=(0.25, 20), ylabel=r"time in each stage $\times\ \omega$")
    for index, (axes, title) in enumerate(zip(panels, ("period", "extremes", "four stages"), strict=True)):
        axes.set(xscale="log", xlim=(0.03, 80), xlabel=r"level $E$ of the orbit")
        style.letter(axes, index, title)


def _families(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    for family in FAMILIES:
        if f"{family.name}_drift" not in data:
            continue
        x, y = data["memory"], data[f"{family.name}_drift"]
        axes.plot(x, y, color=family.look["color"])
        axes.plot(data["memories"], data[f"{family.name}_grown"], **MARKERS, **family.look)
        written = str(data[f"{family.name}_formula"])
        label = family.label + (f":  ${written}$" if written else "")
        axes.text(0.985, y[-1], label, color=family.look["color"], va="center", clip_on=False)
    handles = [Line2D([], [], color=style.BLACK), Line2D([], [], **MARKERS, color=style.BLACK, marker="o")]
    axes.legend(handles, [r"derived $\kappa\Lambda$", "measured Floquet exponents"], loc="upper left")
    axes.set(yscale="log", xlim=(0, 0.97), ylim=(1e-3, 5e4), xlabel=r"averaging constant $\beta_1$")
    axes.set_ylabel(r"growth per step $/\ \eta^2\alpha$")
    style.letter(axes, 3, r"small orbits grow by $\eta^2\alpha\,\kappa\Lambda$ a step")


def _optimistic(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    axes.axvline(float(data["optimistic_still"]), **style.LEVEL)
    axes.plot(data["optimistic_grid"], data["optimistic_drift"], color=style.BLACK)
    axes.plot(data["optimistic_values"], data["optimistic_grown"], **MARKERS, color=style.BLACK, marker="D")
    axes.set(xlim=(0, 1.6), xticks=(0, 0.5, 1, 1.5), xlabel="weight $b$ of the extrapolation")
    axes.set_ylabel(r"growth per step $/\ \eta^2\alpha$")
    axes.text(data["optimistic_still"] - 0.05, -0.6, "orbits\ngrow", ha="right", va="center", linespacing=1.1)
    axes.text(data["optimistic_still"] + 0.05, 0.62, "orbits\nshrink", ha="left", va="center", linespacing=1.1)
    style.letter(axes, 4, "optimistic GD")
