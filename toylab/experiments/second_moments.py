"""Experiments on second moments at the edge of a small network, beside the convex programme of their rest."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

import toylab
from toylab.curvature import dense_hessian
from toylab.experiments.network_plateaus import FRESH
from toylab.filters import held_filter
from toylab.models.look import reciprocal
from toylab.models.mean_step import MeanStep
from toylab.optimizers import NAMED
from toylab.rules.edge import edge_data

BEFORE, STRETCH = 2000, 400
"""Steps until the plateau, and of means."""


class Case(NamedTuple):
    """A rule with its hyperparameters, on a regression from a seed."""

    rule: str
    hyper: tuple[tuple[str, float], ...]
    seed: int = FRESH

    @property
    def label(self) -> str:
        """Rule, momentum and seed."""
        momentum = f" beta1 {dict(self.hyper)['b1']:g}" if "b1" in dict(self.hyper) else ""
        return f"{self.rule}{momentum}, seed {self.seed}"

    @property
    def rate(self) -> float:
        """The learning rate."""
        return dict(self.hyper)["learning_rate"]

    @property
    def edge(self) -> float:
        """k in H <= k P/eta, from the rule's numerical filter: the experiment knows no theorem."""
        return self.rate * float(held_filter(NAMED[self.rule](**dict(self.hyper))).threshold)


RMSPROP = Case("rmsprop", (("learning_rate", 2e-3), ("decay", 0.99)))
CALM = Case("adam", (("learning_rate", 2e-3), ("b1", 0.1), ("b2", 0.99)))
ADAM = Case("adam", (("learning_rate", 5e-3), ("b1", 0.9), ("b2", 0.99)))
"""Adam on either side of beta1 = .17, up to which its 2-cycle attracts (flows/comes_to_rest)."""


class Run(NamedTuple):
    """A rule before each step (T, p): weights, gradient, and the preconditioner P that the step uses."""

    weights: Any
    gradients: Any
    preconditioners: Any


class Rest(NamedTuple):
    """Of one stretch of a run: means of P and of the gradient (p,), and the Hessian (p, p) at the mean weights."""

    preconditioner: Any
    gradient: Any
    hessian: Any


def _regression(seed: Any) -> toylab.Problem:
    return toylab.problems.chebyshev_mlp(degree=3, hidden=(8,), seed=seed)


@cache
def regression_run(case: Case, steps: int = BEFORE + STRETCH) -> Run:
    """The rule on a small regression, `steps` steps from its start; arrays as in `Run`."""
    problem, transform = _regression(case.seed), NAMED[case.rule](**dict(case.hyper))
    mean = MeanStep(transform, *edge_data(transform, problem.params), problem.params)

    def step(carry: Any, _: None) -> tuple[Any, Run]:
        weights, state = carry
        gradient = mean.flat(problem.gradient(mean.tree(weights)))
        updated = mean.updated(gradient, state, weights)
        inverse = mean.inverse(gradient, state, weights, updated)
        updates, after = transform.update(mean.tree(gradient), state, mean.tree(weights))
        return (weights + mean.flat(updates), after), Run(weights, gradient, reciprocal(inverse))

    start = mean.flat(problem.params), transform.init(problem.params)
    return Run(*map(np.asarray, jax.jit(lambda start: lax.scan(step, start, length=steps)[1])(start)))


def rest(case: Case, run: Run, window: slice) -> Rest:
    """Means over a window of a run, and the Hessian there."""
    problem = _regression(case.seed)
    weights, gradient, preconditioner = (x[window].mean(axis=0) for x in run)
    _, unravel = ravel_pytree(problem.params)
    return Rest(preconditioner, gradient, np.asarray(dense_hessian(problem, unravel(jnp.asarray(weights)))))


def stationary(found: Rest, rate: float, edge: float) -> np.ndarray:
    """M = diag (p,) with the least tr M + |g|^2_(M^-1)/rate^2 subject to H <= edge M, by a barrier: Newton's method on
    the objective minus mu log det(edge M - H), mu to zero."""
    if not (np.isfinite(found.gradient).all() and np.isfinite(found.hessian).all()):
        raise ArithmeticError("the run has diverged: its gradient or Hessian is not finite")
    size = found.gradient.size
    squares = (found.gradient / rate) ** 2
    diagonal = np.full(size, 2 * np.linalg.norm(found.hessian, 2) / edge)
    mu = 1.0
    while mu * size > 1e-9 * diagonal.sum():
        for _ in range(50):
            inverse = np.linalg.inv(edge * np.diag(diagonal) - found.hessian)
            slope = 1 - squares / diagonal**2 - edge * mu * np.diag(inverse)
            bend = np.diag(2 * squares / diagonal**3) + edge**2 * mu * inverse**2
            move = np.linalg.solve(bend, -slope)
            share = 1.0
            while not _inside(diagonal + share * move, found.hessian, edge):
                share /= 2
            diagonal = diagonal + share * move
            if -slope @ move < 1e-12 * diagonal.sum():
                break
        else:
            raise ArithmeticError("Newton's method does not reach the centre of the barrier")
        mu /= 4
    return diagonal


def _inside(diagonal: np.ndarray, hessian: np.ndarray, edge: float) -> bool:
    return bool(np.all(diagonal > 0) and np.linalg.eigvalsh(edge * np.diag(diagonal) - hessian)[0] > 0)


def distances_from_rest(sample: Iterable[Case]) -> dict[str, float]:
    """|P/eta - M|/|M|, M the solution of the programme at the mean weights and the mean gradient."""
    gaps = {}
    for case in sample:
        late = rest(case, regression_run(case), slice(BEFORE, None))
        solution = stationary(late, case.rate, case.edge)
        gaps[case.label] = float(np.linalg.norm(late.preconditioner / case.rate - solution) / np.linalg.norm(solution))
    return gaps
