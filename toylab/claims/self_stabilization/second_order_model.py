"""Where gradient descent settles on the second-order regression model."""

from __future__ import annotations

from functools import partial

import numpy as np

from theory.toy_losses.second_order_model import second_order_settling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order
from toylab.experiments.settling_runs import Regression, gap_errors, limit_of_gap


def _regression(random: np.random.Generator, tier: str, smallest: float) -> Regression:
    """Minima that are sharper than 2/eta by 5% to 30%, and a small residual; epsilon from 1e-2 down."""
    eta, members = 0.5, {"quick": 3, "default": 10, "long": 100}[tier]
    epsilon = np.geomspace(1e-2, smallest, 6)
    target = random.uniform(0.1, 0.6, members) / eta
    kernel = (2 / eta * random.uniform(1.05, 1.3, members))[:, None]
    rising = (kernel - 2 * target[:, None]) / (1 + epsilon)  # epsilon t2^2
    start = np.stack([np.sqrt(2 * target[:, None] + rising) + 1e-3, np.sqrt(rising / epsilon)], axis=-1)
    return Regression(epsilon, target, start, eta, int(150 / epsilon.min()))


KERNEL = Claim(
    id="self_stabilization/second_order_model_gap",
    tier="quick",
    statement="the second-order regression model settles at sharpness 2/eta - (epsilon/2)(1/eta - E) + O(epsilon^2)",
    source="derived by theory.toy_losses.second_order_model; model: Agarwala et al. 2210.04860, section 3",
    comparison=equality(
        1e-7,
        "interpolation at six epsilon <= 1e-2 leaves 1e-9; rounding of 1e5 steps, 1e-14 of the sharpness, is divided "
        "by epsilon and magnified tenfold",
    ),
    draw=partial(_regression, smallest=1e-3),
    predicted=lambda sample: np.asarray(
        second_order_settling().numeric("gap")(learning_rate=sample.eta, target=sample.target)
    ),
    measure=limit_of_gap,
)


KERNEL_ORDER = Claim(
    id="self_stabilization/second_order_model_order",
    tier="quick",
    statement="the second-order regression model settles off 2/eta in proportion to epsilon",
    source="Agarwala et al. 2210.04860; derived by theory.toy_losses.second_order_model",
    comparison=order(0.02, "the next term is epsilon <= 1e-2 times the first"),
    draw=partial(_regression, smallest=1e-4),
    predicted=lambda sample: np.ones(len(sample.target)),
    errors=gap_errors,
)


CLAIMS = [KERNEL, KERNEL_ORDER]
