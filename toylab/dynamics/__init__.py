"""What moves: every model of training as one kernel, `init(...) -> state` and `step(state) -> (state, info)`.

What the next step needs is state, what only a plot needs is info.  One module a model; a new one is one new file.
"""

from toylab.dynamics.averaged import averaged_dynamics
from toylab.dynamics.base import Kernel, rollout
from toylab.dynamics.constrained import Validity, constrained_trajectory
from toylab.dynamics.discrete import discrete_steps
from toylab.dynamics.gradient_flow import gradient_flow_steps
from toylab.dynamics.predicted import predicted_dynamics

__all__ = [
    "Kernel",
    "Validity",
    "averaged_dynamics",
    "constrained_trajectory",
    "discrete_steps",
    "gradient_flow_steps",
    "predicted_dynamics",
    "rollout",
]
