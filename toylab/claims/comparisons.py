"""What it means that a prediction and a measurement agree, and in which ways the prediction may be wrong.

A comparison is data: a pure test `agrees` and the list of `moves` by which a prediction can be falsified. The
resolution of an experiment is found from these two alone (`toylab.claims.resolution`). Builders, one for each
kind of claim:

| kind | builder | prediction | measurement | moves |
|---|---|---|---|---|
| equality | `equality` | a number | a number | `p (1 + r)`, `p (1 - r)` |
| order | `order` | an exponent | a slope | `p + r`, `p - r` |
| inequality | `at_most`, `at_least` | a bound | numbers | the bound moved towards the measured extreme |
| sign | `sign` | -1 or +1 | numbers | the bound zero moved towards the measured extreme |
| window | `window` | `(lo, hi)` | numbers | each bound moved inwards |
| window | `bracket` | a number | `(lo, hi)` | the number moved up, down |
| statistical | `statistical` | a mean | samples | the mean moved up, down |
| measurement | `measurement` | none | anything | none |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from toylab.claims.ceilings import ASYMPTOTIC_ORDER, EXACT, NETWORK_PLATEAU, Ceiling
from toylab.claims.labelled import ClaimError

KINDS = ("equality", "order", "inequality", "sign", "window", "statistical", "measurement")

Agrees = Callable[[np.ndarray, np.ndarray], np.ndarray]
Move = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """One kind of agreement. Rows are members: `P` is (n, numbers) predictions, `M` is (n, repeats)
    measurements.

    **Fields:**
    `kind` one of `KINDS`; `tolerance` and `tolerance_reason` what `agrees` allows and why;
    `ceiling` the largest resolution that still confirms (None for a measurement); `agrees(P, M) -> (n,)`
    booleans, pure, False wherever the measurement is not a number; `moves`, each `(P, r) -> P` for (n,) sizes
    r >= 0, moves the prediction by r *units*;
    `scale` the unit, or None: the magnitude of the prediction itself, which then must not be zero;
    `numbers` how many numbers make one prediction; `repeats` whether one member has several measured numbers.
    """

    kind: str
    tolerance: float | None
    tolerance_reason: str
    ceiling: Ceiling | None
    agrees: Agrees
    moves: tuple[Move, ...]
    scale: float | None = None
    numbers: int = 1
    repeats: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ClaimError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind == "measurement":
            return
        if self.ceiling is None or not self.moves:
            raise ClaimError(f"a claim of kind {self.kind} needs a ceiling and at least one move that would falsify it")
        if self.tolerance is None or not 0 <= self.tolerance < math.inf:
            raise ClaimError(f"tolerance must be a number >= 0, got {self.tolerance}")
        if not self.tolerance_reason.strip():
            raise ClaimError("a tolerance needs its reason")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ClaimError(f"scale must be a positive number, got {self.scale}")
        if self.kind != "statistical" and self.tolerance > self.ceiling.value:
            raise ClaimError(
                f"tolerance {self.tolerance:g} is above the ceiling {self.ceiling.value:g}: nothing could be confirmed"
            )

    def rows(self, predicted: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """The two arrays as rows `(P, M)` and the shape of the members.

        A scalar prediction stands for every member of an elementwise kind. **Errors:** `ClaimError` for
        shapes that do not fit, for predictions that are not finite, and for a prediction of zero without a
        `scale`.
        """
        core = predicted.shape if self.numbers == 1 else predicted.shape[:-1]
        if self.numbers > 1 and (predicted.ndim == 0 or predicted.shape[-1] != self.numbers):
            raise ClaimError(
                f"a prediction of this kind has {self.numbers} numbers on its last axis, got shape {predicted.shape}"
            )
        if not self.repeats and self.numbers == 1 and not core:
            predicted, core = np.broadcast_to(predicted, measured.shape), measured.shape
        if measured.shape[: len(core)] != core or (not self.repeats and measured.shape != core):
            raise ClaimError(f"predicted has shape {predicted.shape}, measured has shape {measured.shape}")
        if not np.all(np.isfinite(predicted)):
            raise ClaimError("a prediction is not a finite number")
        count = math.prod(core)
        rows = predicted.reshape(count, self.numbers)
        if self.scale is None and np.any(np.max(np.abs(rows), axis=1) == 0):
            raise ClaimError(
                "a predicted value is zero, where a relative change means nothing: give the comparison a scale"
            )
        return rows, measured.reshape(count, -1), core


def equality(tolerance: float, reason: str, *, ceiling: Ceiling = EXACT, scale: float | None = None) -> Comparison:
    """`|measured - predicted| <= tolerance * unit`, unit = |predicted| or `scale`. Moves: both signs.

    A statement that is only tested coarsely is not an equality: the ceiling is `EXACT` or `NETWORK_PLATEAU`,
    anything between must be a `bracket`, `window` or inequality, which state their own ceiling. **Errors:**
    `ClaimError` otherwise.
    """
    if ceiling not in (EXACT, NETWORK_PLATEAU):
        raise ClaimError(
            f"an equality is exact (1e-5) or a network plateau (0.15), not {ceiling.value:g}: "
            "state a coarser one as a bracket, window or inequality with its own ceiling"
        )

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        return np.abs(m[:, 0] - p[:, 0]) <= tolerance * _unit(p, scale)

    return Comparison("equality", tolerance, reason, ceiling, agrees, _both_signs(scale), scale)


def order(tolerance: float, reason: str) -> Comparison:
    """`|slope - exponent| <= tolerance`. Moves: exponent ± r. Slopes: `observed_order`."""

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        return np.abs(m[:, 0] - p[:, 0]) <= tolerance

    return Comparison("order", tolerance, reason, ASYMPTOTIC_ORDER, agrees, _both_signs(1.0), 1.0)


def at_most(tolerance: float, reason: str, *, ceiling: Ceiling, scale: float | None = None) -> Comparison:
    """Every measured number of a member is `<= bound + tolerance * unit`. Move: the bound down past the
    largest.
    """

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        return np.max(m, axis=1) <= p[:, 0] + tolerance * _unit(p, scale)

    return Comparison("inequality", tolerance, reason, ceiling, agrees, _both_signs(scale)[1:], scale, repeats=True)


def at_least(tolerance: float, reason: str, *, ceiling: Ceiling, scale: float | None = None) -> Comparison:
    """Every measured number of a member is `>= bound - tolerance * unit`. Move: the bound up past the
    smallest.
    """

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        return np.min(m, axis=1) >= p[:, 0] - tolerance * _unit(p, scale)

    return Comparison("inequality", tolerance, reason, ceiling, agrees, _both_signs(scale)[:1], scale, repeats=True)


def sign(tolerance: float, reason: str, *, ceiling: Ceiling, scale: float) -> Comparison:
    """Every measured number of a member has the predicted sign (-1 or +1) and magnitude `> tolerance *
    scale`.

    Move: the bound zero towards the measured side by `r * scale`, past the number that is nearest to zero; so
    a sign that is only ever tested far from zero has a poor resolution.
    """

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        side, bound = p[:, 0], p[:, 1] if p.shape[1] == 2 else 0.0
        if not np.all(np.abs(side) == 1):
            raise ClaimError("a predicted sign is -1 or +1")
        return np.min(side[:, None] * m, axis=1) - bound > tolerance * scale

    def bound_moved(p: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.stack([p[:, 0], r * scale], axis=1)

    return Comparison("sign", tolerance, reason, ceiling, agrees, (bound_moved,), scale, repeats=True)


def window(tolerance: float, reason: str, *, ceiling: Ceiling, scale: float | None = None) -> Comparison:
    """Every measured number of a member lies in the predicted `(lo, hi)`, widened by `tolerance * unit`.

    Unit: `scale`, or the larger magnitude of the two bounds. Moves: the lower bound up past the smallest
    measured number; the upper bound down past the largest. Both must refute.
    """

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        slack = tolerance * _unit(p, scale)
        return (np.min(m, axis=1) >= p[:, 0] - slack) & (np.max(m, axis=1) <= p[:, 1] + slack)

    def lower_up(p: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.stack([p[:, 0] + r * _unit(p, scale), p[:, 1]], axis=1)

    def upper_down(p: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.stack([p[:, 0], p[:, 1] - r * _unit(p, scale)], axis=1)

    moves = (lower_up, upper_down)
    return Comparison("window", tolerance, reason, ceiling, agrees, moves, scale, numbers=2, repeats=True)


def bracket(tolerance: float, reason: str, *, ceiling: Ceiling, scale: float | None = None) -> Comparison:
    """The predicted number lies in the measured `(lo, hi)` (last axis), widened by `tolerance * unit`.

    For experiments that can only bracket: the largest value seen stable and the smallest seen divergent.
    Moves: the prediction up past `hi`, down past `lo`. Both must refute.
    """

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        if m.shape[1] != 2:
            raise ClaimError(f"a bracket is measured as (lo, hi) on the last axis, got {m.shape[1]} numbers")
        slack = tolerance * _unit(p, scale)
        return (m[:, 0] <= m[:, 1]) & (m[:, 0] - slack <= p[:, 0]) & (p[:, 0] <= m[:, 1] + slack)

    return Comparison("window", tolerance, reason, ceiling, agrees, _both_signs(scale), scale, repeats=True)


def statistical(false_alarm: float, reason: str, *, ceiling: Ceiling, scale: float | None = None) -> Comparison:
    """The predicted mean lies in Student's interval of the samples, of confidence `1 - false_alarm` for each
    member.

    Samples lie on the trailing axes and are assumed independent with a nearly normal mean; `false_alarm`
    (shown as the tolerance) is the chance that a true prediction is refuted: take it small when there are
    many members. Moves: the mean up, down, to the nearest values outside the interval. Both must refute.
    **Errors:** `ClaimError` for `false_alarm` outside (0, 1) and for fewer than two samples.
    """
    if not 0 < false_alarm < 1:
        raise ClaimError(f"false_alarm is a probability in (0, 1), got {false_alarm}")

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        count = m.shape[1]
        if count < 2:
            raise ClaimError("a statistical claim needs at least two samples of each member")
        half_width = -stdtrit(count - 1, false_alarm / 2) * np.std(m, axis=1, ddof=1) / math.sqrt(count)
        return np.abs(np.mean(m, axis=1) - p[:, 0]) <= half_width

    return Comparison("statistical", false_alarm, reason, ceiling, agrees, _both_signs(scale), scale, repeats=True)


def measurement() -> Comparison:
    """No prediction and therefore nothing to refute: the verdict is `measured`, never `confirmed`."""

    def agrees(p: np.ndarray, m: np.ndarray) -> np.ndarray:
        raise ClaimError("a measurement has nothing to agree with")

    return Comparison("measurement", None, "", None, agrees, ())


def observed_order(steps: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Slope of log error against log step by least squares along the last axis.

    **Arguments:** `steps` (n,) positive and not all equal; `errors` (..., n) positive. **Returns:** (...)
    slopes; NaN where an error is zero or not finite, which no order agrees with.
    """
    x = np.log(np.asarray(steps, dtype=np.float64))
    centred = x - x.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.asarray(errors, dtype=np.float64)) @ centred / (centred @ centred)


def _unit(p: np.ndarray, scale: float | None) -> np.ndarray:
    return np.max(np.abs(p), axis=1) if scale is None else np.full(len(p), scale)


def _both_signs(scale: float | None) -> tuple[Move, Move]:
    def up(p: np.ndarray, r: np.ndarray) -> np.ndarray:
        return p + (r * _unit(p, scale))[:, None]

    def down(p: np.ndarray, r: np.ndarray) -> np.ndarray:
        return p - (r * _unit(p, scale))[:, None]

    return up, down
