"""The table of models beside optimizers: every comparison as rows of plain numbers, and the rows as text."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toylab.claims.tables import table
from toylab.experiments.compared_models import KEPT, Setting, compared

COLUMNS = {
    "distance": "distance / travelled",
    "distance_ratio": "times closer than stable",
    "onset_ratio": "half-way to the settled phase",
    "loss_error": "loss error",
    "variance_error": "variance error",
    "axis_error": "along axes",
    "edge_ratio_error": "edge ratio error",
    "gradients_per_step": "gradients a step",
}
"""What is shown of a model, see `toylab.models.comparison.errors.Errors`."""


def record(setting: Setting) -> dict[str, Any]:
    """One comparison, ready for JSON: `setting`, `onset`, `settled`, `travelled` and each model's errors (`models`)."""
    comparison = compared(setting)
    return {
        "setting": described(setting),
        "onset": comparison.onset,
        "settled": comparison.settled,
        "travelled": comparison.travelled,
        "refused": comparison.refused,
        "models": [run.record() for run in comparison.runs],
    }


def kept() -> dict[str, Any]:
    """What `make models` has written: the `date` of the latest run and the `records`, see `record`."""
    file = importlib.resources.files("toylab.claims.flows") / "models.json"
    return json.loads(file.read_text(encoding="utf-8"))


def described(setting: Setting) -> dict[str, Any]:
    """The setting as JSON gives it back."""
    plain = dataclasses.asdict(setting)
    return {**plain, "fixed": dict(setting.fixed), "models": list(setting.models), "settings": _lists(setting.settings)}


def missing(records: Sequence[Mapping[str, Any]], settings: Iterable[Setting] = KEPT) -> list[Setting]:
    """The settings that no record is of."""
    return [setting for setting in settings if not any(one["setting"] == described(setting) for one in records)]


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The records as a table in Markdown: a line for a model on a setting, mean (lowest to highest) of the seeds."""
    rows = []
    for name, alike in _settings(records).items():
        for i, model in enumerate(errors["name"] for errors in alike[0]["models"]):
            seeds = [errors for one in alike for errors in one["models"] if errors["name"] == model]
            cells = [_cell(column, [errors.get(column) for errors in seeds]) for column in COLUMNS]
            rows.append(["" if i else f"{name} ({len(alike)})", model + _unsolved(seeds), *cells])
    return table(rows, ["rule, problem, loss, steps from (seeds)", "model", *COLUMNS.values()])


def _settings(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The records of settings that differ in the seed only, by what a table calls them.

    Raises ValueError if others have the same name.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for one in records:
        setting = one["setting"]
        loss = setting["settings"].get("loss", "mse")
        length = f"{setting['steps']} from {setting['warm_up']}"
        loss += " float32" if setting["single"] else ""
        name = f"{setting['rule']} {setting['learning_rate']:g}, {setting['problem']}, {loss}, {length}"
        same = alike.setdefault(name, [])
        if same and {**same[0]["setting"], "seed": 0} != {**setting, "seed": 0}:
            raise ValueError(f"two settings are called {name!r} in the table of models")
        same.append(one)
    return alike


def _lists(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings}


def _unsolved(seeds: Sequence[Mapping[str, Any]]) -> str:
    """The note on a model whose solvers missed their tolerance in more than a hundredth of the steps."""
    share = sum(errors["unconverged"] for errors in seeds) / len(seeds)
    return f" (unconverged in {share:.0%} of the steps)" if share > 0.01 else ""


def _cell(column: str, values: Sequence[float | None]) -> str:
    """Empty where a seed has no number: the mean of the others would be another quantity."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    scale, unit = (100, " %") if column.endswith("_error") else (1, "")
    low, mean, high = (_short(scale * value) for value in (min(known), sum(known) / len(known), max(known)))
    return f"{mean}{unit}" if low == high else f"{mean}{unit} ({low} to {high})"


def _short(value: float) -> str:
    """Two digits, or all of those before the point."""
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}" if value < 1e4 else f"{value:.0e}"
