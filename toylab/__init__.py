"""toylab: from an optimizer's code to the experiment that could refute its theorem. The numerical laboratory.

`train` and `sweep` run any optax optimizer on a `Problem`, `observers` choose what is recorded, `plateau`
summarises it, `load` gives a saved run back. The symbolic side is the package `theory`; what joins them is
`toylab.claims`.
"""

from importlib.metadata import PackageNotFoundError, version

from toylab import curvature, filters, optimizers, problems
from toylab.observing.chosen import observers
from toylab.problems.problem import Problem
from toylab.training.distances import distance
from toylab.training.one_step import observe_step
from toylab.training.plateaus import plateau
from toylab.training.records import Status, Sweep, Trajectory, load
from toylab.training.runs import train
from toylab.training.step_limits import max_learning_rate
from toylab.training.sweeps import sweep

try:
    __version__ = version("toylab")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "Problem",
    "Status",
    "Sweep",
    "Trajectory",
    "curvature",
    "distance",
    "filters",
    "load",
    "max_learning_rate",
    "observe_step",
    "observers",
    "optimizers",
    "plateau",
    "problems",
    "sweep",
    "train",
]
