"""What central flows say that optimizers do at the edge of small networks: effective steps, second moments at rest, a
loss that falls, and what the curvature penalty is for.  Settings were chosen on seeds 0 to 2, claims use fresh ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import theory
import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement, sign
from toylab.curvature import begin_track, follow
from toylab.experiments.network_plateaus import FRESH
from toylab.models.central_flow import central_flow_steps
from toylab.models.central_map import central_map_steps
from toylab.models.kernel import rollout
from toylab.models.mean_step import MeanStep
from toylab.models.optimizer import discrete_steps
from toylab.optimizers import NAMED
from toylab.rules.edge import edge_data

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206)"
SEEDS = {"quick": 1, "default": 1, "long": 3}


def _seeds(random: np.random.Generator, tier: str) -> tuple[int, ...]:
    return tuple(range(FRESH, FRESH + SEEDS[tier]))


def _regression(seed: Any, width: int = 32) -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(width,), seed=seed)


# ----------------------------------------------------------------------------------------------------------------
# Scalar RMSProp steps by 2/S

RATES = (0.005, 0.01, 0.02)
STEPS = 3000


def _predicted_steps(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    law = theory.central_flow_scalar_rmsprop().numeric("effective_step")
    product = float(law(sharpness=1.0))
    return {f"learning rate {rate:g}": np.full(len(seeds), product) for rate in RATES}


def _effective_steps(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    """eta S/sqrt(nu+), averaged over the second half of a run."""
    observers = toylab.observers(edge_ratio=True)
    grid = {"learning_rate": RATES}
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    runs = toylab.sweep(_regression, NAMED["scalar_rmsprop"], grid, STEPS, keys, observers, fixed={"decay": 0.99})
    ratio = np.asarray(runs.preconditioned_sharpness)[..., STEPS // 2 :].mean(axis=-1)
    return {f"learning rate {rate:g}": rate * ratio[i] for i, rate in enumerate(RATES)}


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
    measure=_effective_steps,
)

# ----------------------------------------------------------------------------------------------------------------
# The loss along the flow

FLOWED = 1500


def _falling(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"seed {seed}": np.asarray(-1.0) for seed in seeds}


def _loss_changes(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The relative change of the loss from each mean point to the next, along the central flow of gradient descent."""
    rule = NAMED["gd"](learning_rate=0.5)
    known = edge_data(rule, _regression(0).params)

    @jax.jit
    def path(key: Any) -> Any:
        problem = _regression(key)
        kernel = central_flow_steps(problem, rule, known, count=4)
        return rollout(kernel, kernel.init(problem.params), FLOWED)[1].loss

    return {f"seed {seed}": np.diff(np.log(np.asarray(path(jax.random.key(seed))))) for seed in seeds}


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
    measure=_loss_changes,
)

# ----------------------------------------------------------------------------------------------------------------
# What the curvature penalty is for

RULES: Mapping[str, dict[str, float]] = {
    "scalar_rmsprop": {"learning_rate": 0.03, "decay": 0.99},
    "rmsprop": {"learning_rate": 6e-4, "decay": 0.99},
    "adam": {"learning_rate": 4e-3, "b2": 0.99},
}
WARM_UP, LENGTH, COUNT = 20, 600, 6


def _slower(seeds: tuple[int, ...]) -> dict[str, float]:
    signs = {"sharpness": 1.0, "step": -1.0, "loss": 1.0}
    return {f"seed {seed}, {name}": sign for seed in seeds for name, sign in signs.items()}


def _changes(rule: str, seed: int) -> dict[str, float]:
    """Logarithms of what is without the penalty over what is with it: at the end the sharpness and the geometric mean
    of the diagonal of P^-1, and the loss averaged over the last half."""
    with_it, without = (penalized(rule, seed, share) for share in (True, False))
    return dict(zip(("sharpness", "step", "loss"), map(float, np.log(without / with_it)), strict=True))


def _without(seeds: tuple[int, ...]) -> dict[str, float]:
    changes = {}
    for seed in seeds:
        changes |= {f"seed {seed}, {name}": value for name, value in _changes("scalar_rmsprop", seed).items()}
    return changes


def _of_rules(seeds: tuple[int, ...]) -> dict[str, float]:
    means = {}
    for rule in RULES:
        changes = [_changes(rule, seed) for seed in seeds]
        means |= {f"{rule}, {name}": float(np.mean([one[name] for one in changes])) for name in changes[0]}
    return means


def _finding(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label} {100 * float(np.expm1(value)):+.2f} %" for label, value in measured.items())
    return f"without the penalty, after {LENGTH} steps: {listed}"


@cache
def penalized(rule: str, seed: int, share: bool) -> np.ndarray:
    """Sharpness, step and mean loss (3,) of the central map with or without its penalty."""
    problem = toylab.problems.digits_mlp(hidden=(16, 16), examples=100, seed=seed)
    transform = NAMED[rule](**RULES[rule])
    known = edge_data(transform, problem.params)
    own = discrete_steps(problem, transform)
    kernel = central_map_steps(problem, transform, known, count=COUNT, curvature_penalty=share)
    mean_step = MeanStep(transform, *known, problem.params)

    @jax.jit
    def run() -> Any:
        start, _ = rollout(own, own.init(problem.params), WARM_UP)
        end, predictions = rollout(kernel, kernel.init(start.params, start.state), LENGTH)
        w, gradient = (mean_step.flat(tree) for tree in (end.params, problem.gradient(end.params)))
        inverse = mean_step.inverse(gradient, end.state, w, mean_step.slow(end.state))
        step = jnp.exp(jnp.sum(jnp.where(inverse > 0, jnp.log(inverse), 0)) / jnp.sum(inverse > 0))
        top, _ = follow(problem.hessian(end.params), begin_track(end.params, 1), end.params)
        results = jnp.stack([top.value[0], step, jnp.mean(predictions.mean_loss[LENGTH // 2 :])])
        return jnp.where(top.converged[0] & jnp.all(predictions.converged), results, jnp.nan)

    return np.asarray(run())


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
    measure=_without,
)

PENALTIES = Claim(
    id="flows/penalty_of_rules",
    tier="long",
    statement="what the curvature penalty changes for rules with one second moment for each weight, Adam among them",
    source=SOURCE + ", acceleration via regularization; for Adam: here",
    comparison=measurement(),
    draw=_seeds,
    measure=_of_rules,
    finding=_finding,
)

CLAIMS = [EFFECTIVE, FALLS, PENALTY, PENALTIES]
