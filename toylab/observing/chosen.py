"""Choosing what a run records."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from jax import Array

from toylab.curvature import begin_track
from toylab.discovery import merged
from toylab.observing.observer import Moment, Observer
from toylab.observing.tracking import tracked

PyTree = Any


@cache
def named_observers() -> dict[str, Callable[[int], Observer]]:
    """Every observer there is: name -> (option -> Observer), looked up in this package once.

    Raises DiscoveryError (a ValueError) for a module of this package that does not declare its observers, naming it.
    """
    return merged(__name__.rpartition(".")[0], "OBSERVERS")


@dataclass(frozen=True)
class Observers:
    """A choice of observers: hashable, static under jit. `chosen` holds (name, option) pairs."""

    chosen: tuple[tuple[str, int], ...]

    @property
    def needs_edge(self) -> bool:
        """Whether the rule's threshold must be computed beforehand."""
        return any(observer.needs_edge for observer in self._built().values())

    @property
    def needs_curvature(self) -> bool:
        """Whether products with the Hessian at the iterate are needed."""
        return any(observer.needs_edge or observer.pairs for observer in self._built().values())

    @property
    def pairs(self) -> int:
        """How many top eigenpairs of the Hessian they need between them; they are computed once for all."""
        return max((observer.pairs for observer in self._built().values()), default=0)

    def init(self, params: PyTree) -> dict[str, PyTree]:
        """The memory of every chosen observer at the start of a run."""
        shared = {"pairs": begin_track(params, self.pairs)} if self.pairs else {}
        return shared | {name: observer.init(params) for name, observer in self._built().items()}

    def observe(self, memory: dict[str, PyTree], moment: Moment) -> tuple[dict[str, PyTree], dict[str, Array]]:
        """The records of one moment, and the memory for the next."""
        remembered, records = {}, {}
        if self.pairs:
            pairs, remembered["pairs"] = tracked(memory["pairs"], moment.hvp, moment.params)
            moment = moment._replace(pairs=pairs)
        for name, observer in self._built().items():
            remembered[name], record = observer.observe(memory[name], moment)
            records |= record
        return remembered, records

    def _built(self) -> dict[str, Observer]:
        return {name: named_observers()[name](option) for name, option in self.chosen}


def observers(loss: bool = True, **others: int) -> Observers:
    """Choose what a run records; everything at the iterate before its step.

    | choice | records |
    |---|---|
    | `loss` (default), `test_loss` | the same, () |
    | `accuracy`, `test_accuracy` | fraction of examples classified rightly, () |
    | `grad_norm` | Euclidean norm of the gradient, () |
    | `sharpness=k` | the k largest eigenvalues of H, (k,), descending; `sharpness_residual` (k,) |
    | `edge_ratio=k` | `edge_ratio` (), 1 at the edge; `preconditioned_sharpness` (), `edge_residual` (); `excluded` |
    | | (), coordinates without a preconditioner; for k >= 2 also `edge_ratios` (k,), `edge_residuals` (k,) |
    | `critical=k` | `critical_ratios` (k,): the edge ratios above 0.9, at most k, then NaN; only those, and |
    | | one more, cost products |
    | `midpoint_sharpness=k`, `midpoint_edge_ratio=k` | the same with H at (w_{t-1} + 2 w_t + w_{t+1})/4, their names |
    | | beginning with `midpoint_` |
    | `projections=k` | on the k top eigenvectors: `projections` of w_t - midpoint, `gradient_projections`, each (k,); |
    | | `oscillation` = \\|w_t - midpoint\\| |
    | `alignment` | cosine of -grad L and grad S; `sharpening_rate` = -grad L . grad S; `grad_sharpness_sq` |
    | `position=k` | a sketch of the weights, (k,), for distances between runs (`toylab.distance`) |
    | `batch_sharpness=B` | E[g_B^T H_B g_B/\\|g_B\\|^2] over batches of B examples, and `batch_sharpness_error` |
    | `step_size` | `step_norm` = \\|w_{t+1} - w_t\\|, `effective_step` = that over the gradient's norm |
    | `state` | `state_rms`: root mean square of each real leaf of the optimizer's state |

    Each eigenvalue comes with its exact relative residual and with `..._converged` (`edges_converged` (k,) for
    `edge_ratios`), False where the tolerance (relative 1e-3 of the value) was not met within the limit of products:
    such a value is a lower bound. `projections_converged` (k,) and `alignment_converged` () say it of the pairs that
    these use. Also False where there is no value.
    An option of False or 0 leaves the observer out. Raises ValueError for an unknown name or a negative option.

    Example:
        >>> import optax
        >>> import toylab
        >>> choice = toylab.observers(edge_ratio=True, sharpness=2)
        >>> run = toylab.train(toylab.problems.quadratic([4.0, 1.0]), optax.sgd(0.25), 3, choice)
        >>> [[round(float(value), 4) for value in row] for row in run.sharpness]
        [[4.0, 1.0], [4.0, 1.0], [4.0, 1.0]]
        >>> [round(float(ratio), 4) for ratio in run.edge_ratio]  # learning_rate sharpness/2
        [0.5, 0.5, 0.5]
    """
    wanted: dict[str, int] = {"loss": loss, **others}
    for name, option in wanted.items():
        if name != "loss" and name not in named_observers():  # the default is known without a look at all files
            near = difflib.get_close_matches(name, named_observers(), 1) or list(named_observers())
            raise ValueError(f"no observer is called {name!r}: try {', '.join(near)}")
        if int(option) < 0:
            raise ValueError(f"got {name}={option}, needs True, False or a count: try {name}=1")
    return Observers(tuple((name, int(option)) for name, option in wanted.items() if option))
