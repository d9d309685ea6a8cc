"""A claim: a statement, what it predicts, an experiment that does not know the prediction, and how the two
are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from toylab.claims.comparisons import Comparison, observed_order
from toylab.claims.labelled import ClaimError

TIERS = ("quick", "default", "long")
"""Each tier includes those before it."""

VERDICTS = ("confirmed", "refuted", "inconclusive", "measured", "error")

Draw = Callable[[np.random.Generator, str], Any]


Errors = Callable[[Any], Mapping[str, tuple[np.ndarray, np.ndarray]]]


def slopes(errors: Errors, sample: Any) -> dict[str, np.ndarray]:
    """label -> `observed_order` of its curve."""
    return {label: observed_order(*curve) for label, curve in errors(sample).items()}


def no_inputs(random: np.random.Generator, tier: str) -> None:
    """The sample of a claim that draws nothing."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One falsifiable statement.

    **Fields:**
    `id` is `topic/name`; `statement` and `source` in words; `tier` the first tier that runs it;
    `comparison` the kind with its tolerance and ceiling (`toylab.claims.comparisons`);
    `draw(random, tier)` the inputs of one run, `tier` the tier that is running (draw fewer in `quick`);
    `predicted(sample)` what theory says (None for a measurement); `measure(sample)` what the experiment
    finds. Both return a number, an array, or a mapping label -> array with the same labels. They are called
    apart, each on its own copy of the sample, so neither can see the other's result; neither may have side
    effects;
    `errors(sample)`, in place of `measure`, for a claim of kind order: label -> (small parameter (n,), errors
    (..., n)), whose slopes (`observed_order`) are what is measured; kept apart so that they can be drawn;
    `expected` is `confirmed`, or `refuted` for a claim kept because its refutation is understood, which needs
    a `finding`;
    `finding` is shown first: a text, or a function of the measured values (label -> array) for what a
    measurement found.

    **Errors:** `ClaimError` when declared wrongly.
    """

    id: str
    statement: str
    source: str
    tier: str
    comparison: Comparison
    measure: Callable[[Any], Any] = None  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    predicted: Callable[[Any], Any] | None = None
    draw: Draw = no_inputs
    errors: Errors | None = None
    expected: str = ""
    finding: str | Callable[[dict[str, np.ndarray]], str] = ""

    def __post_init__(self) -> None:
        if (self.measure is None) == (self.errors is None):
            raise ClaimError(f"{self.id}: a claim needs either measure or errors, the curves whose slopes it measures")
        if self.errors is not None:
            object.__setattr__(self, "measure", partial(slopes, self.errors))
        if not re.fullmatch(r"[a-z0-9_]+/[a-z0-9_]+", self.id):
            raise ClaimError(f"a claim's id is topic/name in lower case, got {self.id!r}")
        is_measurement = self.comparison.kind == "measurement"
        usual = "measured" if is_measurement else "confirmed"
        object.__setattr__(self, "expected", self.expected or usual)
        problems = {
            f"tier must be one of {', '.join(TIERS)}, got {self.tier!r}": self.tier not in TIERS,
            "statement and source must not be empty": not (self.statement.strip() and self.source.strip()),
            "a measurement has no prediction": is_measurement and self.predicted is not None,
            f"a claim of kind {self.comparison.kind} needs predicted": not is_measurement and self.predicted is None,
            f"expected must be {usual} or refuted, got {self.expected!r}": self.expected
            not in ({usual} if is_measurement else {usual, "refuted"}),
            "a claim that is expected to be refuted needs a finding": self.expected == "refuted" and not self.finding,
        }
        for problem, holds in problems.items():
            if holds:
                raise ClaimError(f"{self.id}: {problem}")

    @property
    def topic(self) -> str:
        """The part of the id before the slash."""
        return self.id.partition("/")[0]

    @property
    def kind(self) -> str:
        """The comparison's kind."""
        return self.comparison.kind
