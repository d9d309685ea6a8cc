"""What is asked of a run, and at which of its steps something is recorded."""

from typing import NamedTuple

import numpy as np

from toylab.problems.problem import Problem


class RunOptions(NamedTuple):
    """What is asked of a run beside problem and rule: the arguments of `train` that have these names."""

    steps: int
    every: int = 1
    chunk: int = 256
    diverge_above: float = float("inf")
    batch_size: int | None = None
    batch_seed: int = 0


class ObservationPlan(NamedTuple):
    """When to observe: the first `pair` of every `stride` steps; at most `blocks` strides make a chunk. `batch`: of how
    many examples a step's gradient is the mean, None for all. Static under jit."""

    stride: int
    pair: int
    blocks: int
    batch: int | None = None

    def observed(self, steps: int) -> np.ndarray:
        """The numbers of all observed iterates of a run of `steps` steps, ascending."""
        candidates = np.arange(0, steps, self.stride)[:, None] + np.arange(self.pair)[None]
        return candidates[candidates < steps]


def observation_plan(problem: Problem, options: RunOptions) -> ObservationPlan:
    """Consecutive pairs (t, t + 1) every `every` steps; every step if `every` is 1 or 2. Raises ValueError
    below 1, for a batch larger than the data."""
    steps, every, chunk, batch_size = options.steps, options.every, options.chunk, options.batch_size
    for name, number in (("steps", steps), ("every", every), ("chunk", chunk), ("batch_size", batch_size)):
        if number is not None and (number != int(number) or number < 1):
            raise ValueError(f"got {name}={number}, needs a whole number of at least 1: try {name}=100")
    if batch_size is not None and batch_size > problem.examples:
        raise ValueError(f"got batch_size={batch_size}, needs at most the {problem.examples} examples of the problem")
    stride, pair = (1, 1) if every <= 2 else (int(every), 2)
    return ObservationPlan(stride, pair, max(1, min(int(chunk), int(steps)) // stride), batch_size)
