"""What central flows say that optimizers do at the edge of small networks: effective steps, second moments at rest, a
loss that falls, and what the curvature penalty is for.  Settings were chosen on seeds 0 to 2, claims use fresh ones.
"""

from __future__ import annotations

import numpy as np

import theory
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement, sign
from toylab.experiments.central_flow_effects import (
    LENGTH,
    RATES,
    changes_of_rules,
    changes_without_penalty,
    effective_steps,
    loss_changes,
)
from toylab.experiments.network_plateaus import FRESH

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206)"
SEEDS = {"quick": 1, "default": 1, "long": 3}


def _seeds(random: np.random.Generator, tier: str) -> tuple[int, ...]:
    return tuple(range(FRESH, FRESH + SEEDS[tier]))


# ----------------------------------------------------------------------------------------------------------------
# Scalar RMSProp steps by 2/S


def _predicted_steps(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    law = theory.central_flow_scalar_rmsprop().numeric("effective_step")
    product = float(law(sharpness=1.0))
    return {f"learning rate {rate:g}": np.full(len(seeds), product) for rate in RATES}


EFFECTIVE = Claim(
    id="flows/effective_step",
    tier="default",
    statement="at the edge scalar RMSProp steps by eta/sqrt(nu) = 2/S, at learning rates a factor of four apart",
    source=SOURCE + "; theory.central_flow_scalar_rmsprop",
    comparison=equality(
        0.005, "means over 1500 steps of a plateau that is still moving a little", ceiling=NETWORK_PLATEAU
    ),
    draw=_seeds,
    predicted=_predicted_steps,
    measure=effective_steps,
)

# ----------------------------------------------------------------------------------------------------------------
# The loss along the flow


def _falling(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"seed {seed}": np.asarray(-1.0) for seed in seeds}


FALLS = Claim(
    id="flows/loss_falls",
    tier="default",
    statement="along the central flow of gradient descent the loss falls at every step",
    source=SOURCE + "; derived for GD in theory.central_flow_gd",
    comparison=sign(
        0.0, "a sign", scale=1.0, ceiling=Ceiling(1e-3, "where training is slow the loss falls by some 1e-5 a step")
    ),
    draw=_seeds,
    predicted=_falling,
    measure=loss_changes,
)

# ----------------------------------------------------------------------------------------------------------------
# What the curvature penalty is for


def _slower(seeds: tuple[int, ...]) -> dict[str, float]:
    signs = {"sharpness": 1.0, "step": -1.0, "loss": 1.0}
    return {f"seed {seed}, {name}": sign for seed in seeds for name, sign in signs.items()}


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label} {100 * float(np.expm1(value)):+.2f} %" for label, value in measured.items())
    return f"without the penalty, after {LENGTH} steps: {listed}"


PENALTY = Claim(
    id="flows/penalty_accelerates",
    tier="default",
    statement="without its curvature penalty the central map of scalar RMSProp on digits ends in a sharper region, "
    "with smaller steps, and its mean loss over the last half is larger, at equal everything",
    source=SOURCE + ", acceleration via regularization",
    comparison=sign(
        0.0,
        "a sign",
        scale=1.0,
        ceiling=Ceiling(0.15, "on the seeds where it was chosen the effect is of up to ten per cent"),
    ),
    draw=_seeds,
    predicted=_slower,
    measure=changes_without_penalty,
)

PENALTIES = Claim(
    id="flows/penalty_of_rules",
    tier="long",
    statement="what the curvature penalty changes for rules with one second moment for each weight, Adam among them",
    source=SOURCE + ", acceleration via regularization; for Adam: here",
    comparison=measurement(),
    draw=_seeds,
    measure=changes_of_rules,
    finding=_finding,
)

CLAIMS = [EFFECTIVE, FALLS, PENALTY, PENALTIES]
