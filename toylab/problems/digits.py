"""Small networks on 8 x 8 handwritten digits: real data that trains to the edge in seconds."""

from collections.abc import Sequence

from jax import Array

from toylab.problems.datasets.digits import CLASSES, PIXELS, SIDE, handwritten_digits
from toylab.problems.networks.convolutional import cnn
from toylab.problems.networks.perceptrons import mlp
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem


def digits_mlp(
    hidden: Sequence[int] = (32, 32),
    loss: str = "mse",
    examples: int = 500,
    seed: int | Array = 0,
    activation: str = "tanh",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """A network 64-hidden-10, linear at its output, on the first `examples` of the 1797 digits.

    Input: pixels / 16, minus each pixel's mean over the examples used; the `test_examples` that follow them, minus the
    same means, are not trained on. `loss`, a mean over the examples: "mse" is half the squared distance of the ten
    outputs to the one-hot target (summed over outputs), "cross_entropy" the softmax cross-entropy in nats.
    Start: weights normal with mean 0 and the variance of `scaling` ("lecun" 1/fan_in, "xavier", "mup"), biases 0,
    drawn from `seed` (an int, or a JAX random key, which may be traced), in float32 whatever the precision, so that
    both precisions start at the same point. `activation`: a name in `networks.ACTIVATIONS`. `chunk`: examples looked
    at together, None: all. `params` is a tuple of (weight (fan_in, fan_out), bias (fan_out,)) pairs; `data` is (inputs
    (n, 64), targets (n, 10)), `test` alike or None.

    Raises ValueError for an unknown name, a width below one, or more examples than there are.
    """
    widths = (PIXELS, *(int(width) for width in hidden), CLASSES)
    return learning_problem(
        "digits_mlp",
        lambda: handwritten_digits(examples, test_examples).flattened(),
        lambda: mlp(widths, activation, scaling),
        loss,
        seed,
        chunk,
    )


def digits_cnn(
    examples: int = 200,
    loss: str = "mse",
    seed: int | Array = 0,
    channels: Sequence[int] = (32, 32),
    activation: str = "tanh",
    pooling: str = "average",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """Two 3 x 3 convolutions of 32 channels, each with activation and 2 x 2 pooling, and a linear read-out, on digits.

    The network is `networks.cnn`; 10,858 weights by default. Data, losses, start, `seed`, `test_examples` and `chunk`
    as in `digits_mlp`, the inputs being images (n, 8, 8, 1). `params` is a tuple of (kernel (3, 3, in, out),
    bias (out,)) pairs, then (weight (128, 10), bias (10,)).

    Raises ValueError for an unknown name, more than three layers of channels, or more examples than there are.
    """
    depths = tuple(int(depth) for depth in channels)
    return learning_problem(
        "digits_cnn",
        lambda: handwritten_digits(examples, test_examples),
        lambda: cnn((SIDE, SIDE, 1), CLASSES, depths, activation, pooling, scaling),
        loss,
        seed,
        chunk,
    )


PROBLEMS = {"digits_mlp": digits_mlp, "digits_cnn": digits_cnn}
