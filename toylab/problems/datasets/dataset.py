"""What a data set is: examples to train on and examples to test with."""

from typing import NamedTuple

import numpy as np

from toylab.problems.problem import is_whole

Examples = tuple[np.ndarray, np.ndarray]


class Dataset(NamedTuple):
    """`train` and `test`: (inputs (n, ...), targets (n, ...)), one row an example; `test` None where there is none."""

    train: Examples
    test: Examples | None = None

    def flattened(self) -> "Dataset":
        """The same with inputs (n, d), for networks that know no images."""
        return Dataset(_flat(self.train), None if self.test is None else _flat(self.test))


def _flat(examples: Examples) -> Examples:
    inputs, targets = examples
    return inputs.reshape(len(inputs), -1), targets


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """1 at the label and 0 elsewhere along a new last axis of length `classes`."""
    return np.eye(classes)[labels]


def wanted(got: int, available: int, what: str, least: int = 1) -> int:
    """`got` if it is a whole number from `least` to `available`; else a ValueError that says so."""
    if not is_whole(got) or not least <= got <= available:
        raise ValueError(f"got {what}={got!r}, needs {least} to {available}")
    return int(got)
