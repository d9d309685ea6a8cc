"""`--set name=value ...`: parsing values and refusing those that no hyperparameter can have."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from toylab.commands.bad_input import BadInput, nearest

WORDS = {"true": True, "false": False, "none": None}

LEARNING_RATES = ("learning_rate", "lr", "step_size")

# pattern of the name, what its numbers must satisfy, in words
DOMAINS = (
    ("|".join(LEARNING_RATES), lambda x: x > 0, "a number > 0"),
    (r"b\d?|beta_?\d|momentum|decay", lambda x: 0 <= x < 1, "a number in [0, 1)"),
    (r"eps|eps_root|epsilon|weight_decay", lambda x: x >= 0, "a number >= 0"),
    (r"t", lambda x: isinstance(x, int) and x >= 1, "an integer >= 1"),
)


def parsed_settings(tokens: Iterable[str]) -> dict[str, Any]:
    """`name=value` tokens as a dictionary: ints, floats, true, false, none, other words, and comma-separated
    tuples of these.

    **Errors:** `BadInput` for a token without `=`, a name that is no identifier, a repeated name, and values
    that are not finite.
    """
    settings: dict[str, Any] = {}
    for token in tokens:
        name, equals, text = token.partition("=")
        if not equals:
            raise BadInput(
                f"--set got {token!r}, needed name=value",
                "write the rule before --set, as in: optax:sgd --set momentum=.9",
            )
        if not name.isidentifier():
            raise BadInput(
                f"--set got the name {name!r}, needed the name of a parameter",
                "as in --set b1=.9 nesterov=true",
            )
        if name in settings:
            raise BadInput(f"--set got {name} twice", "give each parameter once")
        values = [_parsed_value(name, part) for part in text.split(",")]
        settings[name] = values[0] if len(values) == 1 else tuple(values)
    return settings


def check_names(settings: Mapping[str, Any], known: Iterable[str], owner: str) -> None:
    """**Errors:** `BadInput` for a setting that `owner` has no parameter for; suggests the nearest."""
    known = list(known)
    for name in settings:
        if name not in known:
            hint = nearest(name, known, f"its parameters are {', '.join(known)}")
            raise BadInput(f"{owner} has no parameter {name!r}", hint)


def check_hyperparameters(settings: Mapping[str, Any]) -> None:
    """**Errors:** `BadInput` unless every value is a number, a bool or None, and lies in the domain that its
    name implies.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or value is None:
            continue
        if not isinstance(value, int | float):
            raise BadInput(
                f"--set {name} got {value!r}, needed a number, true, false or none",
                "as in --set b1=.9 nesterov=true",
            )
        for pattern, holds, needed in DOMAINS:
            if re.fullmatch(pattern, name) and not holds(value):
                raise BadInput(
                    f"--set {name} got {value:g}, needed {needed}",
                    f"try --set {name}={10 if name == 't' else 0.1 if name in LEARNING_RATES else 0.9}",
                )


def _parsed_value(name: str, text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            raise BadInput(f"--set {name} got {text}, needed a finite number", f"as in --set {name}=0.1")
        return value
    if not text:
        raise BadInput(f"--set {name} got no value", f"as in --set {name}=0.1")
    return text
