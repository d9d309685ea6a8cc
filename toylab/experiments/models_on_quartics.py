"""Experiments with models of the average on quartics just above their edge."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from toylab import problems
from toylab.models.kernel import advanced
from toylab.models.named import models
from toylab.models.rod_flow import rod_flow_steps
from toylab.optimizers import NAMED
from toylab.rules.edge import edge_data_of_runs


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


def rods_at_rest(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
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


def variance_shares(jets: Jets) -> dict[str, np.ndarray]:
    """The models' share of the variance of gradient descent's 2-cycle, extrapolated to the edge."""
    members = _members(jets)
    swings = np.asarray(_swing(*members))
    shares = {}
    for model in RESTING:
        far, near, nearest = (_variances(model, members) / swings).reshape(-1, len(EXCESS)).T
        once, again = 2 * near - far, 2 * nearest - near
        shares[model] = (4 * again - once) / 3
    return shares
