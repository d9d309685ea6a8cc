"""The table of models beside optimizers: every comparison as rows of plain numbers, and the rows as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toylab.claims.flow_networks import LONG, SHORT, Setting, compared

COLUMNS = {
    "distance": "distance / travelled",
    "distance_ratio": "times closer than stable",
    "onset_ratio": "at the onset",
    "loss_error": "loss error",
    "variance_error": "variance error",
    "edge_ratio_error": "edge ratio error",
    "gradients_per_step": "gradients a step",
}
"""What is shown of a model, see `toylab.model_comparison.compare`."""


def record(setting: Setting) -> dict[str, Any]:
    """One comparison, ready for JSON: `setting`, `onset`, `settled`, `travelled` and each model's errors (`models`)."""
    found = compared(setting)
    return {
        "setting": described(setting),
        "onset": found.onset,
        "settled": found.settled,
        "travelled": found.travelled,
        "refused": found.refused,
        "models": [run.errors for run in found.runs],
    }


def described(setting: Setting) -> dict[str, Any]:
    """The setting as JSON gives it back."""
    plain = dataclasses.asdict(setting)
    return {**plain, "fixed": dict(setting.fixed), "models": list(setting.models), "settings": _lists(setting.settings)}


def missing(found: Sequence[Mapping[str, Any]], settings: Iterable[Setting] = (*SHORT, *LONG)) -> list[Setting]:
    """The settings that no record is of."""
    return [setting for setting in settings if not any(one["setting"] == described(setting) for one in found)]


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """The records as a table in Markdown, one line for a model on a setting."""
    head = ["rule, problem, seed, steps", "model", *COLUMNS.values()]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in found:
        setting = one["setting"]
        loss = setting["settings"].get("loss", "mse")
        where = f"{setting['problem']} {loss}, {setting['seed']}, {setting['steps']}"
        name = f"{setting['rule']} {setting['learning_rate']:g}, {where}"
        for errors in one["models"]:
            cells = [_cell(column, errors[column]) for column in COLUMNS]
            lines.append("| " + " | ".join([name, errors["name"], *cells]) + " |")
            name = ""
    return "\n".join(lines)


def _lists(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings}


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return ""
    if column.endswith("_error"):
        return f"{100 * value:.2g} %"
    return f"{value:.1f}" if column != "distance" else f"{value:.2g}"
