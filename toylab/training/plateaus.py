"""Where a recorded ratio settled."""

from typing import NamedTuple

import numpy as np

from toylab.rules.edge import AT_EDGE

OUTCOMES = ("settled", "never reached", "left", "diverged", "too short")
"""What can become of a run, see `Plateau`."""


class Plateau(NamedTuple):
    """Where a recorded ratio settled. `outcome`: "settled", "never reached" (the edge), "left" (began at or above the
    edge and fell below it), "diverged" or "too short".

    `mean`, `spread`: average and standard deviation over time of the pair averages in the window, NaN unless
    settled. `pairs`: how many. `reached`: the step at which the edge was reached, -1 if never, the first that was
    recorded if the ratio began there and never crossed. `window`: first and last step.
    """

    outcome: str
    mean: float
    spread: float
    pairs: int
    reached: int
    window: tuple[int, int]


def plateau(steps: np.ndarray, ratio: np.ndarray) -> Plateau:
    """The plateau of a ratio recorded at `steps` (T,), which contain consecutive pairs (t, t + 1).

    Consecutive values are averaged in disjoint pairs, so that an oscillation of period two cancels. The edge is
    reached where they first cross 0.95 from below: a fresh second moment puts an adaptive rule above the edge for its
    first steps, which is no plateau. The window is the last half of the steps from there to the end. Without a crossing
    a run that began at or above 0.95 counts from its start: it left the edge if the mean of its window is below 0.95.
    A spread over time, not over seeds: correlated pairs make it no standard error of the mean.

    Raises ValueError if the shapes differ or no two consecutive steps were recorded.

    Example:
        >>> import numpy as np
        >>> import toylab
        >>> steps = np.arange(40)
        >>> ratio = np.minimum(steps / 10, 1.0) + 0.25 * (-1.0) ** steps  # a rise, and an oscillation of period two
        >>> settled = toylab.plateau(steps, ratio)
        >>> settled.outcome, settled.mean, settled.spread, settled.reached, settled.window
        ('settled', 1.0, 0.0, 10, (24, 39))
    """
    steps, ratio = np.asarray(steps), np.asarray(ratio, dtype=float)
    if steps.shape != ratio.shape or steps.ndim != 1:
        raise ValueError(
            f"plateau: got steps {steps.shape} and ratio {ratio.shape}, needs two equal lengths: "
            "give one run of a sweep at a time"
        )
    first = _disjoint_pairs(steps)
    if not first.size:
        raise ValueError("plateau: got no two consecutive steps, needs pairs (t, t + 1): record them with toylab.train")
    averages, times = 0.5 * (ratio[first] + ratio[first + 1]), steps[first]
    below = averages < AT_EDGE
    crossings = np.flatnonzero(~below & np.maximum.accumulate(below))
    reached = int(times[crossings[0]]) if crossings.size else -1 if below[0] else int(times[0])
    if not np.isfinite(ratio).all():
        return Plateau("diverged", np.nan, np.nan, 0, reached, (-1, -1))
    if reached < 0:
        return Plateau("never reached", np.nan, np.nan, 0, reached, (-1, -1))
    inside = averages[times >= reached + (times[-1] - reached) / 2]
    window = (int(times[times >= reached + (times[-1] - reached) / 2][0]), int(times[-1]) + 1)
    if inside.size < 2:
        return Plateau("too short", np.nan, np.nan, int(inside.size), reached, window)
    if not crossings.size and below.any() and inside.mean() < AT_EDGE:  # any: a mean of 0.95s may round to less
        return Plateau("left", np.nan, np.nan, int(inside.size), reached, window)
    return Plateau("settled", float(inside.mean()), float(inside.std(ddof=1)), int(inside.size), reached, window)


def _disjoint_pairs(steps: np.ndarray) -> np.ndarray:
    """Indices i such that steps[i], steps[i] + 1 = steps[i + 1] are pairs without a common member."""
    follows = np.diff(steps) == 1
    indices = np.arange(len(follows))
    run_start = np.maximum.accumulate(np.where(np.r_[True, ~follows[:-1]], indices, 0)) if len(follows) else indices
    return np.flatnonzero(follows & ((indices - run_start) % 2 == 0))
