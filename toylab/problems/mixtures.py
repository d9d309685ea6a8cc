"""Classes that are Gaussian clouds in the shape of CIFAR images: a large problem without a download."""

from collections.abc import Sequence
from math import prod

from jax import Array

from toylab.problems.datasets.cifar import CLASSES, SHAPE
from toylab.problems.datasets.synthetic import gaussian_mixture
from toylab.problems.networks.perceptrons import mlp
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem


def gaussian_mixture_mlp(
    hidden: Sequence[int] = (300,),
    loss: str = "mse",
    examples: int = 5000,
    seed: int | Array = 0,
    signal: float = 0.01,
    activation: str = "tanh",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """A network 3072-hidden-10, 924,910 weights by default, on ten Gaussian classes in the shape 32 x 32 x 3.

    x = sqrt(signal) m_c + sqrt(1 - signal) z with class means m_c and noise z of independent N(0, 1) entries, so every
    entry has mean 0 and variance 1 and two classes are sqrt(6144 signal/(1 - signal)) standard deviations of the noise
    apart, 7.9 by default; as many examples of each class. Drawn from a fixed seed of its own and used as drawn.
    `loss`, start, `seed`, `activation`, `scaling` and `chunk` as in `digits_mlp`. `test_examples` more are not trained
    on. `params` is a tuple of (weight, bias) pairs; `data` is (inputs (n, 3072), one-hot targets (n, 10)): 61 MB for
    5,000 examples in float32.

    Raises ValueError for sizes below one, a signal outside 0 to 1 or unknown names.
    """
    widths = (prod(SHAPE), *(int(width) for width in hidden), CLASSES)
    return learning_problem(
        "gaussian_mixture_mlp",
        lambda: gaussian_mixture((prod(SHAPE),), CLASSES, signal, examples, test_examples),
        lambda: mlp(widths, activation, scaling),
        loss,
        seed,
        chunk,
    )


PROBLEMS = {"gaussian_mixture_mlp": gaussian_mixture_mlp}
