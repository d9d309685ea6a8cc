"""Linear algebra in the precision of its numbers, on machines that multiply float32 matrices with fewer digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def fully_precise(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with every matrix product that it traces computed to the last digit of its dtype.

    GPUs multiply float32 matrices with 11 bits unless asked for more, which training tolerates and an orthonormal basis
    or an interior point method does not.  What an optimizer does is left as the user has it, and so is a product with
    the Hessian that was traced before: measured on an H100, such a product is off by 5e-4 of itself, the edge ratio of
    a run by 5e-6.  Float64, and CPUs, are not concerned.
    """

    @wraps(function)
    def precise(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise
