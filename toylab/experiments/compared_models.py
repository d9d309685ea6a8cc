"""Models beside optimizers on networks: which runs are compared, and the comparisons, each run once.

Machinery for claims.  Learning rates and lengths were chosen on seeds 0 to 2; the claims use fresh ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from toylab.experiments.network_plateaus import FRESH, in_single_precision
from toylab.models.comparison.errors import Errors
from toylab.models.comparison.run import ModelComparison, compare
from toylab.optimizers import NAMED
from toylab.problems import NAMED as PROBLEMS

SOURCE = "Cohen, Damian et al. 2024 (arXiv:2410.24206) for GD and RMSProp; the central map of any rule: here"
MLP = (("hidden", (32, 32)), ("loss", "mse"), ("examples", 300))


@dataclass(frozen=True)
class Setting:
    """One rule on one problem; `models` beside it for `steps` steps after `warm_up`, `count` eigenvalues followed;
    `single`: in float32."""

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
    single: bool = False

    @property
    def label(self) -> str:
        """The name of the setting in tables and claims: no two settings share one."""
        loss, precision = dict(self.settings).get("loss", "mse"), " float32" if self.single else ""
        length = f"{self.steps} steps from {self.warm_up}"
        return f"{self.rule}, {self.problem} {loss}{precision}, {length}, seed {self.seed}"


GD = Setting("gd", 0.28, 2400)
RMSPROP = Setting("rmsprop", 3e-4, 1000, (("decay", 0.99),), warm_up=20, count=6)
ADAM = Setting("adam", 3e-3, 600, (("b2", 0.99),), warm_up=20, count=7)
DEFAULT = (GD, ADAM)
"""One seed each, the plainest rule and the hardest; RMSProp is in the long tier."""

AVERAGED = ("central_map", "central_flow", "rod_flow")
EVERY_MODEL = (*AVERAGED, "edge_flow", "predicted")
"""The models of the comparisons that are kept: a new model takes part in these once they are run again with it."""

ADAPTIVE = (("b2", 0.99),)
CHEBYSHEV = (("degree", 3), ("hidden", (32,)))
CNN = (("examples", 100),)
SMALL_CNN = (("examples", 100), ("channels", (8, 16)))
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
    Setting("gd", 0.3, 3000, (), "digits_cnn", SMALL_CNN, 0, 6),
    Setting("rmsprop", 2e-4, 3000, (("decay", 0.99),), "digits_cnn", SMALL_CNN, 20, 8, AVERAGED[:2]),
    Setting("adam", 4e-3, 2000, ADAPTIVE, "digits_cnn", SMALL_CNN, 20, 12),
)
"""The network of the papers for as long as a quarter of an hour allows, a narrower one for thousands of steps."""

SINGLE = (
    replace(GRID[0], single=True),
    Setting(
        "heavy_ball", 0.42, 3000, (("momentum", 0.5),), warm_up=20, models=("central_map", "rod_flow"), single=True
    ),
    Setting("nesterov", 0.2, 3000, (("momentum", 0.9),), warm_up=20, models=("central_map", "rod_flow"), single=True),
)
"""Runs in float32, whose rounding keeps an oscillation alive: in float64 it may die down to 1e-14 between two bursts,
and then takes hundreds of steps above the edge to come back."""

LATE = (
    replace(GD, steps=3000, warm_up=1200, models=("central_map", "central_flow")),
    replace(RMSPROP, steps=3000, warm_up=1500, count=8, models=("central_map", "central_flow")),
    replace(ADAM, warm_up=1500, count=12),
)
"""Started long after the onset: without the first overshoot, which no averaged model follows, and without what a flow
has lost before the edge."""


def _seeded(part: Sequence[Setting]) -> tuple[Setting, ...]:
    return tuple(replace(setting, seed=FRESH + seed) for seed in range(3) for setting in part)


FROM_THE_START, SETTLED = _seeded(GRID) + _seeded(CONVOLUTIONAL) + _seeded(SINGLE), _seeded(LATE)
OVERSHOOT = _seeded((replace(GD, steps=1600, models=EVERY_MODEL[:-1]),))
"""Short, for what happens between the onset and the return to the edge."""

KEPT = (*DEFAULT, RMSPROP, *FROM_THE_START, *SETTLED, *OVERSHOOT)
"""Three seeds, MLP and CNN and regression, and what the default tier runs: the table of models."""

SPLIT = tuple(setting for setting in FROM_THE_START if (setting.rule, setting.problem) == ("gd", "chebyshev_mlp"))
RARE_BURSTS = tuple(setting for setting in FROM_THE_START if setting.rule == "nesterov")
IN_SINGLE_PRECISION = tuple(setting for setting in FROM_THE_START if setting.single and setting not in RARE_BURSTS)
AT_THE_EDGE = tuple(
    setting
    for setting in FROM_THE_START
    if setting.settings != CROSS_ENTROPY and setting not in SPLIT and setting not in RARE_BURSTS
)
"""Under cross-entropy the sharpness of digits falls as soon as they are fitted: no run is at the edge for long."""


@cache
def compared(setting: Setting) -> ModelComparison:
    """The comparison, kept for the claims that share it."""
    problem = PROBLEMS[setting.problem](**dict(setting.settings), seed=setting.seed)
    problem = in_single_precision(problem) if setting.single else problem
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


def errors(setting: Setting, model: str) -> Errors:
    """The errors of one model on a setting."""
    return next(run.errors for run in compared(setting).runs if run.name == model)


def drawn(settings: Sequence[Setting], more: Sequence[Setting] = ()) -> Any:
    """The `draw` of a claim about `settings`, in the long tier about `more` as well."""

    def draw(random: np.random.Generator, tier: str) -> tuple[Setting, ...]:
        return (*settings, *more) if tier == "long" else tuple(settings)

    return draw
