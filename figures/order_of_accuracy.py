"""Every asymptotic claim of the laboratory: measured errors over the small parameter, and the predicted exponents."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from figures import style
from toylab.claims import Claim, discovered, observed_order

NAME = "order_of_accuracy"
TITLE = "Asymptotic claims: errors over the small parameter, and the predicted exponents"


def asymptotic() -> list[Claim]:
    """All claims that keep their error curves, but those of the tier long."""
    return [claim for claim in discovered() if claim.errors is not None and claim.tier != "long"]


def compute(quick: bool) -> dict[str, np.ndarray]:
    """For claim i its `id_i` and `tolerance_i` of a slope; for each label j of it `parameter_i_j` (n,) and `error_i_j`
    (curves, n), as measured, and the predicted `exponent_i_j` (curves,).  Inputs are those of `toylab verify --quick`;
    if quick, one claim of each topic.
    """
    claims = asymptotic()
    if quick:
        claims = list({claim.topic: claim for claim in claims if claim.tier == "quick"}.values())
    data: dict[str, np.ndarray] = {}
    for i, claim in enumerate(claims):
        data |= {f"id_{i}": np.array(claim.id), f"tolerance_{i}": np.array(claim.comparison.tolerance, dtype=float)}
        for j, curves in enumerate(measured(claim)):
            named = zip(("parameter", "error", "exponent"), curves, strict=True)
            data |= {f"{name}_{i}_{j}": array for name, array in named}
    return data


def measured(claim: Claim) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each label of the claim: parameter (n,), errors (curves, n) and exponents (curves,)."""
    assert claim.errors is not None and claim.predicted is not None, "an asymptotic claim has both"
    sample = claim.draw(np.random.default_rng([0, zlib.crc32(claim.id.encode())]), "quick")
    predicted = claim.predicted(sample)
    for label, (parameter, error) in claim.errors(sample).items():
        expected = predicted[label] if isinstance(predicted, Mapping) else predicted
        error = np.asarray(error)
        exponents = np.broadcast_to(np.asarray(expected, dtype=float), error.shape[:-1])
        yield np.asarray(parameter), error.reshape(-1, error.shape[-1]), exponents.ravel()


LOOKS = (
    {"color": style.GREY, "marker": "v"},
    {"color": style.BLUE, "marker": "o"},
    {"color": style.ORANGE, "marker": "s"},
    {"color": "#009e73", "marker": "^"},
    {"color": style.BLACK, "marker": "D"},
)
"""Colours and markers of the exponents from 0 up to 1/2, up to 3/2, up to 5/2, up to 7/2 and above."""

LINE: dict[str, Any] = {"linewidth": 0.5, "markersize": 2.6, "markerfacecolor": "none", "markeredgewidth": 0.6}
SHIFT = 0.17  # how far the axis of measured slopes reaches to either side of the exponent


class Row(NamedTuple):
    """One claim at one exponent: the curves (parameter, error) relative to the largest parameter, and their slopes."""

    claim: str
    exponent: float
    tolerance: float
    curves: list[tuple[np.ndarray, np.ndarray]]

    @property
    def look(self) -> dict[str, Any]:
        """Colour and marker, by the exponent."""
        return LOOKS[min(int(self.exponent + 0.499), len(LOOKS) - 1)]

    def slopes(self) -> np.ndarray:
        """The observed order of every curve."""
        return np.array([float(observed_order(*curve)) for curve in self.curves])


def _rows(data: Mapping[str, np.ndarray]) -> list[Row]:
    rows = []
    for i in range(sum(key.startswith("id_") for key in data)):
        series: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}
        for j in range(sum(key.startswith(f"error_{i}_") for key in data)):
            x, errors, exponents = (data[f"{name}_{i}_{j}"] for name in ("parameter", "error", "exponent"))
            for error, exponent in zip(errors, exponents, strict=True):
                series.setdefault(float(exponent), []).append((x / x.max(), error / error[np.argmax(x)]))
        name, tolerance = str(data[f"id_{i}"]), float(data[f"tolerance_{i}"])
        rows += [Row(name, exponent, tolerance, series[exponent]) for exponent in sorted(series)]
    return rows


@style.styled
def draw(data: Mapping[str, np.ndarray]) -> Figure:
    """Left, all curves relative to the largest value of the parameter; right, each claim's slopes less the exponent."""
    rows = _rows(data)
    figure = Figure(figsize=(style.PAGE, max(2.9, 1.0 + 0.158 * len(rows))))
    errors, slopes = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for row in rows:
        for curve in row.curves:
            errors.plot(*curve, **LINE, **row.look)
    for exponent in sorted({row.exponent for row in rows}):
        (end,) = {min(x.min() for r in rows if r.exponent == exponent for x, _ in r.curves)}
        errors.plot([end, 1], [end**exponent, 1], **style.LEVEL, zorder=3)
        errors.annotate(
            f"{exponent:g}", (end, end**exponent), (0, -7), textcoords="offset points", ha="center", va="top",
            path_effects=style.halo(),
        )  # fmt: skip
    errors.set(xscale="log", yscale="log", xlabel="small parameter over its largest value")
    errors.set_ylabel("error over that at the largest value")
    errors.margins(x=0.1)
    style.letter(errors, 0, "all errors, and the predicted slopes")
    for height, row in enumerate(rows):
        slopes.barh(height, 2 * row.tolerance, 0.8, -row.tolerance, color="#e4e4e4", zorder=0)
        gaps = row.slopes() - row.exponent
        slopes.plot(gaps, np.full(len(gaps), height), **(LINE | {"linestyle": "none"}), **row.look)
        slopes.text(1.02, height, f"{row.exponent:g}", transform=slopes.get_yaxis_transform(), va="center", fontsize=7)
    slopes.axvline(0, **style.LEVEL, zorder=0.5)
    slopes.set(xlim=(-SHIFT, SHIFT), ylim=(len(rows) - 0.4, -0.6), xlabel="measured slope minus exponent")
    slopes.set_yticks(range(len(rows)), [row.claim.replace("_", " ").replace("/", ": ") for row in rows], fontsize=6.5)
    slopes.tick_params(axis="y", length=0)
    slopes.text(1.07, 1.012, "exponent", transform=slopes.transAxes, ha="right", va="bottom", fontsize=7)
    style.letter(slopes, 1, "slopes by claim (shaded: tolerated)")
    return figure
