"""Running claims: draw, measure, predict, compare, and say how small an error would have been noticed."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toylab.claims.claim import Claim
from toylab.claims.labelled import (
    ClaimError,
    Labelled,
    as_labelled,
    jsonable,
    jsonable_number,
    member_name,
    paired,
)
from toylab.claims.resolution import SABOTAGE, member_resolutions, refuted_when_moved


@dataclass(frozen=True)
class Judgement:
    """The outcome of one comparison. `resolution` is None where no move of the prediction is refuted; `worst`
    names the member that agrees least (or resolves least, where all agree) and shows its numbers.
    """

    verdict: str
    resolution: float | None
    worst: str
    members: int


@dataclass(frozen=True)
class Result:
    """A claim that was run: the claim, its members, its `Judgement`, the finding to show first, and
    wall-clock seconds.
    """

    claim: Claim
    predicted: Labelled | None
    measured: Labelled | None
    judgement: Judgement
    finding: str
    seconds: float

    @property
    def verdict(self) -> str:
        """One of `toylab.claims.claim.VERDICTS`."""
        return self.judgement.verdict

    def to_json(self) -> dict[str, Any]:
        """The record of `toylab verify --json`."""
        claim, comparison, resolution = self.claim, self.claim.comparison, self.judgement.resolution
        return {
            "id": claim.id,
            "kind": claim.kind,
            "statement": claim.statement,
            "source": claim.source,
            "predicted": jsonable(self.predicted),
            "measured": jsonable(self.measured),
            "tolerance": comparison.tolerance,
            "tolerance_reason": comparison.tolerance_reason,
            "resolution": None if resolution is None else jsonable_number(resolution),
            "expected": claim.expected,
            "verdict": self.verdict,
            "finding": self.finding,
            "seconds": round(self.seconds, 3),
            "tier": claim.tier,
        }


def run_claims(claims: Iterable[Claim], *, tier: str, seed: int = 0, sabotage: bool = False) -> Iterator[Result]:
    """The results of the claims in turn; a claim that raises yields the verdict `error` and the next one
    runs.

    **Arguments:** `tier` is handed to each claim's `draw`; `seed`: what a claim draws depends on it and on
    the claim's id only, not on which other claims run; `sabotage` see `run_claim`. `KeyboardInterrupt` passes
    through.
    """
    for claim in claims:
        yield run_claim(claim, tier=tier, seed=seed, sabotage=sabotage)


def run_claim(claim: Claim, *, tier: str, seed: int = 0, sabotage: bool = False) -> Result:
    """One claim, run once. With `sabotage` the prediction is moved by 1.01 resolutions after the experiment
    was run.

    **Errors:** none but `KeyboardInterrupt` and its like: an exception of the claim is the verdict `error`,
    with one line as finding.
    """
    start = time.perf_counter()
    predicted = measured = None
    try:
        sample = claim.draw(np.random.default_rng([seed, zlib.crc32(claim.id.encode())]), tier)
        measured = as_labelled(claim.measure(copy.deepcopy(sample)), "measured")
        if claim.predicted is not None:
            predicted = as_labelled(claim.predicted(copy.deepcopy(sample)), "predicted")
        judgement = judge(claim, predicted, measured, sabotage=sabotage)
        finding = claim.finding if isinstance(claim.finding, str) else claim.finding(measured)
        if judgement.verdict not in (claim.expected, "measured") and not sabotage:
            finding = f"{finding} Worst member: {judgement.worst}".strip()
    except Exception as error:  # noqa: BLE001 - a claim that breaks must not stop the others
        judgement, finding = Judgement("error", None, "", 0), one_line(error)
    return Result(claim, predicted, measured, judgement, finding, time.perf_counter() - start)


def judge(claim: Claim, predicted: Labelled | None, measured: Labelled, *, sabotage: bool = False) -> Judgement:
    """The verdict on a claim, a pure function of what was predicted and measured.

    All members agree and the resolution is within the ceiling: `confirmed`; agree but would not have noticed:
    `inconclusive`; a member disagrees: `refuted`. With `sabotage` the prediction is moved by 1.01 resolutions
    in each way that the kind knows: `refuted` if every member disagrees with every one of them,
    `inconclusive` if there is no resolution, else `confirmed`, which is an alarm.
    **Errors:** `ClaimError` for labels or shapes that do not fit.
    """
    if claim.kind == "measurement":
        return Judgement("measured", None, "", sum(array.size for array in measured.values()))
    comparison = claim.comparison
    if predicted is None or comparison.ceiling is None:
        raise ClaimError(f"{claim.id}: a claim of kind {claim.kind} needs a prediction and a ceiling")
    predicted, measured = paired(predicted, measured)
    rows, agrees, resolutions, names = [], [], [], []
    for label in predicted:
        p, m, shape = comparison.rows(predicted[label], measured[label])
        rows.append((p, m))
        agrees.append(np.asarray(comparison.agrees(p, m), dtype=bool))
        resolutions.append(member_resolutions(comparison, p, m))
        names.extend((label, index) for index in np.ndindex(shape))
    agree, resolved = np.concatenate(agrees), np.concatenate(resolutions)
    resolution = float(np.max(resolved))
    worst = int(np.lexsort((resolved, ~agree))[-1])
    described = _described(names[worst], [pair for p, m in rows for pair in zip(p, m, strict=True)][worst])
    if not np.isfinite(resolution):
        verdict = "inconclusive" if agree.all() or sabotage else "refuted"
        return Judgement(verdict, None, f"{described}, where no error would be noticed", len(names))
    if sabotage:
        by, ways = SABOTAGE * resolution, range(len(comparison.moves))
        noticed = all(refuted_when_moved(comparison, p, m, by, way).all() for p, m in rows for way in ways)
        verdict = "refuted" if noticed else "confirmed"
    elif not agree.all():
        verdict = "refuted"
    else:
        verdict = "confirmed" if resolution <= comparison.ceiling.value else "inconclusive"
    note = ""
    if verdict == "inconclusive":
        ceiling = comparison.ceiling
        note = f" (resolution {resolution:.2g} is above the ceiling {ceiling.value:g}: {ceiling.reason})"
    return Judgement(verdict, resolution, described + note, len(names))


def as_expected(record: Mapping[str, Any], *, sabotage: bool = False) -> bool:
    """Whether the verdict in a record of `Result.to_json` is the expected one; under sabotage `refuted` for
    all but measurements.
    """
    wanted = "refuted" if sabotage and record["kind"] != "measurement" else record["expected"]
    return record["verdict"] == wanted


def one_line(error: BaseException) -> str:
    """Type and message of an exception on one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return text if len(text) <= 300 else text[:297] + "..."


def _described(name: tuple[str, tuple[int, ...]], pair: tuple[np.ndarray, np.ndarray]) -> str:
    p, m = ("..".join(_short(x) for x in (v if v.size <= 2 else (v.min(), v.max()))) for v in pair)
    return f"{member_name(*name)} predicted {p}, measured {m}"


def _short(number: float) -> str:
    return f"{float(number):.9g}"
