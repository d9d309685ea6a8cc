"""Regression on a Chebyshev polynomial: the smallest network that trains at the edge."""

from collections.abc import Sequence

from jax import Array

from toylab.problems.datasets.synthetic import chebyshev_points
from toylab.problems.networks.perceptrons import mlp
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem

FIRST_GAIN = 1.9


def chebyshev_mlp(
    degree: int = 5,
    points: int = 20,
    hidden: Sequence[int] = (100,),
    seed: int | Array = 0,
    activation: str = "tanh",
    chunk: int | None = None,
) -> Problem:
    """A network 1-hidden-1 on `points` evenly spaced inputs of [-1, 1], labelled T_degree(x) = cos(degree arccos x).

    The setting of Cohen et al. 2021 (arXiv:2103.00065, chebyshev-5-20 and its like): tanh units, no bias at the output,
    the loss the mean over the points of half the squared error. Start: Xavier normal weights, variance
    2/(fan_in + fan_out), times 1.9^2 in the first layer and 1 in the others; biases 0; from `seed` (an int or a JAX
    random key, which may be traced) in float32 whatever the precision. Inputs and labels are used as they are.
    `params` is a tuple of (weight, bias) pairs, the last layer (weight,); `data` is (inputs (points, 1), labels
    (points, 1)).

    Raises ValueError for a degree below 0, fewer than two points, a width below one or an unknown activation.
    """
    widths = (1, *(int(width) for width in hidden), 1)
    gains = (FIRST_GAIN, *(1.0,) * (len(widths) - 2))
    return learning_problem(
        "chebyshev_mlp",
        lambda: chebyshev_points(degree, points),
        lambda: mlp(widths, activation, "xavier", gains, output_bias=False),
        seed=seed,
        chunk=chunk,
    )


PROBLEMS = {"chebyshev_mlp": chebyshev_mlp}
