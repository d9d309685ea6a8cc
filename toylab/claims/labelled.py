"""Predictions and measurements as labelled arrays, so that one claim can speak of many rules and
hyperparameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toylab.numerics.json_numbers import number_or_name

Labelled = dict[str, np.ndarray]
"""Label -> float64 array. A single unlabelled value has the label `""`."""


class ClaimError(ValueError):
    """A claim that is wrongly declared or returns what cannot be compared. The message is one line."""


def as_labelled(value: Any, what: str) -> Labelled:
    """A number, an array, or a mapping label -> array, as `Labelled`.

    **Arguments:** `value` as returned by a claim's function; `what` names it in errors (`predicted`,
    `measured`).
    **Errors:** `ClaimError` for complex or non-numeric values and for no values at all.
    """
    entries = value if isinstance(value, Mapping) else {"": value}
    labelled = {str(label): _as_floats(entry, f"{what} {label}".strip()) for label, entry in entries.items()}
    if not labelled or any(array.size == 0 for array in labelled.values()):
        raise ClaimError(f"{what} holds no values: a claim about nothing is not a claim")
    return labelled


def paired(predicted: Labelled, measured: Labelled) -> tuple[Labelled, Labelled]:
    """The two with equal labels; one unlabelled prediction is taken for every label of the measurement.

    **Errors:** `ClaimError` if the labels differ.
    """
    if set(predicted) == {""} and "" not in measured:
        predicted = dict.fromkeys(measured, predicted[""])
    if set(predicted) != set(measured):
        odd = sorted(set(predicted) ^ set(measured))
        raise ClaimError(f"predicted and measured have different labels: {', '.join(map(repr, odd[:4]))}")
    return predicted, {label: measured[label] for label in predicted}


def member_name(label: str, index: tuple[int, ...]) -> str:
    """How one member is shown: `adam[3]`, `adam`, `[3]`, or `the value` for a single unlabelled number."""
    position = f"[{','.join(map(str, index))}]" if index else ""
    return label + position or "the value"


def jsonable(labelled: Labelled | None) -> Any:
    """Labelled values as JSON: a number, a list, or a mapping of those; `nan` and infinities become strings, which
    JSON can hold.
    """
    if labelled is None:
        return None
    plain = {label: _jsonable_array(array) for label, array in labelled.items()}
    return plain[""] if set(plain) == {""} else plain


def jsonable_number(number: float) -> float | str:
    """A finite number itself, otherwise `"nan"`, `"inf"` or `"-inf"`."""
    return number_or_name(number)


def _jsonable_array(array: np.ndarray) -> Any:
    if array.ndim == 0:
        return jsonable_number(float(array))
    return [_jsonable_array(entry) for entry in array]


def _as_floats(entry: Any, what: str) -> np.ndarray:
    array = np.asarray(entry)
    # bfloat16 and its kin, which NumPy does not know, are of kind V
    if array.dtype.kind not in "biufV" or array.dtype.names is not None:
        raise ClaimError(f"{what} must be real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)
