"""The resolution of an experiment: the smallest change of the prediction that it refutes, found by moving the
prediction.

Nothing is assumed about the comparison but that it can be run again: a comparison that never says no has no
resolution.
"""

from __future__ import annotations

import numpy as np

from toylab.claims.comparisons import Comparison

SABOTAGE = 1.01
"""A sabotaged prediction is moved by this many resolutions."""

_PROBES = 2.0 ** np.arange(-60, 11)
_HALVINGS = 24  # narrows a factor of two to 2**-24 of itself: far finer than the one per cent that sabotage adds


def member_resolutions(comparison: Comparison, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """For every member, the smallest r such that each move of the prediction by r, and by more, is refuted.

    **Arguments:** rows `P` (n, numbers) and `M` (n, repeats), see `Comparison.rows`.
    **Returns:** (n,) resolutions in the comparison's units; infinite where moving by up to 1024 units refutes
    nothing, or where a larger move would agree again. Accurate to 1e-7 of itself, rounded to the refuted
    side.
    """
    each = [_of_one_move(comparison, move, predicted, measured) for move in range(len(comparison.moves))]
    return np.max(each, axis=0) if each else np.full(len(measured), np.inf)


def refuted_when_moved(
    comparison: Comparison, predicted: np.ndarray, measured: np.ndarray, by: float, move: int
) -> np.ndarray:
    """(n,) booleans: does the experiment refute each member's prediction moved by `by` units in the way
    `move`?
    """
    sizes = np.full(len(predicted), by)
    return ~np.asarray(comparison.agrees(comparison.moves[move](predicted, sizes), measured), dtype=bool)


def _of_one_move(comparison: Comparison, move: int, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    def agrees(sizes: np.ndarray) -> np.ndarray:
        return np.asarray(comparison.agrees(comparison.moves[move](predicted, sizes), measured), dtype=bool)

    count = len(predicted)
    probes = np.stack([agrees(np.full(count, size)) for size in _PROBES])
    last = np.where(probes.any(axis=0), len(_PROBES) - 1 - np.argmax(probes[::-1], axis=0), -1)
    never = last == len(_PROBES) - 1
    high = _PROBES[np.minimum(last + 1, len(_PROBES) - 1)]
    low = np.where(last < 0, 0.0, _PROBES[last])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        still = agrees(middle)
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    return np.where(never, np.inf, high)
