"""Sorting short sequences with one block of attention."""

from jax import Array

from toylab.problems.datasets.synthetic import sorting_sequences
from toylab.problems.networks.attentive import attention
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem


def sorting_attention(
    length: int = 8,
    symbols: int = 4,
    examples: int = 250,
    loss: str = "cross_entropy",
    seed: int | Array = 0,
    width: int = 32,
    hidden: int = 64,
    activation: str = "gelu",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """One-block attention on random sequences of numbers 0 .. symbols - 1; position i is to name the i-th smallest.

    A task after Karpathy's minGPT demonstration (2020), on which Cohen, Damian et al. (arXiv:2410.24206) train sequence
    models; here all positions are seen and all answers given at once. `loss`, a mean over examples *and positions*:
    "cross_entropy" -log of the softmax probability of the right number, in nats; "mse" half the squared distance of the
    outputs at a position to the one-hot number. Ties in the sequence make no ties in the target. The sequences come
    from a fixed seed of their own; `test_examples` more, independent ones, are not trained on. The network is
    `networks.attention` with positions. Start, `seed` and `chunk` as in `digits_mlp`. `params` is a dict of
    tuples; `data` is (sequences, sorted sequences), both one-hot (n, length, symbols).

    Raises ValueError for sizes below one, fewer than two symbols or unknown names.
    """
    return learning_problem(
        "sorting_attention",
        lambda: sorting_sequences(length, symbols, examples, test_examples),
        lambda: attention(length, symbols, symbols, width, hidden, True, activation, scaling),
        loss,
        seed,
        chunk,
    )


PROBLEMS = {"sorting_attention": sorting_attention}
