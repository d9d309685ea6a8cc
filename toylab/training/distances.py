"""How far two runs are from each other."""

import numpy as np

from toylab.training.records import Trajectory


def distance(one: Trajectory, other: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """The steps that both runs observed, (T,), and the Euclidean distance of their weights there, (T,).

    From the sketches that `observers(position=k)` recorded: exact if the problem has at most k weights, else an
    estimate with a relative standard deviation of at most sqrt(1/(2k)) (see `toylab.observing.motion.sketch`).

    Raises ValueError if a run has no positions, if their sizes differ, or if no step is common.

    Example:
        >>> import optax
        >>> import toylab
        >>> problem = toylab.problems.quadratic([1.0])
        >>> one, other = (
        ...     toylab.train(problem, optax.sgd(rate), 3, toylab.observers(position=10)) for rate in (0.5, 1.0)
        ... )
        >>> steps, apart = toylab.distance(one, other)
        >>> steps.tolist(), apart.tolist()
        ([0, 1, 2], [0.0, 0.5, 0.25])
    """
    if any("position" not in run.records for run in (one, other)):
        raise ValueError("distance needs the weights of both runs: record them with observe=observers(position=500)")
    places = [run.records["position"] for run in (one, other)]
    if places[0].shape[1:] != places[1].shape[1:]:
        raise ValueError(f"distance: got positions of shapes {places[0].shape[1:]} and {places[1].shape[1:]}")
    steps, here, there = np.intersect1d(one.steps, other.steps, return_indices=True)
    if not steps.size:
        raise ValueError("distance: the two runs observed no common step")
    return steps, np.linalg.norm(places[0][here] - places[1][there], axis=-1)
