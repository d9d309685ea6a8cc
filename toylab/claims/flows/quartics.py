"""Models of the average on quartics just above their edge, where gradient descent has an exact 2-cycle."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy.optimize import fsolve

import theory
from theory.two_cycles.harmonic_balance import balance
from toylab import problems
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.two_cycles import quartic_loss
from toylab.models.kernel import advanced
from toylab.models.named import models
from toylab.models.rod_flow import rod_flow_steps
from toylab.optimizers import NAMED
from toylab.rules.edge import edge_data_of_runs

# ----------------------------------------------------------------------------------------------------------------
# The rod flow, at finite distance from the edge


class Quartics(NamedTuple):
    """Members (n,): curvature `a` at the minimum, third and fourth derivative, and hyperparameters that put `a` above
    the edge by some per cent."""

    a: np.ndarray
    c3: np.ndarray
    c4: np.ndarray
    hyper: dict[str, np.ndarray]


BESIDE = 0.01
"""The start of all runs: the first displacement is the rod's first half."""

ALONG_THE_ROD = 6_000
"""Steps: the size relaxes by the excess over the edge in each, half a per cent at least, to exp(-30)."""


def _quartics(random: np.random.Generator, tier: str) -> dict[str, Quartics]:
    quartics, count = {}, 4
    for rule, momentum in (("gd", {}), ("heavy_ball", {"momentum": random.uniform(0.2, 0.7, count)})):
        a, c4 = random.uniform(0.5, 2, count), random.uniform(0.5, 2, count)
        c3 = random.uniform(1.5, 2.2, count) * np.sqrt(a * c4 / 3)  # 3 c3^2 > a c4: the flip is supercritical
        unit = {"learning_rate": np.ones(count), **momentum}
        edge = np.array([theory.edge(NAMED[rule]).at(**_member(unit, i)).threshold for i in range(count)])
        quartics[rule] = Quartics(
            a, c3, c4, {**unit, "learning_rate": edge / a * (1 + random.uniform(0.005, 0.01, count))}
        )
    return quartics


def _member(hyper: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in hyper.items()}


@cache
def _balance() -> tuple[Any, Any]:
    """The two equations of a 2-cycle as functions."""
    law = balance(quartic_loss)
    return law.numeric("odd"), law.numeric("even")


def _cycle(jet: dict[str, float], threshold: float, near: float) -> tuple[float, float]:
    """The mean and the squared amplitude of the exact 2-cycle, from its derived equations; `near`: of the latter."""
    odd, even = _balance()

    def equations(point: np.ndarray) -> list[float]:
        at = {"A": point[0], "B": point[1], **jet}
        return [float(odd(**at)) - threshold, float(even(**at))]

    half, middle = fsolve(equations, [near**0.5, -jet["c3"] * near / (2 * jet["a"])], xtol=1e-11)
    return float(middle), float(half**2)


def _cycles(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
    """The exact 2-cycle of each member (n, 2)."""
    variance, cycles = theory.flip_variance().numeric("cycle_variance"), {}
    for rule, s in sample.items():
        law, rows = theory.edge(NAMED[rule]), []
        for i in range(s.a.size):
            threshold = law.at(**_member(s.hyper, i)).threshold
            jet = {"a": float(s.a[i]), "c3": float(s.c3[i]), "c4": float(s.c4[i])}
            rows.append(_cycle(jet, threshold, float(variance(**jet, excess=float(s.a[i] - threshold)))))
        cycles[rule] = np.array(rows)
    return cycles


def _rods(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
    """The middle and the squared half length of the rod after it has settled."""
    variances = {}
    for rule, s in sample.items():
        structure, numbers = edge_data_of_runs(NAMED[rule], s.hyper, jnp.zeros(()))

        def settled(
            a: Array, c3: Array, c4: Array, hyper: Any, own: Any, rule: str = rule, structure: Any = structure
        ) -> Array:
            toy = problems.quartic(a, c3, c4, start=BESIDE)
            kernel = rod_flow_steps(toy, NAMED[rule](**hyper), (structure, own))

            end = advanced(kernel, kernel.init(toy.params), ALONG_THE_ROD)
            return jnp.stack([end.params, end.half**2])

        variances[rule] = np.asarray(jax.jit(jax.vmap(settled))(s.a, s.c3, s.c4, s.hyper, numbers))
    return variances


RODS = Claim(
    id="flows/rod_on_quartics",
    tier="default",
    statement="above a supercritical edge the rod flow rests on the optimizer's exact 2-cycle, middle and length, at "
    "finite distance from the edge, with momentum and without",
    source="rod flow: Regis & Chewi (arXiv:2602.01480), with momentum: here; the cycle: theory.two_cycles",
    comparison=equality(1e-7, "the size has relaxed to exp(-30) of itself, and squares are compared"),
    draw=_quartics,
    predicted=_cycles,
    measure=_rods,
)

# ----------------------------------------------------------------------------------------------------------------
# Central map and central flow, to leading order


class Jets(NamedTuple):
    """Members (n,): curvature, third and fourth derivative at the minimum."""

    a: np.ndarray
    c3: np.ndarray
    c4: np.ndarray


EXCESS = np.array([0.002, 0.001, 0.0005])
"""Relative excesses of `a` over the edge: halved twice, to extrapolate."""

RESTING = ("central_map", "central_flow")
AT_REST, SWUNG_IN = 400, 60_000
"""Steps: models relax by a half or more in each, gradient descent's swing by twice the excess, to exp(-60)."""


def _jets(random: np.random.Generator, tier: str) -> Jets:
    count = 3
    a, c4 = random.uniform(0.5, 2, count), random.uniform(-2, 2, count)
    # 3 c3^2 > a c4, and the share neither near 1, where there is nothing to see, nor near 0
    return Jets(a, random.uniform(1.3, 1.8, count) * np.sqrt(a * np.abs(c4) / 3), c4)


def _rates(jets: Jets) -> np.ndarray:
    """Learning rates (members, excesses)."""
    return 2 / jets.a[:, None] * (1 + EXCESS)


@jax.jit
@jax.vmap
def _swing(a: Array, c3: Array, c4: Array, rate: Array) -> Array:
    """The squared half of gradient descent's last step."""
    toy = problems.quartic(a, c3, c4, start=BESIDE)
    w = lax.fori_loop(0, SWUNG_IN, lambda _, w: w - rate * toy.gradient(w), toy.params)
    return (rate * toy.gradient(w) / 2) ** 2


def _members(jets: Jets) -> list[np.ndarray]:
    """a, c3, c4 and the learning rate of every jet at every excess, flat."""
    rates = _rates(jets)
    return [*(np.broadcast_to(part[:, None], rates.shape).ravel() for part in jets), rates.ravel()]


def _variances(model: str, members: list[np.ndarray]) -> np.ndarray:
    """What the model says of that, at rest."""
    structure, numbers = edge_data_of_runs(NAMED["gd"], {"learning_rate": members[-1]}, jnp.zeros(()))

    def at_rest(a: Array, c3: Array, c4: Array, rate: Array, own: Any) -> Array:
        toy, rule = problems.quartic(a, c3, c4, start=0.0), NAMED["gd"](learning_rate=rate)
        kernel = models()[model].steps(toy, rule, (structure, own), count=1)
        start = kernel.init(toy.params, rule.init(toy.params))
        return kernel.step(advanced(kernel, start, AT_REST))[1].variances[0]

    return np.asarray(jax.jit(jax.vmap(at_rest))(*members, numbers))


def _derived_shares(jets: Jets) -> dict[str, np.ndarray]:
    share = theory.flip_variance().numeric("share")
    return dict.fromkeys(RESTING, np.array([float(share(a=a, c3=c3, c4=c4)) for a, c3, c4 in zip(*jets, strict=True)]))


def _measured_shares(jets: Jets) -> dict[str, np.ndarray]:
    """The models' share of the variance of gradient descent's 2-cycle, extrapolated to the edge."""
    members = _members(jets)
    swings = np.asarray(_swing(*members))
    shares = {}
    for model in RESTING:
        far, near, nearest = (_variances(model, members) / swings).reshape(-1, len(EXCESS)).T
        once, again = 2 * near - far, 2 * nearest - near
        shares[model] = (4 * again - once) / 3
    return shares


SHARE = Claim(
    id="flows/share_at_a_flip",
    tier="default",
    statement="on a quartic at a supercritical edge central map and central flow, which stop at third derivatives of "
    "the loss, have the derived share 1 - a c4/(3 c3^2) of the variance of gradient descent's 2-cycle",
    source="theory.flip_variance",
    comparison=equality(
        5e-6, "extrapolated twice: an eighth of the third order, 1e-9, times a thousand where c3 is smallest"
    ),
    draw=_jets,
    predicted=_derived_shares,
    measure=_measured_shares,
)

CLAIMS = [RODS, SHARE]
