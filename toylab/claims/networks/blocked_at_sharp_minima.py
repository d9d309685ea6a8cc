"""Gradient descent is blocked from sharp regions where adaptive rules go on: their P follows, until it is frozen.

Runs: regression of a Chebyshev polynomial by 30 tanh units, where the sharpness can rise a hundredfold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import theory
import toylab
from toylab import filters
from toylab.claims.ceilings import NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_least, equality, measurement, sign
from toylab.experiments.network_plateaus import starts
from toylab.optimizers import NAMED
from toylab.problems import chebyshev_mlp
from toylab.rules.frozen_rules import frozen

SOURCE = "Cohen et al. 2022 (arXiv:2207.14484), there on image and text networks"

SEEDS, EVERY = 3, 80
AT, NEVER = 1_000, 1e9  # the step at which P is frozen; a step that no run reaches
GD = {"learning_rate": [0.4]}
ADAM = {"learning_rate": [3e-3], "b2": [0.9, 0.99, 0.999], "at": [AT, NEVER]}
RMSPROP = {"learning_rate": [3e-4], "decay": [0.9, 0.99], "at": [AT, NEVER]}
STEPS = {"gd": 6_000, "adam": 3_000, "rmsprop": 4_000}
LATE, LAST = 0.5, 0.75  # of the steps: frozen rules have come to rest by then; the distance has grown
SHARED_LOSS = 0.03


def regression(key: Any) -> toylab.Problem:
    """The problem from the start that a key draws."""
    return chebyshev_mlp(hidden=(30,), seed=key)


@cache
def freezing(rule: str) -> Callable[..., optax.GradientTransformation]:
    """The factory of a named rule with one hyperparameter more: `at`, the step at which its slow state is frozen."""
    roles = filters.roles(NAMED[rule](learning_rate=1e-3), jnp.zeros(()))

    def factory(at: Any, **hyperparameters: Any) -> optax.GradientTransformation:
        return frozen(NAMED[rule](**hyperparameters), roles, at)

    return factory


def runs(rule: str, grid: dict[str, list[float]], steps: int) -> toylab.Sweep:
    """A sweep over `grid` and `SEEDS` seeds that records loss, sharpness and edge ratio; `at` freezes the rule."""
    factory = freezing(rule) if "at" in grid else NAMED[rule]
    seen = toylab.observers(loss=True, sharpness=1, edge_ratio=True)
    return toylab.sweep(regression, factory, grid, steps, seeds=starts(SEEDS), every=EVERY, observe=seen)


@cache
def recorded(rule: str) -> toylab.Sweep:
    """The runs of a rule that several claims look at: axes are those of its grid, then seeds."""
    return runs(rule, {"gd": GD, "adam": ADAM, "rmsprop": RMSPROP}[rule], STEPS[rule])


def paired(values: np.ndarray) -> np.ndarray:
    """Means of consecutive pairs along the last axis, which an oscillation of period two leaves alone."""
    return (values[..., ::2] + values[..., 1::2]) / 2


def sharpness_at(run: toylab.Sweep, loss: np.ndarray | float) -> np.ndarray:
    """S of every member where its loss first is at most `loss` (NaN if it never is): equal progress."""
    below = paired(run.loss) <= np.asarray(loss)[..., None]
    first = np.argmax(below, axis=-1)[..., None]
    found = np.take_along_axis(paired(run.sharpness[..., 0]), first, -1)[..., 0]
    return np.where(below.any(axis=-1), found, np.nan)


def late(run: toylab.Sweep, values: np.ndarray, after: float = LATE) -> np.ndarray:
    """Mean of a record (..., T) over the steps from the fraction `after` of the run on."""
    return values[..., run.steps >= after * run.steps[-1]].mean(axis=-1)


def _threshold(rule: str, **settings: float) -> float:
    """k* = eta lambda(P^-1 H) at the edge, derived."""
    edge = theory.cached_edge(NAMED[rule])
    return settings["learning_rate"] * edge.at(**settings).threshold


# ---------------------------------------------------------------------------------------------------------------
# GD stops where Adam passes.


def _ceiling(sample: Any) -> float:
    eta = GD["learning_rate"][0]
    return _threshold("gd", learning_rate=eta) / eta


def _stopped(sample: Any) -> np.ndarray:
    run = recorded("gd")
    return late(run, run.sharpness[..., 0])[0]


def _passing(sample: Any) -> dict[str, np.ndarray]:
    least = np.min(paired(recorded("gd").loss)[0], axis=-1)  # (seeds,)
    adam = recorded("adam")
    sharp = sharpness_at(adam, np.broadcast_to(least, adam.status.shape))[0, :, -1]
    return {f"b2 {b2:g}": each for b2, each in zip(ADAM["b2"], sharp, strict=True)}


STOPPED = Claim(
    id="networks/blocked_gd",
    tier="default",
    statement="gradient descent on a Chebyshev regression is blocked at the sharpness that its code's edge allows, "
    "from every seed, while its loss is still far from zero",
    source=SOURCE,
    comparison=equality(
        0.1, "the sharpness falls by some per cent below the edge and returns, slowly", ceiling=NETWORK_PLATEAU
    ),
    predicted=_ceiling,
    measure=_stopped,
)

PASSING = Claim(
    id="networks/blocked_adam_advances",
    tier="default",
    statement="at the lowest loss that blocked gradient descent attains, Adam from the same start is sharper than "
    "gradient descent's edge allows, for b2 = .9, .99 and .999",
    source=SOURCE,
    comparison=at_least(
        0.0, "a bound that nothing pulls at", ceiling=Ceiling(20.0, "Adam has no level in S: only that it passes")
    ),
    predicted=lambda sample: {f"b2 {b2:g}": np.array(_ceiling(sample)) for b2 in ADAM["b2"]},
    measure=_passing,
)


# ---------------------------------------------------------------------------------------------------------------
# With P frozen, they are blocked again.


def _frozen_threshold(sample: Any) -> dict[str, np.ndarray]:
    eta = RMSPROP["learning_rate"][0]
    return {
        f"decay {decay:g}": np.full(SEEDS, _threshold("rmsprop", learning_rate=eta, decay=decay))
        for decay in RMSPROP["decay"]
    }


def _frozen_level(sample: Any) -> dict[str, np.ndarray]:
    run = recorded("rmsprop")
    level = RMSPROP["learning_rate"][0] * late(run, run.preconditioned_sharpness)[0, :, 0]
    return {f"decay {decay:g}": each for decay, each in zip(RMSPROP["decay"], level, strict=True)}


FROZEN = Claim(
    id="networks/blocked_when_frozen",
    tier="default",
    statement="RMSProp whose second moments are frozen at step 1000 settles where eta lambda_max(P^-1 H) of the frozen "
    "P meets its derived threshold, as gradient descent does (step and learning rate are such that runs survive the "
    "freezing; not all do, networks/frozen_survivors)",
    source=SOURCE,
    comparison=equality(0.05, "bursts of self-stabilization, some per cent deep", ceiling=NETWORK_PLATEAU),
    predicted=_frozen_threshold,
    measure=_frozen_level,
)


def _left_behind(sample: Any) -> dict[str, np.ndarray]:
    """log of S with P adapting over S with P frozen, from the same seed, over the last quarter."""
    found = {}
    for rule in ("adam", "rmsprop"):
        run = recorded(rule)
        sharp = np.log(late(run, run.sharpness[..., 0], LAST))[0]
        found[rule] = (sharp[:, 1] - sharp[:, 0]).ravel()
    return found


LEFT_BEHIND = Claim(
    id="networks/blocked_frozen_stops_sharpening",
    tier="default",
    statement="from the moment when P is frozen, Adam and RMSProp fall behind the sharpness of the same run with P "
    "adapting, for every seed and every b2",
    source=SOURCE,
    comparison=sign(
        0.0, "only the order is stated", ceiling=Ceiling(1.0, "told apart in log S, in units of a factor e"), scale=1.0
    ),
    predicted=lambda sample: dict.fromkeys(("adam", "rmsprop"), np.array(1.0)),
    measure=_left_behind,
)


# ---------------------------------------------------------------------------------------------------------------
# What lets Adam go sharper.


def _forgetful(sample: Any) -> np.ndarray:
    sharp = np.log(sharpness_at(recorded("adam"), SHARED_LOSS))[0, :, -1]
    return sharp[0] - sharp[-1]


FORGETFUL = Claim(
    id="networks/advancing_with_memory",
    tier="default",
    statement="at equal loss Adam with b2 = .9 is in a sharper place than with b2 = .999, from every seed: the sooner "
    "P forgets, the less it blocks",
    source=SOURCE,
    comparison=sign(
        0.0, "only the order is stated", ceiling=Ceiling(2.0, "told apart in log S, in units of a factor e"), scale=1.0
    ),
    predicted=lambda sample: np.array(1.0),
    measure=_forgetful,
)


RATES = [1e-3, 3e-3, 1e-2]


@cache
def by_rate() -> toylab.Sweep:
    """Adam at the learning rates `RATES`: axes (learning rate, b2, seed)."""
    return runs("adam", {"learning_rate": RATES, "b2": [0.99]}, 6_000)


def _by_rate(sample: Any) -> dict[str, np.ndarray]:
    sharp = sharpness_at(by_rate(), SHARED_LOSS)[:, 0]
    return {f"eta {eta:g}": each for eta, each in zip(RATES, sharp, strict=True)}


def _finding(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {', '.join(f'{s:.0f}' for s in values)}" for label, values in found.items())
    return (
        f"Sharpness of Adam (b2 .99) at the loss {SHARED_LOSS:g}, three seeds: {listed}.  At equal loss smaller steps "
        "are in flatter places here, against what is reported of larger networks at the end of training."
    )


BY_RATE = Claim(
    id="networks/advancing_with_rate",
    tier="long",
    statement="sharpness of Adam at equal loss, by its learning rate",
    source="measured; " + SOURCE,
    comparison=measurement(),
    measure=_by_rate,
    finding=_finding,
)


FREEZE_AT = [500.0, 1000.0, 2000.0]


def _survivors(sample: Any) -> dict[str, np.ndarray]:
    """Per rule: how many frozen runs go on to the end, and how many there are."""
    adam = runs("adam", {"learning_rate": RATES[:2], "b2": [0.9, 0.99, 0.999], "at": FREEZE_AT}, 4_000)
    rmsprop = runs("rmsprop", {"learning_rate": [3e-4, 1e-3], "decay": [0.9, 0.99, 0.999], "at": FREEZE_AT}, 4_000)
    both = {"adam": adam.status, "rmsprop": rmsprop.status}
    return {rule: np.array([np.sum(status == toylab.Status.completed), status.size]) for rule, status in both.items()}


def _finding_of_survivors(found: dict[str, np.ndarray]) -> str:
    listed = ", ".join(f"{int(done)} of {int(all_)} with {rule}" for rule, (done, all_) in found.items())
    return f"Runs that survive 4,000 steps with their second moments frozen at step 500, 1000 or 2000: {listed}."


SURVIVORS = Claim(
    id="networks/frozen_survivors",
    tier="long",
    statement="how many runs go on after their P is frozen, with momentum (Adam) and without (RMSProp)",
    source="measured; momentum undoes the damping of self-stabilization (self_stabilization/*)",
    comparison=measurement(),
    measure=_survivors,
    finding=_finding_of_survivors,
)

CLAIMS = [STOPPED, PASSING, FROZEN, LEFT_BEHIND, FORGETFUL, BY_RATE, SURVIVORS]
