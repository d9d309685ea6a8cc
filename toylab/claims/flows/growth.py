"""The balance of growth: where an oscillation goes on for ever without settling, what averages to zero is its growth
rate, not its distance from the edge.  Why the edge ratios of Adam average to less than 1.
"""

from __future__ import annotations

import numpy as np

from theory import growth_law
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, measurement
from toylab.experiments.balance_of_growth import growth_by_rank, mean_growth, mean_ratios
from toylab.experiments.compared_models import SETTLED, drawn
from toylab.optimizers import NAMED

SOURCE = "theory.growth_law, from the rule's own characteristic polynomial"
MOMENTA = (0.3, 0.6, 0.9)
STEPS = {"quick": 12_000, "default": 12_000, "long": 48_000}


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
    measure=mean_growth,
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
    measure=mean_ratios,
    finding=_finding_of_excesses,
)


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
    measure=growth_by_rank,
    finding=_finding_of_ranks,
)

CLAIMS = [TOY, TOY_RATIO, NETWORK]
