"""Every model of training as one kernel, `init(...) -> state` and `step(state) -> (state, info)`.

The state is all that the next step needs, the info all that only a plot needs.  One module a model: a module that
declares `MODEL`, see `toylab.models.model`, takes part in every comparison, and a new one is one new file.
"""

from toylab.models.amplitude import amplitude_dynamics
from toylab.models.central_flow import central_flow_steps
from toylab.models.central_map import central_map_steps
from toylab.models.constrained import Validity, constrained_trajectory
from toylab.models.edge_flow import edge_flow_steps
from toylab.models.gradient_flow import gradient_flow_steps
from toylab.models.kernel import Kernel, rollout
from toylab.models.optimizer import discrete_steps
from toylab.models.predicted import predicted_dynamics
from toylab.models.predictions import Predictions
from toylab.models.rod_flow import rod_flow_steps
from toylab.models.stable_flow import stable_flow_steps

PARTS = (
    "amplitude",
    "constrained",
    "gradient_flow",
    "kernel",
    "look",
    "mean_step",
    "model",
    "named",
    "optimizer",
    "oscillation",
    "perturbed_copies",
    "predicted",
    "predictions",
    "projected",
    "rod_equations",
)
"""Modules that declare no MODEL: machinery, the optimizer itself, and dynamics that predict no average of weights."""

__all__ = [
    "Kernel",
    "Predictions",
    "Validity",
    "amplitude_dynamics",
    "central_flow_steps",
    "central_map_steps",
    "constrained_trajectory",
    "discrete_steps",
    "edge_flow_steps",
    "gradient_flow_steps",
    "predicted_dynamics",
    "rod_flow_steps",
    "rollout",
    "stable_flow_steps",
]
