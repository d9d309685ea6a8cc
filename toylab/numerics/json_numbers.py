"""Numbers that JSON has no form for, written in the two ways that the laboratory's records use.

A run's record (`train`, `sweep`, `edge`, `flows`) has null where a quantity does not exist or the run left the finite
numbers. A theorem or a claim (`derive`, `verify`) names the number, since infinity is an answer there: a threshold that
no curvature reaches.
"""

import math


def number_or_null(number: float | None) -> float | None:
    """A finite number itself, otherwise None; None stays."""
    return None if number is None or not math.isfinite(number) else float(number)


def number_or_name(number: float) -> float | str:
    """A finite number itself, otherwise `"nan"`, `"inf"` or `"-inf"`."""
    return float(number) if math.isfinite(number) else str(float(number))
