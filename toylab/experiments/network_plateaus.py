"""Where networks settle at the edge: grids of learning rates and seeds, run together and summarised.

Nothing here knows a threshold but the laboratory's own numerical filter, by which `edge_ratio` is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import toylab
from toylab.optimizers import NAMED
from toylab.problems import NAMED as PROBLEMS
from toylab.training.plateaus import OUTCOMES


def unfactored(learning_rate: float) -> optax.GradientTransformation:
    """Adafactor's second moment, neither factored nor clipped: its decay 1 - t^-0.8 grows towards a plain mean."""
    return optax.chain(optax.scale_by_factored_rms(factored=False), optax.scale_by_learning_rate(learning_rate))


RULES = NAMED | {"unfactored_adafactor": unfactored}
"""The rules of the grids by name."""


@dataclass(frozen=True, kw_only=True)
class PlateauGrid:
    """One rule on one problem from `seeds` starts at several learning rates.

    **Fields:** `problem`, `settings` a name in `toylab.problems.NAMED` and its arguments but the seed, which is swept;
    `rule`, `fixed` a name in `RULES` and its hyperparameters but the learning rate; `steps` of every
    run, observed in pairs every `every` steps; `one_by_one` as in `toylab.sweep`; `single`: in float32.
    """

    problem: str
    rule: str
    learning_rates: tuple[float, ...]
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 3
    every: int = 16
    one_by_one: bool = False
    single: bool = False

    @property
    def label(self) -> str:
        """Problem and rule with what distinguishes them: `digits_mlp mse, nesterov momentum=0.5`."""
        loss = self.settings.get("loss", "mse")
        precision = " float32" if self.single else ""
        return (
            f"{self.problem} {loss}{precision}, {' '.join([self.rule, *(f'{k}={v}' for k, v in self.fixed.items())])}"
        )

    def smaller(self, seeds: int = 1, learning_rates: int = 1) -> PlateauGrid:
        """The grid with its first `seeds` seeds and its last (largest) `learning_rates` learning rates."""
        return replace(self, seeds=min(seeds, self.seeds), learning_rates=self.learning_rates[-learning_rates:])


@dataclass(frozen=True)
class Plateaus:
    """What became of a grid. Arrays (learning rates, seeds).

    **Fields:** `outcome` one of `OUTCOMES`; `mean`, `spread` of the edge ratio over time (`toylab.plateau`), NaN unless
    settled; `level` the same mean of eta lambda_max(P^-1 H), the edge ratio without its threshold; `reached` the step
    at which the edge was reached, -1 if never.
    """

    outcome: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    level: np.ndarray
    reached: np.ndarray


@dataclass(frozen=True)
class Summary:
    """A grid in a few numbers, NaN where nothing settled or nothing can be compared.

    **Fields:** `mean`, `low`, `high` of the members' edge ratios, each averaged over time; `in_time` root mean square
    of their standard deviations over time; `over_seeds` standard deviation between seeds at equal learning rate, pooled
    over learning rates; `over_learning_rates` standard deviation of the learning rates' means; `level` mean of
    eta lambda_max(P^-1 H); `counts` outcome -> members.
    """

    mean: float
    low: float
    high: float
    in_time: float
    over_seeds: float
    over_learning_rates: float
    level: float
    counts: Mapping[str, int]


FRESH = 10
"""The first seed of every network claim: learning rates, widths and lengths of runs were chosen on seeds below 3."""


def starts(count: int) -> Any:
    """The random keys of `count` starts that no setting was chosen on."""
    return jax.vmap(jax.random.key)(jnp.arange(FRESH, FRESH + count))


@cache
def in_single_precision(problem: toylab.Problem) -> toylab.Problem:
    """The same weights and data in float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem)


def _source(problem: str, settings: tuple[tuple[str, Any], ...], single: bool) -> Callable[[Any], toylab.Problem]:
    """The function from a seed to the problem; one for equal settings, so that a program is compiled once."""

    def source(key: Any) -> toylab.Problem:
        drawn = PROBLEMS[problem](seed=key, **dict(settings))
        return in_single_precision(drawn) if single else drawn

    return source


def swept(grid: PlateauGrid, observe: Any = None, **others: Any) -> toylab.Sweep:
    """The runs of a grid, with axes (learning rate, seed); `observe` is the edge ratio and the loss if not given,
    `others` as in `toylab.sweep`.
    """
    # a float is an axis of length one, hence data: other values of it compile nothing
    axes = {name: [value] for name, value in grid.fixed.items() if isinstance(value, float)}
    runs = toylab.sweep(
        _source(grid.problem, tuple(grid.settings.items()), grid.single),
        RULES[grid.rule],
        {"learning_rate": grid.learning_rates, **axes},
        steps=grid.steps,
        seeds=starts(grid.seeds),
        fixed={name: value for name, value in grid.fixed.items() if name not in axes},
        every=grid.every,
        one_by_one=grid.one_by_one,
        observe=toylab.observers(edge_ratio=True) if observe is None else observe,
        **others,
    )
    single = tuple(range(1, 1 + len(axes)))
    return replace(runs, records={name: np.squeeze(values, single) for name, values in runs.records.items()})


def plateaus(runs: toylab.Sweep) -> Plateaus:
    """The plateau of every run of a sweep over learning rates and seeds that recorded the edge ratio."""
    shape = runs.edge_ratio.shape[:2]
    table = [[toylab.plateau(runs.steps, runs.edge_ratio[i, j]) for j in range(shape[1])] for i in range(shape[0])]

    def each(name: str) -> np.ndarray:
        return np.array([[getattr(one, name) for one in row] for row in table])

    # the threshold is one number for a run: level and ratio differ by a factor only
    factor = runs.grid["learning_rate"][:, None] * runs.preconditioned_sharpness[..., 0] / runs.edge_ratio[..., 0]
    return Plateaus(each("outcome"), each("mean"), each("spread"), factor * each("mean"), each("reached"))


def settled(grid: PlateauGrid) -> Plateaus:
    """Run a grid and find where it settles."""
    return plateaus(swept(grid))


def summary(found: Plateaus) -> Summary:
    """A grid in a few numbers."""
    inside = found.outcome == "settled"
    enough = [row[keep] for row, keep in zip(found.mean, inside, strict=True) if keep.any()]
    repeated = [np.var(row, ddof=1) for row in enough if row.size > 1]
    means = found.mean[inside]
    return Summary(
        mean=_or_nan(np.mean, means),
        low=_or_nan(np.min, means),
        high=_or_nan(np.max, means),
        in_time=_or_nan(lambda spread: np.sqrt(np.mean(spread**2)), found.spread[inside]),
        over_seeds=_or_nan(lambda each: np.sqrt(np.mean(each)), repeated),
        over_learning_rates=_or_nan(lambda each: np.std(each, ddof=1), [row.mean() for row in enough], 2),
        level=_or_nan(np.mean, found.level[inside]),
        counts={outcome: int(np.sum(found.outcome == outcome)) for outcome in OUTCOMES},
    )


def _or_nan(statistic: Callable[[np.ndarray], float], values: Iterable[float] | np.ndarray, least: int = 1) -> float:
    array = np.asarray(values, dtype=float)
    return float(statistic(array)) if array.size >= least else float("nan")


def described(of: Summary) -> str:
    """`1.012 (0.99-1.04; spread .008 in time, .010 seeds, .020 rates; 12 settled)` for a finding."""
    counts = ", ".join(f"{number} {outcome}" for outcome, number in of.counts.items() if number)
    if not of.counts["settled"]:
        return counts
    spreads = {"in time": of.in_time, "over seeds": of.over_seeds, "over learning rates": of.over_learning_rates}
    listed = ", ".join(f"{value:.3f} {where}" for where, value in spreads.items() if np.isfinite(value))
    return f"{of.mean:.3f} ({of.low:.3f} to {of.high:.3f}; spread {listed}; {counts})"


MEASURED = ("mean", "low", "high", "in_time", "over_seeds", "over_learning_rates", "level")
"""The numbers of a `Summary` in the order of `numbers`; the counts of `OUTCOMES` follow them."""


def numbers(of: Summary) -> np.ndarray:
    """A summary as the array that a claim of kind measurement returns."""
    return np.array([*(getattr(of, name) for name in MEASURED), *(of.counts[outcome] for outcome in OUTCOMES)])


def summary_of(array: np.ndarray) -> Summary:
    """The inverse of `numbers`."""
    values = dict(zip(MEASURED, map(float, array), strict=False))
    counts = {outcome: int(n) for outcome, n in zip(OUTCOMES, array[len(MEASURED) :], strict=True)}
    return Summary(**values, counts=counts)


def plateau_finding(found: Mapping[str, np.ndarray]) -> str:
    """The finding of a measurement that maps labels to `numbers`."""
    each = "; ".join(f"{label}: {described(summary_of(array))}" for label, array in found.items())
    return f"plateau of the edge ratio, mean over members (lowest to highest member): {each}"


def row(grid: PlateauGrid, found: Plateaus, threshold: float) -> dict[str, Any]:
    """One row of the table of plateaus, plain numbers; `threshold` is the derived k* = eta lambda at the edge."""
    of = summary(found)
    return {
        "problem": grid.problem,
        "settings": {name: list(v) if isinstance(v, tuple) else v for name, v in grid.settings.items()},
        "loss": grid.settings.get("loss", "mse"),
        "rule": grid.rule,
        "fixed": dict(grid.fixed),
        "learning_rates": list(grid.learning_rates),
        "seeds": grid.seeds,
        "steps": grid.steps,
        "every": grid.every,
        "one_by_one": grid.one_by_one,
        "single": grid.single,
        "threshold": threshold,
        **{name: getattr(of, name) for name in MEASURED},
        **{outcome.replace(" ", "_"): number for outcome, number in of.counts.items()},
    }
