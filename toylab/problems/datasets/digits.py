"""The 8 x 8 handwritten digits that come with the package. Origin and licence: data/DIGITS.md."""

import importlib.resources
from functools import lru_cache

import numpy as np

from toylab.problems.datasets.dataset import Dataset, one_hot, wanted

CLASSES = 10
PIXELS = 64
SIDE = 8


def handwritten_digits(examples: int = 500, test_examples: int = 0) -> Dataset:
    """The first `examples` of the 1797 digits to train on, the `test_examples` after them to test with.

    Inputs (n, 8, 8, 1): pixels / 16, minus each pixel's mean over the training examples. Targets (n, 10): one-hot.
    Raises ValueError for more examples than there are.
    """
    images, labels = images_and_labels()
    examples = wanted(examples, len(labels), "examples")
    held_out = wanted(test_examples, len(labels) - examples, "test_examples", least=0)
    pixels = images[: examples + held_out, :, :, None] / 16.0
    inputs = pixels - pixels[:examples].mean(axis=0, keepdims=True)
    targets = one_hot(labels[: examples + held_out], CLASSES)
    test = (inputs[examples:], targets[examples:]) if held_out else None
    return Dataset((inputs[:examples], targets[:examples]), test)


@lru_cache(maxsize=1)
def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The stored digits: images (1797, 8, 8) with values 0..16, labels (1797,)."""
    file = importlib.resources.files("toylab.problems") / "data" / "digits.npz"
    with file.open("rb") as stream, np.load(stream) as stored:
        return stored["images"], stored["labels"]
