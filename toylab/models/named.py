"""Every model of training that can be laid beside an optimizer's run, by name; a new one is one more entry."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from toylab.models.central_flow import central_flow_steps
from toylab.models.central_map import central_map_steps
from toylab.models.edge_flow import edge_flow_steps
from toylab.models.kernel import Kernel
from toylab.models.mean_step import plain_learning_rate
from toylab.models.predicted import Prediction, predicted_dynamics
from toylab.models.predictions import Cost, Predictions
from toylab.models.rod_flow import rod_flow_steps
from toylab.models.stable_flow import stable_flow_steps
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any
Model = Callable[..., Kernel]


def predicted_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 1,
) -> Kernel:
    """`predicted_dynamics` as a model among others: its predictions are of iterates, not of averages.

    It freezes when a second eigenvalue comes to the edge, and is then no longer `converged`.
    Raises ValueError for anything but plain gradient descent.
    """
    del count  # one direction oscillates
    rate = plain_learning_rate(transform, problem.params, known, "predicted dynamics")
    kernel = predicted_dynamics(problem, rate)

    def init(params: PyTree, state: PyTree = None) -> Any:
        del state  # gradient descent has none
        return kernel.init(params)

    def step(now: Any) -> tuple[Any, Predictions]:
        after, said = kernel.step(now)
        assert isinstance(said, Prediction)
        solves = said.centre.iterations.astype(jnp.int32) + 1
        found = Predictions.of(
            said.params,
            said.centre.loss,
            said.sharpness[None] * rate / 2,
            mean_loss=said.loss,
            critical=1,
            variances=said.x[None] ** 2,
            converged=now.centre.status == 0,
            cost=Cost(1, solves, said.centre.products + 1, solves),
        )
        return after, found

    return Kernel(init, step)


MODELS: Mapping[str, Model] = {
    "stable_flow": stable_flow_steps,
    "central_flow": central_flow_steps,
    "central_map": central_map_steps,
    "rod_flow": rod_flow_steps,
    "edge_flow": edge_flow_steps,
    "predicted": predicted_steps,
}
"""Name -> `model(problem, transform, measured, count=...)`, a Kernel with `init(params, state)` and `Predictions` as info;
ValueError with the reason where a model does not cover the rule.
"""
