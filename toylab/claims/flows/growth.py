"""The balance of growth: where an oscillation goes on for ever without settling, what averages to zero is its growth
rate, not its distance from the edge.  Why the edge ratios of Adam average to less than 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import optax

import toylab
from theory import growth_law
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, measurement
from toylab.experiments.compared_models import SETTLED, Setting, compared, drawn
from toylab.filters import held_filter
from toylab.optimizers import NAMED
from toylab.problems import cubic_normal_form
from toylab.rules.growth import growth_rates

SOURCE = "theory.growth_law, from the rule's own characteristic polynomial"
SHARPNESS, PUSH, ETA = 10.0, 0.01, 0.01
MOMENTA = (0.3, 0.6, 0.9)
STEPS = {"quick": 12_000, "default": 12_000, "long": 48_000}


@cache
def _ratios(b1: float, steps: int) -> np.ndarray:
    """The edge ratio of Adam on the cubic model, second moments let go, over the last half of its steps."""
    problem = cubic_normal_form(SHARPNESS, PUSH, tilt=PUSH, start=(0.1, 0.0))
    observers = toylab.observers(edge_ratio=True)
    return toylab.train(problem, _adam(b1), steps, observe=observers).edge_ratio[steps // 2 :]


def _adam(b1: float) -> optax.GradientTransformation:
    return NAMED["adam"](learning_rate=ETA, b1=b1, b2=0.99, eps=1e-12)


def _means(sample: Iterable[tuple[float, int]]) -> dict[str, float]:
    excesses = {}
    for b1, steps in sample:
        rate = growth_rates(held_filter(_adam(b1)), _ratios(b1, steps))
        excesses[f"b1 = {b1:g}"] = float(abs(rate.mean()) / rate.std())
    return excesses


def _excesses(sample: Iterable[tuple[float, int]]) -> dict[str, np.ndarray]:
    each = {f"b1 = {b1:g}": _ratios(b1, steps) for b1, steps in sample}
    return {label: np.array([ratio.mean(), (ratio.mean() - 1) / ratio.std()]) for label, ratio in each.items()}


def _toys(random: np.random.Generator, tier: str) -> tuple[tuple[float, int], ...]:
    return tuple((b1, STEPS[tier]) for b1 in MOMENTA)


TOY = Claim(
    id="flows/balance_of_growth",
    tier="default",
    statement="Adam on the cubic model never comes to rest, and the growth rate log|mu(r)| of its oscillation, mu the "
    "largest root of the held rule at the edge ratio r of the moment, averages to zero, within a tenth of its spread "
    "over time",
    source=SOURCE,
    comparison=at_most(
        0.0,
        "the bound is part of the statement; the rate of a held rule leaves out how the ratio changes within the "
        "rule's memory",
        ceiling=Ceiling(1.0, "a mean far below the bound, down to none, moves the bound by all of itself"),
    ),
    draw=_toys,
    predicted=lambda sample: {f"b1 = {b1:g}": 0.1 for b1, _ in sample},
    measure=_means,
)


def _finding_of_excesses(measured: dict[str, np.ndarray]) -> str:
    rows = [f"{mean:.3f} ({excess:+.2f} of its spread) at {label}" for label, (mean, excess) in measured.items()]
    floor = float(growth_law(NAMED["adam"]).numeric("floor")(b1=0.9))
    return (
        f"mean edge ratio of Adam on the cubic model: {', '.join(rows)}.  The mean ratio is not 1: log|mu| has a kink "
        f"just below the edge (at b1 = .9 it falls to {floor:.3f} a step and no lower), so that what grows in a few "
        "steps above the edge takes many steps below it to decay"
    )


TOY_RATIO = Claim(
    id="flows/mean_ratio_of_adam",
    tier="default",
    statement="where growth balances, the mean of the edge ratio itself, and its distance from 1 over its spread",
    source="runs of Adam on the cubic model",
    comparison=measurement(),
    draw=_toys,
    measure=_excesses,
    finding=_finding_of_excesses,
)

SHOWN = 5


def _by_rank(sample: Iterable[Setting]) -> dict[str, np.ndarray]:
    """Of the largest edge ratios (SHOWN,) in the settled phase the mean, and the mean growth rate of them and all
    above them."""
    means = {}
    for setting in sample:
        run = compared(setting)
        ratios = np.asarray(run.measured.edge_ratios)[run.settled :, :SHOWN]
        transform = NAMED[setting.rule](learning_rate=setting.learning_rate, **dict(setting.fixed))
        rates = growth_rates(held_filter(transform), ratios)
        means[f"{setting.label}, ratio"] = ratios.mean(axis=0)
        means[f"{setting.label}, growth"] = np.cumsum(rates.mean(axis=0))
    return means


def _finding_of_ranks(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {', '.join(f'{x:.3f}' for x in values)}" for label, values in measured.items())
    return (
        f"{listed}.  Ranks change places among the directions that oscillate, so that only the sum of their rates can "
        "balance: where it passes zero is how many take part, though their ratios are below 1 but for the first"
    )


NETWORK = Claim(
    id="flows/growth_of_adam",
    tier="long",
    statement="the largest edge ratios of Adam on digits late in training, averaged over time, and the growth rates "
    "that they mean, averaged over time and added up from the largest on",
    source=SOURCE,
    comparison=measurement(),
    draw=drawn([setting for setting in SETTLED if setting.rule == "adam"]),
    measure=_by_rank,
    finding=_finding_of_ranks,
)

CLAIMS = [TOY, TOY_RATIO, NETWORK]
