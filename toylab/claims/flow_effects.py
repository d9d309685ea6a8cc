"""What central flows say that optimizers do at the edge of small networks: effective steps, second moments at rest, a
loss that falls, and what the curvature penalty is for.  Settings were chosen on seeds 0 to 2, claims use fresh ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

import theory
import toylab
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, measurement, sign
from toylab.claims.network_plateaus import FRESH
from toylab.curvature import begin_track, dense_hessian, follow
from toylab.dynamics.base import rollout
from toylab.dynamics.central_flow import central_flow_steps
from toylab.dynamics.central_map import central_map_steps
from toylab.dynamics.discrete import discrete_steps
from toylab.dynamics.mean_step import MeanStep
from toylab.gauging import gauge
from toylab.optimizers import NAMED

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
    seen = toylab.observers(edge_ratio=True)
    grid = {"learning_rate": RATES}
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    runs = toylab.sweep(_regression, NAMED["scalar_rmsprop"], grid, STEPS, keys, seen, fixed={"decay": 0.99})
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
    known = gauge(rule, _regression(0).params)

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
# RMSProp's second moments at rest


class Rest(NamedTuple):
    """Of one stretch of a run: means of sqrt(nu) and the gradient (p,), and the Hessian (p, p) at the mean weights."""

    root: Any
    gradient: Any
    hessian: Any


RATE, DECAY, WIDTH, BEFORE, STRETCH = 2e-3, 0.99, 8, 2000, 400


def stationary(found: Rest, rate: float) -> np.ndarray:
    """M = diag (p,) with the least tr M + |g|^2_(M^-1)/rate^2 subject to H <= 2 M, by a barrier: Newton's method on the
    objective minus mu log det(2 M - H), mu to zero."""
    if not (np.isfinite(found.gradient).all() and np.isfinite(found.hessian).all()):
        raise ArithmeticError("the run has diverged: its gradient or Hessian is not finite")
    size = found.gradient.size
    squares = (found.gradient / rate) ** 2
    diagonal = np.full(size, np.linalg.norm(found.hessian, 2))
    mu = 1.0
    while mu * size > 1e-9 * diagonal.sum():
        for _ in range(50):
            inverse = np.linalg.inv(2 * np.diag(diagonal) - found.hessian)
            slope = 1 - squares / diagonal**2 - 2 * mu * np.diag(inverse)
            bend = np.diag(2 * squares / diagonal**3) + 4 * mu * inverse**2
            move = np.linalg.solve(bend, -slope)
            share = 1.0
            while not _inside(diagonal + share * move, found.hessian):
                share /= 2
            diagonal = diagonal + share * move
            if -slope @ move < 1e-12 * diagonal.sum():
                break
        else:
            raise ArithmeticError("Newton's method does not reach the centre of the barrier")
        mu /= 4
    return diagonal


def _inside(diagonal: np.ndarray, hessian: np.ndarray) -> bool:
    return bool(np.all(diagonal > 0) and np.linalg.eigvalsh(2 * np.diag(diagonal) - hessian)[0] > 0)


class Run(NamedTuple):
    """RMSProp before each step (T, p): weights, gradient, and sqrt(nu) as the step uses it."""

    weights: Any
    gradients: Any
    roots: Any


@cache
def regression_run(seed: int, steps: int = BEFORE + STRETCH) -> Run:
    """RMSProp on a small regression."""
    problem = _regression(seed, WIDTH)
    kernel = discrete_steps(problem, NAMED["rmsprop"](learning_rate=RATE, decay=DECAY))

    def step(now: Any, _: None) -> tuple[Any, Run]:
        after, _ = kernel.step(now)
        seen = (now.params, problem.gradient(now.params), after.state[0].nu)
        weights, gradient, nu = (ravel_pytree(tree)[0] for tree in seen)
        return after, Run(weights, gradient, jnp.sqrt(nu))

    run = jax.jit(lambda begun: lax.scan(step, begun, length=steps)[1])(kernel.init(problem.params))
    return Run(*map(np.asarray, run))


def rest(seed: int, run: Run, window: slice) -> Rest:
    """Means over a window of a run, and the Hessian there."""
    problem = _regression(seed, WIDTH)
    weights, gradient, root = (x[window].mean(axis=0) for x in run)
    _, unravel = ravel_pytree(problem.params)
    return Rest(root, gradient, np.asarray(dense_hessian(problem, unravel(jnp.asarray(weights)))))


def _close(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"seed {seed}": np.asarray(0.03) for seed in seeds}


def _moment_errors(seeds: tuple[int, ...]) -> dict[str, float]:
    """|sqrt(nu)/eta - M|/|M|, M the solution of the programme at the mean weights and the mean gradient."""
    found = {}
    for seed in seeds:
        late = rest(seed, regression_run(seed), slice(BEFORE, None))
        solution = stationary(late, RATE)
        found[f"seed {seed}"] = float(np.linalg.norm(late.root / RATE - solution) / np.linalg.norm(solution))
    return found


MOMENTS = Claim(
    id="flows/second_moments_at_rest",
    tier="default",
    statement="in its plateau RMSProp's second moments are those of a convex programme that knows no history, the "
    "least tr M + |g|^2_(M^-1)/eta^2 subject to H <= 2 M, M = sqrt(nu)/eta, within 3 per cent",
    source=SOURCE + "; its conditions of optimality: theory.central_flow_rmsprop",
    comparison=at_most(
        0.0,
        "the bound is part of the statement",
        ceiling=Ceiling(1.0, "an error far below the bound, down to none, moves the bound by all of itself"),
    ),
    draw=_seeds,
    predicted=_close,
    measure=_moment_errors,
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
    found = {}
    for seed in seeds:
        found |= {f"seed {seed}, {name}": value for name, value in _changes("scalar_rmsprop", seed).items()}
    return found


def _of_rules(seeds: tuple[int, ...]) -> dict[str, float]:
    found = {}
    for rule in RULES:
        changes = [_changes(rule, seed) for seed in seeds]
        found |= {f"{rule}, {name}": float(np.mean([one[name] for one in changes])) for name in changes[0]}
    return found


def _told(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label} {100 * float(np.expm1(value)):+.2f} %" for label, value in found.items())
    return f"without the penalty, after {LENGTH} steps: {listed}"


@cache
def penalized(rule: str, seed: int, share: bool) -> np.ndarray:
    """Sharpness, step and mean loss (3,) of the central map with or without its penalty."""
    problem = toylab.problems.digits_mlp(hidden=(16, 16), examples=100, seed=seed)
    transform = NAMED[rule](**RULES[rule])
    known = gauge(transform, problem.params)
    own = discrete_steps(problem, transform)
    kernel = central_map_steps(problem, transform, known, count=COUNT, curvature_penalty=share)
    mean_step = MeanStep(transform, *known, problem.params)

    @jax.jit
    def run() -> Any:
        begun, _ = rollout(own, own.init(problem.params), WARM_UP)
        end, said = rollout(kernel, kernel.init(begun.params, begun.state), LENGTH)
        w, gradient = (mean_step.flat(tree) for tree in (end.params, problem.gradient(end.params)))
        inverse = mean_step.inverse(gradient, end.state, w, mean_step.slow(end.state))
        step = jnp.exp(jnp.sum(jnp.where(inverse > 0, jnp.log(inverse), 0)) / jnp.sum(inverse > 0))
        top, _ = follow(problem.hessian(end.params), begin_track(end.params, 1), end.params)
        found = jnp.stack([top.value[0], step, jnp.mean(said.mean_loss[LENGTH // 2 :])])
        return jnp.where(top.converged[0] & jnp.all(said.converged), found, jnp.nan)

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
    finding=_told,
)

CLAIMS = [EFFECTIVE, FALLS, MOMENTS, PENALTY, PENALTIES]
