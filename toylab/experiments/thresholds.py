"""Experiments on thresholds: where runs of the held step start to grow, how fast, and at what angle they oscillate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toylab.experiments import held_runs as lab
from toylab.filters import analyse, limit_state, state_space
from toylab.optimizers import NAMED


@dataclass(frozen=True)
class Drawn:
    """Inputs of one rule: hyperparameters (members,), held slow leaves (members, ...), Hessians (members, d, d)."""

    hyperparameters: dict[str, np.ndarray]
    slow: list[np.ndarray]
    hessian: np.ndarray

    def member(self, i: int) -> dict[str, float]:
        """Hyperparameters of member ``i``."""
        return {name: float(values[i]) for name, values in self.hyperparameters.items()}


Sample = dict[str, Drawn]


def critical_scales(sample: Sample) -> dict[str, np.ndarray]:
    """Scales (members,) of the Hessians at which the held step starts to grow."""
    return {r: lab.critical_scale(r, d.hyperparameters, d.slow, d.hessian) for r, d in sample.items()}


def _in_single_precision(sample: Sample) -> dict[str, np.ndarray]:
    with jax.enable_x64(False):
        return {
            r: lab.critical_scale(
                r,
                {n: v.astype(np.float32) for n, v in d.hyperparameters.items()},
                [leaf.astype(np.float32) for leaf in d.slow],
                d.hessian.astype(np.float32),
            )
            for r, d in sample.items()
        }


def critical_scales_in_single_precision(sample: Sample) -> dict[str, np.ndarray]:
    """Critical scales of runs in float32, as intervals of no width."""
    return {rule: np.stack([c, c], axis=-1) for rule, c in _in_single_precision(sample).items()}


def naive_brackets(sample: Sample) -> dict[str, np.ndarray]:
    """Scales (members, 2) between which plain runs of 8,192 steps start to diverge."""
    return {r: lab.naive_bracket(r, d.hyperparameters, d.slow, d.hessian, 8_192, 0.005) for r, d in sample.items()}


def growth_rates(sample: Sample) -> dict[str, np.ndarray]:
    """Lyapunov exponents (members,) of the held step."""
    return {r: lab.exponents(r, d.hyperparameters, d.slow, d.hessian[:, None])[:, 0] for r, d in sample.items()}


def cosines_at_own_edge(sample: Sample) -> dict[str, np.ndarray]:
    """Oscillation at the edge that the experiment finds for itself."""
    out = {}
    for rule, d in sample.items():
        edge = lab.critical_scale(rule, d.hyperparameters, d.slow, d.hessian)
        out[rule] = lab.cosine_of_oscillation(rule, d.hyperparameters, d.slow, edge[:, None, None] * d.hessian)
    return out


def filter_numbers(sample: dict[str, list[dict[str, float]]]) -> dict[str, np.ndarray]:
    """k* and Q(-1) (members, 2) at learning rate 1, read off the built transform by differentiation."""
    out = {}
    for rule, points in sample.items():
        factory, weight = NAMED[rule], jnp.zeros(())
        parts = lab.roles_of(rule)

        @jax.jit
        def space(point: dict[str, float], factory: Any = factory, parts: Any = parts, weight: Any = weight) -> Any:
            transform = factory(**point)
            return state_space(transform, parts, limit_state(transform, weight, parts))

        analyses = [(analyse(space(point)), point["learning_rate"]) for point in points]
        out[rule] = np.array([[f.threshold * eta, f.gain_nyquist / eta] for f, eta in analyses])
    return out
