"""Experiments on flips: runs of the rules on quartics just above and just below their edge, and what they settle on.

Nothing here knows a normal form or a balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from toylab.experiments import two_cycles as lab
from toylab.problems.scalar import mean_polynomial

RULES: dict[str, tuple[str, ...]] = {
    "gd": (),
    "heavy_ball": ("momentum",),
    "nesterov": ("momentum",),
    "ema_momentum": ("momentum",),
    "quasi_hyperbolic": ("momentum", "mix"),
    "optimistic_gd": ("alpha", "beta"),
    "adam": ("b1",),
    "nadam": ("b1",),
    "adamw": ("b1", "weight_decay"),
}
"""Rules that are run, and the hyperparameters that are drawn besides the learning rate."""

QUICK = ("gd", "heavy_ball", "adamw")
"""Those that the quick tier runs: each is compiled anew, which takes longer than its runs."""


@dataclass(frozen=True)
class Drawn:
    """Members of one rule: hyperparameters, critical curvature (P = 1), c3/f'' and c4/f'', and d."""

    hyper: dict[str, np.ndarray]
    edge: np.ndarray
    ratios: np.ndarray
    d: np.ndarray

    def quartics(self, d: Any = None, c4: Any = None) -> np.ndarray:
        """The derivatives (members, 3) of quartics whose curvature is ``1 + d`` times the critical one."""
        c3, c4 = self.ratios[:, 0], self.ratios[:, 1] if c4 is None else c4
        unit = np.stack([np.ones_like(c3), c3, c4], axis=1)
        return unit * (self.edge * (1 + (self.d if d is None else d)))[:, None]


Sample = dict[str, Drawn]


# ---------------------------------------------------------------------------------------------------------------
# Which way the flip goes

NEAR, FAR, EXCESS = 1e-4, 2e-2, 1e-7
"""Amplitudes at which runs start, in units of the quartic's width, and |eta/eta* - 1|."""

NOISE = 1e-14
"""Drifts a step are differences of logarithms over 2,000 steps: rounding leaves 1e-18 of them."""


def outcomes(sample: Any) -> dict[str, np.ndarray]:
    """Whether the amplitude grows (1), shrinks (-1) or neither (0)."""
    a, width = sample["a"], sample["width"]
    data = a[:, None] * np.stack([np.ones_like(a), sample["c3"] / width, sample["c4"] / width**2], axis=1)
    out = {}
    for name, excess in (("above", EXCESS), ("below", -EXCESS)):
        hyper = {"learning_rate": 2 / a * (1 + excess)}
        inner, outer = (
            np.asarray(lab.drift("gd", mean_polynomial, (0, 2000), hyper, data, size * width)) for size in (NEAR, FAR)
        )
        out[f"{name} the edge, started near the minimum"] = np.where(np.abs(inner) > NOISE, np.sign(inner), 0)
        out[f"{name} the edge, started away from it"] = np.where(np.abs(outer) > NOISE, np.sign(outer), 0)
    return out


def critical_fourth(sample: Sample) -> dict[str, np.ndarray]:
    """c4/f'' at which the amplitude of a small oscillation neither grows nor shrinks, at the edge itself."""
    out = {}
    for rule, drawn in sample.items():
        c3_sq = drawn.ratios[:, 0] ** 2

        def grows(c4: np.ndarray, rule: str = rule, drawn: Drawn = drawn, c3_sq: Any = c3_sq) -> Any:
            start = 1e-4 / np.sqrt(c3_sq)
            return lab.drift(rule, mean_polynomial, (200, 1600), drawn.hyper, drawn.quartics(c4=c4), start) > 0

        out[rule] = lab.bisected(0 * c3_sq, 10 * c3_sq, grows, 30)
    return out


def _settled(sample: Sample) -> dict[str, Any]:
    return {
        rule: lab.settled(rule, mean_polynomial, (6_000,), s.hyper, s.quartics(), np.full(len(s.d), 0.1))
        for rule, s in sample.items()
    }


def settled_orbits(sample: Sample) -> dict[str, np.ndarray]:
    """Amplitude and mean (members, 2) of the orbit that each run settles on."""
    return {rule: np.stack(orbit[:2], axis=1) for rule, orbit in _settled(sample).items()}


def multiplier_polynomials(sample: Sample) -> dict[str, np.ndarray]:
    """Characteristic polynomials (members, n + 1) of two steps along the orbit."""
    return {rule: lab.polynomials(orbit[2]) for rule, orbit in _settled(sample).items()}


# ---------------------------------------------------------------------------------------------------------------
# The laws in d

LADDER = 0.004 / np.arange(1, 8)


def _ladder(sample: Sample) -> dict[str, np.ndarray]:
    """Members x (A^2, B, 1 - Z) x LADDER, Z the multiplier of two steps nearest to 1."""
    out = {}
    for rule, s in sample.items():
        rows = []
        for d in LADDER:
            data, start = s.quartics(np.full(len(s.d), d)), np.full(len(s.d), 0.1)
            size, mean, jacobian = map(np.asarray, lab.closed(rule, mean_polynomial, (3_000,), s.hyper, data, start))
            roots = np.linalg.eigvals(jacobian)
            nearest = np.take_along_axis(roots, np.argmin(np.abs(1 - roots), axis=1)[:, None], axis=1)[:, 0]
            rows.append(np.stack([size**2, mean, 1 - nearest.real], axis=1))
        out[rule] = np.stack(rows, axis=-1)
    return out


def coefficients(sample: Sample, power: int) -> dict[str, np.ndarray]:
    """The coefficient of d^power in each, of the polynomial through all of `LADDER`."""
    vandermonde = np.vander(LADDER, increasing=True)
    return {
        rule: np.linalg.solve(vandermonde, (rows / LADDER)[..., None])[..., power - 1, 0]
        for rule, rows in _ladder(sample).items()
    }


def second_coefficients(sample: Sample) -> dict[str, np.ndarray]:
    """The coefficient of d^2 in each, as an interval of no width."""
    return {rule: np.stack([c, c], axis=-1) for rule, c in coefficients(sample, 2).items()}


def sizes_along_ladder(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`LADDER`, and the size of each quantity along it."""
    return {rule: (LADDER, np.abs(rows)) for rule, rows in _ladder(sample).items()}


def basin_boundaries(sample: Sample) -> np.ndarray:
    """Starts (members, 2) on the right and on the left of the minimum beyond which runs move away, by bisection."""
    s = sample["gd"]
    sides = []
    for side in (1.0, -1.0):

        def leaves(size: np.ndarray, side: float = side) -> np.ndarray:
            return ~np.asarray(lab.stays("gd", mean_polynomial, (2_000,), s.hyper, s.quartics(), side * size))

        sides.append(side * lab.bisected(np.zeros_like(s.d), np.full(len(s.d), 4.0), leaves, 40))
    return np.stack(sides, axis=1)


def where_symmetry_breaks(sample: Sample) -> dict[str, np.ndarray]:
    """d (members,) at which the symmetric orbit of each rule becomes unstable, by bisection."""
    out = {}
    for rule, s in sample.items():

        def unstable(d: np.ndarray, rule: str = rule, s: Drawn = s) -> np.ndarray:
            start = np.full(len(d), 1.5)
            one = np.asarray(lab.symmetric_growth(rule, mean_polynomial, (), s.hyper, s.quartics(d), start))
            return np.abs(np.linalg.eigvals(one)).max(axis=1) > 1 + 1e-10

        out[rule] = lab.bisected(np.full(len(s.d), 0.3), np.full(len(s.d), 0.8), unstable, 28)
    return out
