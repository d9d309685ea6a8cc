"""Networks on CIFAR-10, read from a folder that the user names."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from jax import Array

from toylab.problems.datasets.cifar import CLASSES, SHAPE
from toylab.problems.datasets.cifar import cifar10 as images_of
from toylab.problems.networks.convolutional import cnn
from toylab.problems.networks.perceptrons import mlp
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem


def cifar10_mlp(
    folder: str | Path,
    hidden: Sequence[int] = (200, 200),
    loss: str = "mse",
    examples: int = 5000,
    seed: int | Array = 0,
    activation: str = "tanh",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """A network 3072-hidden-10 on the first `examples` of CIFAR-10's 50,000 training images (fc-tanh of Cohen et al.
    2021, arXiv:2103.00065, but for the start).

    `folder`: where the python or binary batches of CIFAR-10 lie, or the folder above; nothing is downloaded. Inputs:
    pixels / 255, minus the mean of each colour and divided by its standard deviation over the examples used.
    `test_examples`: of the test batch, standardised alike, not trained on. `loss`, start, `seed`, `activation`,
    `scaling` and `chunk` as in `digits_mlp`. `params` is a tuple of (weight, bias) pairs; `data` is (inputs (n, 3072),
    targets (n, 10)). A Hessian product on all 5,000 examples at once needs 0.06 GB beside the data.

    Raises ValueError where a file is missing, truncated or wrong, for unknown names or sizes that do not fit.
    """
    widths = (prod(SHAPE), *(int(width) for width in hidden), CLASSES)
    return learning_problem(
        "cifar10_mlp",
        lambda: images_of(folder, examples, test_examples).flattened(),
        lambda: mlp(widths, activation, scaling),
        loss,
        seed,
        chunk,
    )


def cifar10_cnn(
    folder: str | Path,
    examples: int = 5000,
    loss: str = "mse",
    seed: int | Array = 0,
    channels: Sequence[int] = (32, 32),
    activation: str = "tanh",
    pooling: str = "average",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = 500,
) -> Problem:
    """The network of `digits_cnn` on the images of `cifar10_mlp`, inputs (n, 32, 32, 3); 30,634 weights by default.

    A Hessian product in float64 needs 1.3 GB with the default `chunk` of 500 examples, and as much for every further
    500 that are looked at together: 13 GB for all 5,000 (None).

    Raises ValueError as `cifar10_mlp` does, and for more than five layers of channels.
    """
    depths = tuple(int(depth) for depth in channels)
    return learning_problem(
        "cifar10_cnn",
        lambda: images_of(folder, examples, test_examples),
        lambda: cnn(SHAPE, CLASSES, depths, activation, pooling, scaling),
        loss,
        seed,
        chunk,
    )


PROBLEMS = {"cifar10_mlp": cifar10_mlp, "cifar10_cnn": cifar10_cnn}
