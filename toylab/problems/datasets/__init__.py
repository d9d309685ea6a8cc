"""Data sets as arrays, standardised as each docstring says. Their random parts come from a fixed seed of their own."""

from toylab.problems.datasets.cifar import cifar10
from toylab.problems.datasets.dataset import Dataset
from toylab.problems.datasets.digits import handwritten_digits
from toylab.problems.datasets.synthetic import chebyshev_points, gaussian_mixture, sorting_sequences, teacher_labels

__all__ = [
    "Dataset",
    "chebyshev_points",
    "cifar10",
    "gaussian_mixture",
    "handwritten_digits",
    "sorting_sequences",
    "teacher_labels",
]
