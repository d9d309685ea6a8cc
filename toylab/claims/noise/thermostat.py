"""Self-stabilization under noise: the sharpness it settles at, how it fluctuates, and what heats it."""

from __future__ import annotations

import numpy as np

import theory
from theory.noise.thermostats import gap_identity, heating
from theory.noise.thermostats import thermostat as stationary_law
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, statistical
from toylab.experiments.noisy_edges import (
    EPSILONS,
    ETA,
    SQUARE,
    STEPS,
    Inputs,
    averages,
    energies,
    gap_and_square,
    gaps,
    moment_limits,
)
from toylab.optimizers import NAMED

SOURCE = "theory.noise.thermostats: the rule's filter on the cubic model of Damian, Nichani & Lee, arXiv:2209.15594"

MOMENTUM: dict[str, dict[str, float]] = {
    "gd": {},
    "ema_momentum": {"momentum": 0.3},
    "heavy_ball": {"momentum": 0.3},
    "nesterov": {"momentum": 0.3},
}

FLUCTUATES = Ceiling(0.05, "time averages over some hundred correlation times are known to some percent")


def _inputs(rule: str, eps: float, strength: float, seed: int, chains: int, curvature_noise: float = 0.0) -> Inputs:
    """The cubic model at eps = eta sqrt(alpha), noisy enough that the derived gap is strength sqrt(alpha).

    The origin of y, the rule's own edge, is a coordinate in which the model is written: it comes from theory.
    """
    rate, named = (eps / ETA) ** 2, {"learning_rate": ETA, **MOMENTUM[rule]}
    law = stationary_law(NAMED[rule]).numeric("gap")
    unit = float(law(**named, sharpening_rate=rate, grad_sharpness_sq=SQUARE, gradient_noise=1.0))
    model = {
        "threshold": theory.cached_edge(NAMED[rule]).at(**named).threshold,
        "rate": rate,
        "square": SQUARE,
        "gradient_noise": float(np.sqrt(strength * np.sqrt(rate) / unit)),
        "curvature_noise": curvature_noise,
    }
    return {"rule": rule, "eps": eps, "seed": seed, "chains": chains, "hyperparameters": named, "model": model}


def _formula(theorem: theory.Theorem, name: str, inputs: Inputs, **more: float) -> float:
    """A formula of theory.noise.thermostats at these inputs."""
    model = inputs["model"]
    named = {
        "sharpening_rate": model["rate"],
        "grad_sharpness_sq": model["square"],
        "gradient_noise": model["gradient_noise"],
        "curvature_noise": model["curvature_noise"],
    }
    return float(theorem.numeric(name)(**inputs["hyperparameters"], **named, **more))


# ---------------------------------------------------------------------------------------------------------------
# The exact identity

COARSE = 0.1
"""An eps that is not small."""


def _identity(inputs: Inputs) -> np.ndarray:
    """The gap and the mean square of x, its fourth moments taken from other runs."""
    moments = averages(inputs | {"seed": inputs["seed"] + 1}, 300).mean(axis=0)
    gap = _formula(gap_identity(), "gap", inputs, x4=moments[3], x2y2=moments[4])
    return np.array([gap, _formula(gap_identity(), "variance", inputs)])


IDENTITY = Claim(
    id="noise/gap_identity",
    tier="quick",
    statement="with noise of gradient and of curvature, at an eps that is not small, E[x^2] = 2 alpha/beta and the "
    "sharpness stands below 2/eta by (eta/2)(sigma^2/delta^2 + v + beta Var(x^2)/(2 delta^2) + E[x^2 y^2]/delta^2): "
    "the second-moment balance is what is felt, not the almost-sure edge, which lies above 2/eta",
    source="theory.noise.thermostats.gap_identity: stationarity, exact",
    comparison=statistical(
        5e-5, "two intervals share 1e-4; the fourth moments come from other runs, with a factor eps", ceiling=FLUCTUATES
    ),
    draw=lambda random, tier: _inputs("gd", COARSE, 1.0, int(random.integers(1 << 30)), 512, curvature_noise=2.0),
    predicted=_identity,
    measure=gap_and_square,
)


GAP = Claim(
    id="noise/gap_gradient_descent",
    tier="default",
    statement="gradient noise holds the sharpness of gradient descent below 2/eta by eta sigma^2 beta/(4 alpha) + "
    "(3/2) eta alpha + (eta/2) gap^2",
    source=SOURCE,
    comparison=statistical(
        5e-5, "two intervals share 1e-4; the next order, 10 eps^2 = 1e-3, is far inside them", ceiling=FLUCTUATES
    ),
    draw=lambda random, tier: {
        f"strength {s}": _inputs("gd", 0.01, s, int(random.integers(1 << 30)), {"default": 512}.get(tier, 2048))
        for s in (0.5, 1.0)
    },
    predicted=lambda sample: {
        name: np.asarray(_formula(stationary_law(NAMED["gd"]), "gap_corrected", inputs))
        for name, inputs in sample.items()
    },
    measure=gaps,
)


def _ladder(random: np.random.Generator, tier: str) -> dict[str, list[Inputs]]:
    seed, chains = int(random.integers(1 << 30)), {"default": 256}.get(tier, 2048)
    return {rule: [_inputs(rule, float(eps), 1.0, seed, chains) for eps in EPSILONS] for rule in MOMENTUM}


def _predicted_moments(sample: dict[str, list[Inputs]]) -> dict[str, np.ndarray]:
    out = {}
    for rule, ladder in sample.items():
        law, rate = stationary_law(NAMED[rule]), ladder[0]["model"]["rate"]
        gap, spread = (_formula(law, name, ladder[0]) for name in ("gap", "sharpness_variance"))
        out[rule] = np.array([gap / np.sqrt(rate), spread / rate, 3.0])  # a Gaussian's kurtosis
    return out


LAW = Claim(
    id="noise/thermostat",
    tier="default",
    statement="noisy self-stabilization is a thermostat, for any rule that crosses by a flip: the oscillation is "
    "Gaussian of variance 2 alpha/beta, the sharpness Gaussian, kappa eta sigma^2 beta/(4 alpha) below the edge with "
    "variance Q(1) alpha/kappa, whatever the noise",
    source=SOURCE,
    comparison=bracket(
        0.05,
        "extrapolated to eps = 0 by a parabola through four eps from .01 to .08, which magnifies sampling errors of "
        "half a percent by three, and leaves a cubic rest of 2%",
        ceiling=Ceiling(0.12, "moments of a random motion, extrapolated to the limit of slow motion"),
    ),
    draw=_ladder,
    predicted=_predicted_moments,
    measure=moment_limits,
)


# ---------------------------------------------------------------------------------------------------------------
# Curvature noise alone


def _heated(random: np.random.Generator, tier: str) -> Inputs:
    inputs = _inputs("gd", 1e-3, 1.0, int(random.integers(1 << 30)), {"default": 16384}.get(tier, 65536))
    rate = inputs["model"]["rate"]
    inputs["model"] |= {"gradient_noise": 0.0, "curvature_noise": float(np.sqrt(0.05 * np.sqrt(rate) / ETA))}
    return inputs


HEATING = Claim(
    id="noise/curvature_noise_heats",
    tier="default",
    statement="without gradient noise nothing dissipates: curvature noise of variance v heats the orbit of gradient "
    "descent by (eta^2 v) alpha a step, and no stationary state exists",
    source="theory.noise.thermostats.heating",
    comparison=statistical(
        1e-4,
        "the energies of 16,384 runs; E[X] is 1 only on average, which changes the heat by E[y]/(2 eta alpha t), below "
        "1% here, and the discrete step heats by another 0.1%",
        ceiling=FLUCTUATES,
    ),
    draw=_heated,
    predicted=lambda inputs: STEPS * _formula(heating(NAMED["gd"]), "rate", inputs) / inputs["model"]["rate"],
    measure=energies,
)


CLAIMS = [IDENTITY, GAP, LAW, HEATING]
