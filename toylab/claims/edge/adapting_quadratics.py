"""Rules let go on quadratics: the preconditioner adapts, and where the edge ratio then settles."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

import toylab
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, measurement
from toylab.optimizers import NAMED

ETA = 1e-2


def _problem(random: np.random.Generator, dimension: int) -> dict[str, np.ndarray]:
    """A diagonal quadratic, each coordinate started near the amplitude eta/2 at which sqrt(nu) balances it.

    Started far away, a coordinate can contract to zero before its second moment has faded: with no noise in the run
    nothing would ever bring it back.
    """
    return {
        "eigenvalues": random.uniform(0.1, 1.0, dimension),
        "start": ETA / 2 * random.uniform(0.8, 1.2, dimension) * random.choice([-1.0, 1.0], dimension),
    }


def _ratios(rule: str, grid: dict[str, list[float]], sample: Any, steps: int, every: int, **fixed: Any) -> np.ndarray:
    """Edge ratios (members, observations) of one rule let go."""
    found = toylab.sweep(
        toylab.problems.quadratic(sample["eigenvalues"], sample["start"]),
        NAMED[rule],
        {"learning_rate": [ETA], **grid},
        steps=steps,
        every=every,
        observe=toylab.observers(loss=False, edge_ratio=True),
        fixed=fixed,
    )
    return found.edge_ratio.reshape(-1, found.edge_ratio.shape[-1])


# ---------------------------------------------------------------------------------------------------------------
# Rules without memory of the gradient

MEMORYLESS = {
    "rmsprop": ({"decay": [0.9, 0.99]}, {"bias_correction": True}),
    "adam": ({"b1": [0.0], "b2": [0.9, 0.99]}, {}),
}


def _settled(sample: Any) -> dict[str, np.ndarray]:
    return {
        rule: _ratios(rule, grid, sample, 6_000, 100, **fixed)[:, -2:] for rule, (grid, fixed) in MEMORYLESS.items()
    }


LET_GO = Claim(
    id="edge/let_go_memoryless",
    tier="default",
    statement="on a diagonal quadratic a rule with P = sqrt(nu) and no momentum drives itself to the edge: the edge "
    "ratio settles at exactly 1",
    source="period-2 balance: w+ = -w with constant g^2 = nu needs eta lambda / sqrt(nu) = 2",
    comparison=equality(
        1e-9, "the approach fades like beta2^t, to nothing after 6,000 steps at beta2 = .99; what is left is rounding"
    ),
    draw=lambda random, tier: _problem(random, 4),
    predicted=lambda sample: 1.0,
    measure=_settled,
)

# ---------------------------------------------------------------------------------------------------------------
# The others: measured

OTHERS = {
    "adam": {"b1": [0.5, 0.9], "b2": [0.9, 0.99, 0.999]},
    "nadam": {"b1": [0.9], "b2": [0.99]},
    "adabelief": {"b1": [0.9], "b2": [0.99]},
    "amsgrad": {"b1": [0.9], "b2": [0.99]},
    "adagrad": {},
}


def _mean_and_spread(sample: Any) -> dict[str, np.ndarray]:
    out = {}
    for rule, grid in OTHERS.items():
        late = np.array_split(_ratios(rule, grid, sample, 20_000, 20), 2, axis=1)[1]
        pairs = (late[:, 0::2] + late[:, 1::2]) / 2
        names = [dict(zip(grid, values, strict=True)) for values in np.ndindex(*(len(v) for v in grid.values()))]
        for index, row in zip(names, pairs, strict=True):
            label = ", ".join(f"{name}={grid[name][i]:g}" for name, i in index.items())
            out[f"{rule}({label})"] = np.array([row.mean(), row.std(ddof=1)])
    return out


def _told(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label} {mean:.3f} ± {spread:.3f}" for label, (mean, spread) in found.items())
    return (
        "edge ratio on a 1-D quadratic (mean ± spread in time): "
        f"{listed}. AMSGrad and Adagrad fall below 1, as their P never shrinks. Why the mean is not 1 with momentum is "
        "not explained"
    )


OFFSET = Claim(
    id="edge/let_go_with_memory",
    tier="default",
    statement="where the edge ratio settles when rules with momentum or a growing P are let go on a quadratic",
    source="measured",
    comparison=measurement(),
    draw=lambda random, tier: _problem(random, 1),
    measure=_mean_and_spread,
    finding=_told,
)

# ---------------------------------------------------------------------------------------------------------------
# Our runs are optax's

COMPARED = ("gd", "heavy_ball", "nesterov", "rmsprop", "adam", "adamw", "nadam", "amsgrad", "adagrad", "adan")


def _loop(sample: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Losses of optax's own loop, eager, one update at a time, in units of the running maximum; and that maximum."""
    problem = toylab.problems.quadratic(sample["eigenvalues"], sample["start"], key=jax.random.key(sample["basis"]))
    losses, tops = {}, {}
    for rule in COMPARED:
        transform = NAMED[rule](learning_rate=ETA)
        params, state, path = problem.params, transform.init(problem.params), []
        for _ in range(sample["steps"]):
            path.append(float(problem.value(params)))
            updates, state = transform.update(problem.gradient(params), state, params)
            params = optax.apply_updates(params, updates)
        tops[rule] = np.maximum.accumulate(path)
        losses[rule] = np.array(path) / tops[rule]
    return losses, tops


def _ours(sample: Any) -> dict[str, np.ndarray]:
    problem = toylab.problems.quadratic(sample["eigenvalues"], sample["start"], key=jax.random.key(sample["basis"]))
    out = {}
    for rule in COMPARED:
        run = toylab.train(problem, NAMED[rule](learning_rate=ETA), steps=sample["steps"])
        out[rule] = run.loss / np.maximum.accumulate(run.loss)
    return out


SAME = Claim(
    id="edge/our_runs_equal_optax",
    tier="quick",
    statement="the lab's compiled runs equal optax's own loop",
    source="optax's documented loop: update, apply_updates",
    comparison=equality(
        1e-12,
        "losses relative to their running maximum; below the edge rounding is not magnified, so a thousand roundings "
        "of 1e-16 remain",
        scale=1.0,
    ),
    draw=lambda random, tier: _problem(random, 4) | {"basis": int(random.integers(1 << 20)), "steps": 40},
    predicted=lambda sample: _loop(sample)[0],
    measure=_ours,
)

CLAIMS = [SAME, LET_GO, OFFSET]
