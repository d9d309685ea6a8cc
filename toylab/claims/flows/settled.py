"""Central models beside the optimizer where it has settled, and before: in the first overshoot."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from toylab.claims.claim import Claim
from toylab.claims.comparisons import measurement
from toylab.claims.flows.networks import CLOSER, LOSS
from toylab.experiments.compared_models import OVERSHOOT, SETTLED, SOURCE, Setting, compared, drawn, errors


def _each(number: Callable[[Setting, str], float | None]) -> Callable[[Iterable[Setting]], dict[str, float]]:
    """A number of every model that was asked for on every setting; nan where it has none."""

    def numbers(sample: Iterable[Setting]) -> dict[str, float]:
        every = {f"{setting.label}, {model}": number(setting, model) for setting in sample for model in setting.models}
        return {label: float("nan") if one is None else one for label, one in every.items()}

    return numbers


def _beside_stable(setting: Setting, model: str) -> float | None:
    own, stable = (errors(setting, name).distance for name in (model, "stable_flow"))
    return None if own is None or stable is None else own / stable


SETTLED_DISTANCE = Claim(
    id="flows/settled_distance",
    tier="long",
    statement="started long after the onset, central map and central flow end at most a fifth as far from gradient "
    "descent and RMSProp as the stable flow after 3,000 more steps, the central map at most a tenth as far from Adam "
    "after 600",
    source=SOURCE,
    comparison=CLOSER.comparison,
    draw=drawn(SETTLED),
    predicted=_each(lambda setting, model: 0.1 if setting.rule == "adam" else 0.2),
    measure=_each(_beside_stable),
)

SETTLED_LOSS = Claim(
    id="flows/settled_loss",
    tier="long",
    statement="started long after the onset, the loss that central map and central flow predict, averaged over some "
    "200 steps at a time, is on average within 5 per cent of the optimizer's",
    source=SOURCE,
    comparison=LOSS.comparison,
    draw=drawn(SETTLED),
    predicted=_each(lambda setting, model: 0.05),
    measure=_each(lambda setting, model: errors(setting, model).loss_error),
)


def _overshoots(sample: Iterable[Setting]) -> dict[str, float]:
    every = {f"{setting.label}, {model}": errors(setting, model) for setting in sample for model in setting.models}
    return {label: one.overshoot_ratio or float("nan") for label, one in every.items()}


def _finding_of_overshoots(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(f"{label}: {float(value):.2f}" for label, value in measured.items())
    return f"times closer to gradient descent than the stable flow in the first overshoot: {listed}"


FIRST_OVERSHOOT = Claim(
    id="flows/first_overshoot",
    tier="long",
    statement="how much closer than the stable flow each model is in the first overshoot, from the onset until the "
    "sharpness is back at the edge: the oscillation of gradient descent starts tiny, averaged models start it at once",
    source=SOURCE,
    comparison=measurement(),
    draw=drawn(OVERSHOOT),
    measure=_overshoots,
    finding=_finding_of_overshoots,
)

SHOWN = 5


def _levels(sample: Iterable[Setting]) -> dict[str, np.ndarray]:
    """The largest edge ratios (SHOWN,), averaged over the settled phase: the optimizer's, and the central map's."""
    levels = {}
    for setting in sample:
        comparison = compared(setting)
        predictions = next(run.predictions for run in comparison.runs if run.name == "central_map")
        for name, ratios in {"optimizer": comparison.measured.edge_ratios, "map": predictions.edge_ratios}.items():
            levels[f"{setting.label}, {name}"] = np.asarray(ratios)[comparison.settled :, :SHOWN].mean(axis=0)
    return levels


def _finding_of_levels(measured: dict[str, np.ndarray]) -> str:
    listed = "; ".join(
        f"{label}: {', '.join(f'{ratio:.3f}' for ratio in levels)}" for label, levels in measured.items()
    )
    return f"{listed}.  Only the first of the optimizer's is at the edge, where the map keeps several"


LEVELS = Claim(
    id="flows/levels_of_adam",
    tier="long",
    statement="the five largest edge ratios of Adam late in training, averaged over time, beside the central map's",
    source="measured: what is left of the map's error once the path before is taken away",
    comparison=measurement(),
    draw=drawn([setting for setting in SETTLED if setting.rule == "adam"]),
    measure=_levels,
    finding=_finding_of_levels,
)

CLAIMS = [SETTLED_DISTANCE, SETTLED_LOSS, LEVELS, FIRST_OVERSHOOT]
