"""The predicted dynamics of gradient descent as a model among others: it predicts iterates, not their average."""

from typing import Any

import optax
from jax import Array

from toylab.models.kernel import Kernel
from toylab.models.mean_step import plain_learning_rate
from toylab.models.model import Appearance, Coverage, Model
from toylab.models.predicted import Predicted, Prediction, predicted_dynamics
from toylab.models.predictions import Cost, Predictions
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure

PyTree = Any


def predicted_steps(
    problem: Problem,
    transform: optax.GradientTransformation,
    known: tuple[RuleStructure, EdgeData] | None = None,
    *,
    count: int = 1,
) -> Kernel:
    """Kernel of `toylab.models.predicted.predicted_dynamics` with `Predictions` as info; one step is one step of
    gradient descent.

    `loss` is that of the constrained trajectory and `mean_loss` that of the predicted iterate; `variances` (1,) are
    its x^2.  Where a second eigenvalue comes to the edge the state freezes, and is then no longer `converged`.
    `init(params, state=None)`; `known` as `central_map_steps`; `count` is not used: one direction oscillates.
    Cost: that of the constrained trajectory, an eigenpair solve and a third derivative in each of its iterations.
    Raises ValueError for anything but gradient descent without memory and weight decay.
    """
    del count
    rate = plain_learning_rate(transform, problem.params, known, "predicted dynamics")
    kernel = predicted_dynamics(problem, rate)

    def init(params: PyTree, state: PyTree = None) -> Predicted:
        del state  # gradient descent has none
        return kernel.init(params)

    def step(state: Predicted) -> tuple[Predicted, Predictions]:
        after, prediction = kernel.step(state)
        return after, _predictions(prediction, rate, state.centre.status == 0)

    return Kernel(init, step)


def _predictions(prediction: Prediction, rate: Any, running: Array) -> Predictions:
    centre = prediction.centre
    solves = centre.iterations + 1
    return Predictions.of(
        prediction.params,
        centre.loss,
        prediction.sharpness[None] * rate / 2,
        mean_loss=prediction.loss,
        critical=1,
        variances=prediction.x[None] ** 2,
        converged=running,
        cost=Cost(1, solves, centre.products + 1, solves),
    )


MODEL = Model(
    name="predicted",
    steps=predicted_steps,
    covers=Coverage.gradient_descent,
    appearance=Appearance("predicted", "#cc79a7", (0, (2.0, 1.0)), "P"),
    slow=True,
)
