"""Central models beside the optimizer on networks: how much closer they stay than the stable flow, and what they say of
loss, edge ratio and oscillation.  Learning rates and lengths were chosen on seeds 0 to 2; the claims use fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, measurement
from toylab.claims.network_plateaus import FRESH
from toylab.model_comparison import Comparison, compare
from toylab.optimizers import NAMED
from toylab.problems import NAMED as PROBLEMS

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206) for GD and RMSProp; the central map of any rule: here"
MLP = (("hidden", (32, 32)), ("loss", "mse"), ("examples", 300))


@dataclass(frozen=True)
class Setting:
    """One rule on one problem; `models` beside it for `steps` steps after `warm_up`, `count` eigenvalues followed."""

    rule: str
    learning_rate: float
    steps: int
    fixed: tuple[tuple[str, float], ...] = ()
    problem: str = "digits_mlp"
    settings: tuple[tuple[str, Any], ...] = MLP
    warm_up: int = 0
    count: int = 4
    models: tuple[str, ...] = ("central_map",)
    seed: int = FRESH

    @property
    def label(self) -> str:
        """What is told apart in a table."""
        loss = dict(self.settings).get("loss", "mse")
        return f"{self.rule}, {self.problem} {loss}, {self.steps} steps from {self.warm_up}, seed {self.seed}"


GD = Setting("gd", 0.28, 2400)
RMSPROP = Setting("rmsprop", 3e-4, 1000, (("decay", 0.99),), warm_up=20, count=6)
ADAM = Setting("adam", 3e-3, 600, (("b2", 0.99),), warm_up=20, count=7)
DEFAULT = (GD, ADAM)
"""One seed each, the plainest rule and the hardest; RMSProp is in the long tier."""

AVERAGED = ("central_map", "central_flow", "rod_flow")
EVERY_MODEL = (*AVERAGED, "edge_flow", "predicted")
ADAPTIVE = (("b2", 0.99),)
CHEBYSHEV = (("degree", 3), ("hidden", (32,)))
CNN = (("examples", 100),)
CROSS_ENTROPY = (("hidden", (32, 32)), ("loss", "cross_entropy"), ("examples", 300))
GRID = (
    replace(GD, steps=3000, models=EVERY_MODEL[:-1]),
    replace(RMSPROP, steps=3000, count=8, models=AVERAGED),
    replace(ADAM, steps=2000, count=12, models=("central_map", "rod_flow")),
    Setting("adamw", 3e-3, 2000, ADAPTIVE, warm_up=20, count=12),
    Setting("nadam", 1e-3, 2000, ADAPTIVE, warm_up=20, count=12),
    Setting("heavy_ball", 0.42, 3000, (("momentum", 0.5),), warm_up=20, models=AVERAGED),
    Setting("nesterov", 0.2, 3000, (("momentum", 0.9),), warm_up=20, models=("central_map", "central_flow")),
    Setting("gd", 0.5, 3000, (), "chebyshev_mlp", CHEBYSHEV, models=EVERY_MODEL),
    Setting("scalar_rmsprop", 0.02, 3000, (("decay", 0.99),), "chebyshev_mlp", CHEBYSHEV, 20, models=AVERAGED),
    Setting("adam", 4e-3, 3000, ADAPTIVE, "chebyshev_mlp", CHEBYSHEV, 20, models=AVERAGED),
    Setting("gd", 2.6, 400, (), "digits_mlp", CROSS_ENTROPY, models=AVERAGED),
)
"""One seed.  Rules with memory are compared once its first transient is over: a flow that has eliminated the memory
never makes good what it lost there.  `predicted` solves for a trajectory of its own at every step: where that is cheap.
"""

CONVOLUTIONAL = (
    Setting("gd", 0.4, 600, (), "digits_cnn", CNN),
    Setting("adam", 4e-3, 600, ADAPTIVE, "digits_cnn", CNN, 20, 6),
)
"""A quarter of an hour each."""

LATE = (
    replace(GD, steps=3000, warm_up=1200, models=("central_map", "central_flow")),
    replace(RMSPROP, steps=3000, warm_up=1500, count=8, models=("central_map", "central_flow")),
    replace(ADAM, warm_up=1500, count=12),
)
"""Started long after the onset: without the first overshoot, which no averaged model follows, and without what a flow
has lost before the edge."""


def _seeded(part: Sequence[Setting]) -> tuple[Setting, ...]:
    return tuple(replace(setting, seed=FRESH + seed) for seed in range(3) for setting in part)


FROM_THE_START, SETTLED = _seeded(GRID) + _seeded(CONVOLUTIONAL), _seeded(LATE)
LONG = FROM_THE_START + SETTLED
"""Three seeds, MLP and CNN and regression: the table of models."""

SPLIT = tuple(setting for setting in FROM_THE_START if (setting.rule, setting.problem) == ("gd", "chebyshev_mlp"))
AT_THE_EDGE = tuple(setting for setting in FROM_THE_START if setting.settings != CROSS_ENTROPY and setting not in SPLIT)
"""Under cross-entropy the sharpness of digits falls as soon as they are fitted: no run is at the edge for long."""


@cache
def compared(setting: Setting) -> Comparison:
    """The comparison, kept for the claims that share it."""
    problem = PROBLEMS[setting.problem](**dict(setting.settings), seed=setting.seed)
    transform = NAMED[setting.rule](learning_rate=setting.learning_rate, **dict(setting.fixed))
    return compare(
        problem,
        transform,
        setting.steps,
        models=setting.models,
        count=setting.count,
        warm_up=setting.warm_up,
        every=20,
    )


def errors(setting: Setting, model: str) -> Mapping[str, Any]:
    """The record of one model."""
    return next(run.errors for run in compared(setting).runs if run.name == model)


def _draw(settings: Sequence[Setting], more: Sequence[Setting] = ()) -> Any:
    def draw(random: np.random.Generator, tier: str) -> tuple[Setting, ...]:
        return (*settings, *more) if tier == "long" else tuple(settings)

    return draw


def _measured(name: str, model: str = "central_map") -> Any:
    def measure(sample: Iterable[Setting]) -> dict[str, float]:
        found = {setting.label: errors(setting, model)[name] for setting in sample}
        return {label: float("nan") if value is None else value for label, value in found.items()}

    return measure


def _bounds(of: Mapping[str, float], other: float) -> Any:
    def predicted(sample: Iterable[Setting]) -> dict[str, float]:
        return {setting.label: of.get(setting.rule, other) for setting in sample}

    return predicted


def _shares(sample: Iterable[Setting]) -> dict[str, float]:
    """What the central map's distance is beyond the twin's, over the stable flow's; nan where one of them diverged."""
    found = {}
    for setting in sample:
        ends = [errors(setting, model)["distance"] for model in ("central_map", "twin", "stable_flow")]
        if None in ends:
            found[setting.label] = float("nan")
        else:
            own, twin, stable = ends
            found[setting.label] = max(own - twin, 0) / stable
    return found


CLOSER = Claim(
    id="flows/central_map_closer",
    tier="default",
    statement="after hundreds of steps at the edge the central map is at most a tenth (Adam) or a fifth (GD and, in "
    "the long tier, all other rules) as far from the optimizer as the stable flow, beyond what separates the optimizer "
    "from its own twin, which started a millionth away; with squared loss, and without GD on the regression, which has "
    "a claim of its own (flows/central_map_where_runs_split)",
    source=SOURCE,
    comparison=at_most(
        0.0,
        "the bound is part of the statement",
        ceiling=Ceiling(1.0, "a distance far below the bound, down to none, moves the bound by all of itself"),
    ),
    draw=_draw(DEFAULT, AT_THE_EDGE),
    predicted=_bounds({"adam": 0.1}, 0.2),
    measure=_shares,
)

WHERE_RUNS_SPLIT = Claim(
    id="flows/central_map_where_runs_split",
    tier="long",
    statement="on the Chebyshev regression, too, the central map is at most a fifth as far from gradient descent as "
    "the stable flow after 3,000 steps, beyond what separates gradient descent from its own twin",
    source=SOURCE,
    comparison=CLOSER.comparison,
    draw=_draw(SPLIT),
    predicted=_bounds({}, 0.2),
    measure=_shares,
    expected="refuted",
    finding="gradient descent is chaotic there and ends in one of two places, .45 of the way travelled apart; runs "
    "that start a millionth apart differ in which.  On seeds 10 to 12 the central map ended in the other place than "
    "the run, as the typical twin did on two of them",
)

LOSS = Claim(
    id="flows/mean_loss",
    tier="default",
    statement="in the first hundreds of steps at the edge the loss that the central map predicts, L + tr(H Sigma)/2, "
    "averaged over some 200 steps at a time, is on average within 5 per cent of the optimizer's: GD and Adam, in the "
    "long tier RMSProp (of longer runs see the table of models: there Adam's error reaches 10 per cent)",
    source=SOURCE,
    comparison=at_most(
        0.0,
        "the bound is part of the statement",
        ceiling=Ceiling(1.0, "an error far below the bound, down to none, moves the bound by all of itself"),
    ),
    draw=_draw(DEFAULT, (RMSPROP,)),
    predicted=_bounds({}, 0.05),
    measure=_measured("loss_error"),
)

VARIANCE = Claim(
    id="flows/variance",
    tier="default",
    statement="the central map's variance of the oscillation, which it derives from curvature alone, is within 20 per "
    "cent of the optimizer's on average over the settled phase",
    source=SOURCE,
    comparison=at_most(
        0.0,
        "the bound is part of the statement",
        ceiling=Ceiling(1.0, "an error far below the bound, down to none, moves the bound by all of itself"),
    ),
    draw=_draw(DEFAULT, (RMSPROP,)),
    predicted=_bounds({}, 0.2),
    measure=_measured("variance_error"),
)


def _each(number: Callable[[Setting, str], float | None]) -> Callable[[Iterable[Setting]], dict[str, float]]:
    """A number of every model that was asked for on every setting; nan where it has none."""

    def found(sample: Iterable[Setting]) -> dict[str, float]:
        every = {f"{setting.label}, {model}": number(setting, model) for setting in sample for model in setting.models}
        return {label: float("nan") if one is None else one for label, one in every.items()}

    return found


def _beside_stable(setting: Setting, model: str) -> float | None:
    own, stable = (errors(setting, name)["distance"] for name in (model, "stable_flow"))
    return None if own is None or stable is None else own / stable


SETTLED_DISTANCE = Claim(
    id="flows/settled_distance",
    tier="long",
    statement="started long after the onset, central map and central flow end at most a fifth as far from gradient "
    "descent and RMSProp as the stable flow after 3,000 more steps, the central map at most a tenth as far from Adam "
    "after 600",
    source=SOURCE,
    comparison=CLOSER.comparison,
    draw=_draw(SETTLED),
    predicted=_each(lambda setting, model: 0.1 if setting.rule == "adam" else 0.2),
    measure=_each(_beside_stable),
)

SETTLED_LOSS = Claim(
    id="flows/settled_loss",
    tier="long",
    statement="and the loss that they predict, averaged over some 200 steps at a time, is on average within 5 per cent "
    "of the optimizer's",
    source=SOURCE,
    comparison=LOSS.comparison,
    draw=_draw(SETTLED),
    predicted=_each(lambda setting, model: 0.05),
    measure=_each(lambda setting, model: errors(setting, model)["loss_error"]),
)


SHOWN = 5


def _levels(sample: Iterable[Setting]) -> dict[str, np.ndarray]:
    """The largest edge ratios (SHOWN,), averaged over the settled phase: the optimizer's, and the central map's."""
    found = {}
    for setting in sample:
        comparison = compared(setting)
        said = next(run.averages for run in comparison.runs if run.name == "central_map")
        for name, ratios in {"optimizer": comparison.measured.edge_ratios, "map": said.edge_ratios}.items():
            found[f"{setting.label}, {name}"] = np.asarray(ratios)[comparison.settled :, :SHOWN].mean(axis=0)
    return found


def _told_levels(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {', '.join(f'{ratio:.3f}' for ratio in levels)}" for label, levels in found.items())
    return f"{listed}.  Only the first of the optimizer's is at the edge, where the map keeps several"


LEVELS = Claim(
    id="flows/levels_of_adam",
    tier="long",
    statement="the five largest edge ratios of Adam late in training, averaged over time, beside the central map's",
    source="measured: what is left of the map's error once the path before is taken away",
    comparison=measurement(),
    draw=_draw([setting for setting in SETTLED if setting.rule == "adam"]),
    measure=_levels,
    finding=_told_levels,
)


def _table(sample: Iterable[Setting]) -> dict[str, float]:
    return {
        f"{setting.label}, {run.name}": float("nan")
        if run.errors["distance_ratio"] is None
        else run.errors["distance_ratio"]
        for setting in sample
        for run in compared(setting).runs
    }


def _told(found: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {float(value):.1f}" for label, value in found.items() if "stable" not in label)
    return f"times closer to the optimizer than the stable flow at the end, {listed}"


EVERY = Claim(
    id="flows/every_model",
    tier="long",
    statement="how much closer than the stable flow each model ends, on three seeds, MLP, CNN and regression",
    source=SOURCE,
    comparison=measurement(),
    draw=_draw(LONG),
    measure=_table,
    finding=_told,
)

CLAIMS = [CLOSER, WHERE_RUNS_SPLIT, LOSS, VARIANCE, SETTLED_DISTANCE, SETTLED_LOSS, LEVELS, EVERY]
