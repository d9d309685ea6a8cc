"""Adaptive rules on the cubic model with their second moments let go: what stabilises them is not the cubic term."""

from __future__ import annotations

import numpy as np

import toylab
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, measurement
from toylab.optimizers import NAMED
from toylab.problems import cubic_normal_form

SHARPNESS, PUSH, STEPS = 10.0, 0.01, 6_000
ETA = 0.01

MEMORYLESS = {
    "rmsprop, decay .99": ("rmsprop", {"decay": 0.99}),
    "adam, b1 = 0": ("adam", {"b1": 0.0, "b2": 0.99}),
}
WITH_MOMENTUM = {
    "adam, b2 .99": ("adam", {"b1": 0.9, "b2": 0.99}),
    "nadam, b2 .99": ("nadam", {"b1": 0.9, "b2": 0.99}),
}


def _runs(chosen: dict[str, tuple[str, dict[str, float]]]) -> dict[str, np.ndarray]:
    """Per rule, over the last half: mean and spread of the edge ratio, swing of x over eta, rise of the sharpness."""
    out = {}
    problem = cubic_normal_form(SHARPNESS, PUSH, tilt=PUSH, start=(0.1, 0.0))
    for label, (rule, settings) in chosen.items():
        transform = NAMED[rule](learning_rate=ETA, eps=1e-12, **settings)
        seen = toylab.observers(edge_ratio=True, sharpness=1)
        run = toylab.train(problem, transform, STEPS, observe=seen)
        ratio, sharpness = run.edge_ratio[STEPS // 2 :], run.sharpness[:, 0]
        swing = 2 * abs(float(run.params[0])) / ETA
        out[label] = np.array([ratio.mean(), ratio.std(), swing, sharpness[-1] / sharpness[0]])
    return out


STEADY = Claim(
    id="self_stabilization/let_go_memoryless",
    tier="long",
    statement="let go, RMSProp and Adam without momentum stay at their edge on the cubic model while the raw sharpness "
    "goes on rising: P follows, not the cubic term",
    source="on a 2-cycle of a memoryless rule nu = g^2, which puts eta lambda/P at 2 where x swings by eta",
    comparison=bracket(
        2e-4,
        "the sharpness rises by 1e-4 to 1e-3 of itself a step, which P follows within a fraction of that",
        ceiling=Ceiling(1e-3, "a steady state that is followed, not reached"),
    ),
    predicted=lambda sample: dict.fromkeys(MEMORYLESS, np.array(1.0)),
    measure=lambda sample: {label: np.array([row[0], row[0]]) for label, row in _runs(MEMORYLESS).items()},
)


def _told(measured: dict[str, np.ndarray]) -> str:
    rows = [f"{label} {mean:.3f} ± {spread:.3f}" for label, (mean, spread, _, _) in measured.items()]
    rises = [row[3] for row in measured.values()]
    return (
        f"Edge ratio of adaptive rules with momentum let go on the cubic model: {', '.join(rows)}, while the "
        f"raw sharpness rises {min(rises):.1f} times: P follows.  Adam settles where it does on a quadratic "
        "(edge/let_go_with_memory); NAdam, erratic there, comes to rest here."
    )


MOVING = Claim(
    id="self_stabilization/let_go_momentum",
    tier="long",
    statement="mean edge ratio of adaptive rules with momentum, let go on the cubic model",
    source="runs of the rules",
    comparison=measurement(),
    measure=lambda sample: _runs(WITH_MOMENTUM),
    finding=_told,
)

CLAIMS = [STEADY, MOVING]
