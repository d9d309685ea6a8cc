"""Quartics drawn for the claims, and what normal form and harmonic balance predict for them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from theory.two_cycles import bifurcation as law
from theory.two_cycles import harmonic_balance
from toylab.experiments import two_cycles as lab
from toylab.experiments.flips import RULES, Drawn, Sample
from toylab.experiments.two_cycles import quartic_loss
from toylab.optimizers import NAMED

SOURCE = (
    "derived by theory.two_cycles.bifurcation from each rule's own code; gradient descent: Chen & Bruna 2022, "
    "Ma et al. 2022"
)


def hyperparameters(random: np.random.Generator, rule: str, count: int) -> dict[str, np.ndarray]:
    """Hyperparameters (count,) of a rule, drawn where it flips."""
    drawn = {"learning_rate": random.uniform(0.05, 0.5, count)}
    ranges = {"momentum": (0.0, 0.7), "b1": (0.01, 0.7), "mix": (0.3, 0.9), "weight_decay": (0.2, 1.0)}
    ranges |= {"alpha": (0.8, 1.2), "beta": (0.2, 1.0)}
    drawn |= {name: random.uniform(*ranges[name], count) for name in RULES[rule]}
    if rule in ("adam", "nadam", "adamw"):
        drawn["eps"] = np.zeros(count)  # slow leaves are held at 1: then P = 1
    return drawn


def quartics(random: np.random.Generator, rules: Any, count: int, margin: tuple[float, float]) -> Sample:
    """Quartics in units of their own width: 3 c3^2 + |c4| = 1 (f'' = 1), 3 c3^2 - c4 in ± ``margin``."""
    sample = {}
    for rule in rules:
        hyper = hyperparameters(random, rule, count)
        wanted = random.uniform(*margin, count)
        c3_sq = np.where(wanted > 0, random.uniform(np.abs(wanted) * 0.05, 1, count), (1 + wanted) / 2) / 3
        c3_sq = np.minimum(c3_sq, (1 + wanted) / 6 + 0.5 * np.maximum(wanted, 0) / 3)
        ratios = np.stack([np.sqrt(c3_sq) * random.choice([-1.0, 1.0], count), 3 * c3_sq - wanted], axis=1)
        sample[rule] = Drawn(hyper, lab.edges(rule, hyper), ratios, random.uniform(0.005, 0.02, count))
    return sample


@lru_cache(maxsize=64)
def derived(rule: str) -> law.PeriodTwo:
    """The theorem of a built-in rule on a loss with a symbolic jet."""
    return law.period_two(NAMED[rule])


@lru_cache(maxsize=256)
def formula(rule: str, name: str) -> Any:
    """A formula of the theorem of a built-in rule as a function of numbers."""
    return derived(rule).numeric(name)


@lru_cache(maxsize=1)
def balance() -> Any:
    """Harmonic balance on the quartic."""
    return harmonic_balance.balance(quartic_loss)


def number(rule: str, name: str, drawn: Drawn, **more: Any) -> np.ndarray:
    """A formula of the rule's theorem for every member, on its quartic in units f'' = 1."""
    jet = {"a": 1.0, "c3": drawn.ratios[:, 0], "c4": drawn.ratios[:, 1], "c5": 0.0, "c6": 0.0}
    value = formula(rule, name)(**{**drawn.hyper, **jet, **more})
    return np.broadcast_to(np.asarray(value, float), drawn.edge.shape)


@lru_cache(maxsize=1)
def _solver() -> Any:
    """Newton's method on the exact balance, compiled once: (A, B) (members, 2), unit jets, d, drag -> (A, B)."""
    odd, even = (balance().numeric(name) for name in ("odd", "even"))

    def residual(point: Any, jet: Any, excess: Any, drag: Any) -> Any:
        given = {"A": point[0], "B": point[1], "a": jet[0], "c3": jet[1], "c4": jet[2]}
        return jnp.stack([(1 + excess) * odd(**given) - 1, (1 + excess) * even(**given) - drag * point[1]])

    def solve(point: Any, *given: Any) -> Any:
        def improve(_: int, point: Any) -> Any:
            return point - jnp.linalg.solve(jax.jacfwd(residual)(point, *given), residual(point, *given))

        return jax.lax.fori_loop(0, 30, improve, point)

    return jax.jit(jax.vmap(solve))


def predicted_orbit(rule: str, drawn: Drawn, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and B (members,) from the exact balance, by Newton's method from the expansion in d."""
    start = np.stack([np.sqrt(number(rule, "amplitude_sq", drawn, d=d)), number(rule, "centre", drawn, d=d)], axis=1)
    unit = drawn.quartics(np.zeros_like(d)) / drawn.edge[:, None]
    orbit = np.asarray(_solver()(start, unit, d, number(rule, "drag", drawn)))
    return np.abs(orbit[:, 0]), orbit[:, 1]
