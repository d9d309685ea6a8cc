"""Data sets that are made up: polynomials, teachers, mixtures, sequences.

Random ones are drawn by NumPy from a seed of their own, so that they are the same for every start and precision.
"""

import jax
import numpy as np

from toylab.problems.datasets.dataset import Dataset, Examples, one_hot, wanted
from toylab.problems.networks.network import Network

SEED = 0
MOST = 10**9


def chebyshev_points(degree: int, points: int) -> Dataset:
    """`points` evenly spaced inputs (points, 1) on [-1, 1], ends included, with targets cos(degree arccos x)."""
    inputs = np.linspace(-1, 1, wanted(points, MOST, "points", least=2))[:, None]
    return Dataset((inputs, np.cos(wanted(degree, MOST, "degree", least=0) * np.arccos(inputs))))


def teacher_labels(teacher: Network, inputs: int, examples: int, test_examples: int = 0) -> Dataset:
    """N(0, 1) inputs (n, inputs) with what a `teacher` answers to them as targets, without noise.

    The teacher's weights are its own start from the key 0 of JAX, so a student of the same architecture and seed 0
    begins at the solution.
    """
    train, test = _sizes(examples, test_examples)
    drawn = np.random.default_rng(SEED).standard_normal((train + test, wanted(inputs, MOST, "inputs")))
    with jax.ensure_compile_time_eval():  # numbers, also while a problem is made under jit
        targets = np.asarray(teacher.apply(teacher.init(jax.random.key(SEED)), jax.numpy.asarray(drawn, dtype=float)))
    return _split((drawn, targets), train)


def gaussian_mixture(
    shape: tuple[int, ...], classes: int, signal: float, examples: int, test_examples: int = 0
) -> Dataset:
    """x = sqrt(signal) m_c + sqrt(1 - signal) z: class means m_c and noise z with independent N(0, 1) entries.

    `shape`: of one input; every entry has mean 0 and variance 1, of which the share `signal` in [0, 1] tells the class:
    two classes are sqrt(2 d signal/(1 - signal)) standard deviations of the noise apart, d the number of entries.
    Example i is of class i modulo `classes`; targets one-hot (n, classes). Inputs are used as drawn, in float32.
    """
    train, test = _sizes(examples, test_examples)
    if not 0 <= signal <= 1:
        raise ValueError(f"got signal={signal}, needs the share of the variance between classes, 0 to 1")
    random = np.random.default_rng(SEED)
    labels = np.arange(train + test) % wanted(classes, MOST, "classes", least=2)
    means = random.standard_normal((classes, *shape), dtype=np.float32)
    inputs = random.standard_normal((train + test, *shape), dtype=np.float32)
    inputs *= np.float32((1 - signal) ** 0.5)
    for label, mean in enumerate(means):
        inputs[label::classes] += np.float32(signal**0.5) * mean
    return _split((inputs, one_hot(labels, classes)), train)


def sorting_sequences(length: int, symbols: int, examples: int, test_examples: int = 0) -> Dataset:
    """Sequences of independent uniform numbers 0 .. symbols - 1 and the same sequences in ascending order.

    Both one-hot, (n, length, symbols). A short test sequence may also be among those that are trained on.
    """
    train, test = _sizes(examples, test_examples)
    size = (train + test, wanted(length, MOST, "length"))
    numbers = np.random.default_rng(SEED).integers(wanted(symbols, MOST, "symbols", least=2), size=size)
    return _split((one_hot(numbers, symbols), one_hot(np.sort(numbers, axis=1), symbols)), train)


def _sizes(examples: int, test_examples: int) -> tuple[int, int]:
    return wanted(examples, MOST, "examples"), wanted(test_examples, MOST, "test_examples", least=0)


def _split(drawn: Examples, train: int) -> Dataset:
    """The first `train` examples, and the others as the test where there are any."""
    inputs, targets = drawn
    test = (inputs[train:], targets[train:]) if len(inputs) > train else None
    return Dataset((inputs[:train], targets[:train]), test)
