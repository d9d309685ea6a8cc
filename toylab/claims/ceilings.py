"""How small an error an experiment must be able to notice before its agreement counts as a confirmation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ceiling:
    """The largest resolution with which a claim may still be called confirmed.

    **Fields:** `value` in the units of the resolution (relative, or in units of the comparison's `scale`, or
    an exponent);
    `reason` why an experiment of this class cannot, or need not, do better.
    **Errors:** `ValueError` for a value that is not a positive number or an empty reason.
    """

    value: float
    reason: str

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise ValueError(f"a ceiling is a positive finite number, got {self.value}")
        if not self.reason.strip():
            raise ValueError("a ceiling needs the reason for its value")


EXACT = Ceiling(1e-5, "an exact statement in float64: only rounding and the stopping rule of the measurement intervene")
ASYMPTOTIC_ORDER = Ceiling(0.2, "an exponent is regressed over finite steps: orders are told apart, not their decimals")
NETWORK_PLATEAU = Ceiling(0.15, "plateaus of networks fluctuate by some percent in time and between seeds")

CLASSES = (EXACT, ASYMPTOTIC_ORDER, NETWORK_PLATEAU)
