"""`--set name=value ...` and `--grid name=values ...`: parsing values and refusing those that no hyperparameter can
have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toylab.commands.parts.refusal import BadInput, nearest

WORDS = {"true": True, "false": False, "none": None}

LEARNING_RATES = ("learning_rate", "lr", "step_size")

# pattern of the name, what its numbers must satisfy, in words
DOMAINS = (
    ("|".join(LEARNING_RATES), lambda x: x > 0, "a number > 0"),
    (r"b\d?|beta_?\d|momentum|decay", lambda x: 0 <= x < 1, "a number in [0, 1)"),
    (r"eps|eps_root|epsilon|weight_decay", lambda x: x >= 0, "a number >= 0"),
    (r"t", lambda x: isinstance(x, int) and x >= 1, "an integer >= 1"),
)


OWNERS = ("rule", "problem")
"""What a name may be prefixed with where both a rule and a problem are set: `problem.seed=3`."""

MOST = 100_000
"""Values of one axis of a grid: more are a slip of the hand."""


def parsed_settings(tokens: Iterable[str], owned: bool = False) -> dict[str, Any]:
    """`name=value` tokens as a dictionary: ints, floats, true, false, none, other words, and comma-separated
    tuples of these (`3,` is a tuple of one).

    **Arguments:** `owned` lets a name begin with `rule.` or `problem.`, which it keeps.
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
        if not _is_name(name, owned):
            raise BadInput(
                f"--set got the name {name!r}, needed the name of a parameter",
                "as in --set b1=.9 nesterov=true",
            )
        if name in settings:
            raise BadInput(f"--set got {name} twice", "give each parameter once")
        parts = text.removesuffix(",").split(",")
        values = [_parsed_value(name, part) for part in parts]
        settings[name] = values[0] if len(values) == 1 and not text.endswith(",") else tuple(values)
    return settings


def parsed_grid(tokens: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """`name=values` tokens as axes: `log:a:b:n` and `lin:a:b:n` are n numbers from a to b, evenly spaced in the
    logarithm or not; anything else is a comma-separated list.

    **Errors:** `BadInput` for another form, a repeated name, numbers that are not finite or not positive in `log`.
    """
    axes: dict[str, tuple[float, ...]] = {}
    for token in tokens:
        name, equals, text = token.partition("=")
        if not equals or not _is_name(name, owned=True):
            raise BadInput(f"--grid got {token!r}, needed name=values", GRID_FORMS)
        if name in axes:
            raise BadInput(f"--grid got {name} twice", "give each parameter once")
        kind, *ends = text.split(":")
        axes[name] = _listed(name, text) if not ends else _spaced(name, kind, ends, text)
    return axes


GRID_FORMS = "as in --grid learning_rate=log:1e-4:1e-2:20 b1=0,.5,.9"


def _listed(name: str, text: str) -> tuple[float, ...]:
    return tuple(_number(name, part, text) for part in text.removesuffix(",").split(","))


def _spaced(name: str, kind: str, ends: list[str], text: str) -> tuple[float, ...]:
    if kind not in ("log", "lin") or len(ends) != 3 or not ends[2].isdecimal() or not 1 <= int(ends[2]) <= MOST:
        raise BadInput(f"--grid {name} got {text!r}, needed log:a:b:n, lin:a:b:n or a list", GRID_FORMS)
    low, high, count = _number(name, ends[0], text), _number(name, ends[1], text), int(ends[2])
    if kind == "log" and not (low > 0 and high > 0):
        raise BadInput(f"--grid {name} got {text!r}, needed ends > 0 for a logarithm", f"try {name}=lin:{text[4:]}")
    import numpy as np

    return tuple((np.geomspace if kind == "log" else np.linspace)(low, high, count).tolist())


def _number(name: str, part: str, text: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"--grid {name} got {text!r}, needed finite numbers", GRID_FORMS)
    return value


def _is_name(name: str, owned: bool) -> bool:
    owner, dot, rest = name.partition(".")
    return rest.isidentifier() if dot and owned and owner in OWNERS else name.isidentifier()


def shared_out(
    settings: Mapping[str, Any], rule: Parameters, problem: Parameters, option: str = "--set"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each setting to the rule or to the problem, by the parameters they have.

    **Errors:** `BadInput` for a name that both have, that none has, or that is given with a prefix and without.
    """
    owners = {"rule": rule, "problem": problem}
    shared: dict[str, dict[str, Any]] = {"rule": {}, "problem": {}}
    for text, value in settings.items():
        prefix, _, name = text.rpartition(".")
        owner = prefix or _owner(name, owners, option)
        if not owners[owner].takes(name):
            check_names([name], owners[owner].names, owners[owner].owner)
        if name in shared[owner]:
            raise BadInput(f"{option} got {name} twice", "give each parameter once")
        shared[owner][name] = value
    return shared["rule"], shared["problem"]


@dataclass(frozen=True)
class Parameters:
    """The names of what a callable takes; `open_ended` if it takes any (`**settings`)."""

    owner: str
    names: tuple[str, ...]
    open_ended: bool = False

    def takes(self, name: str) -> bool:
        """Whether the callable has such a parameter."""
        return name in self.names or self.open_ended


def _owner(name: str, owners: Mapping[str, Parameters], option: str) -> str:
    named = [owner for owner, one in owners.items() if name in one.names]
    named = named or [owner for owner, one in owners.items() if one.open_ended]
    if len(named) == 1:
        return named[0]
    if named:
        both = " and ".join(f"{owners[owner].owner}" for owner in named)
        raise BadInput(f"{option} got {name}, a parameter of both {both}", f"write rule.{name} or problem.{name}")
    known = [name for one in owners.values() for name in one.names]
    parameters = "; ".join(f"{one.owner} has {', '.join(one.names) or 'none'}" for one in owners.values())
    raise BadInput(
        f"neither {' nor '.join(one.owner for one in owners.values())} has a parameter {name!r}",
        nearest(name, known, parameters),
    )


def check_names(settings: Iterable[str], known: Iterable[str], owner: str) -> None:
    """**Errors:** `BadInput` for a setting that `owner` has no parameter for; suggests the nearest."""
    known = list(known)
    for name in settings:
        if name not in known:
            hint = nearest(name, known, f"its parameters are {', '.join(known)}")
            raise BadInput(f"{owner} has no parameter {name!r}", hint)


def check_hyperparameters(settings: Mapping[str, Any], option: str = "--set") -> None:
    """**Errors:** `BadInput` unless every value is a number, a bool or None, and lies in the domain that its
    name implies.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or value is None:
            continue
        if not isinstance(value, int | float):
            raise BadInput(
                f"{option} {name} got {value!r}, needed a number, true, false or none",
                "as in --set b1=.9 nesterov=true",
            )
        for pattern, holds, needed in DOMAINS:
            if re.fullmatch(pattern, name) and not holds(value):
                raise BadInput(
                    f"{option} {name} got {value:g}, needed {needed}",
                    f"try {option} {name}={10 if name == 't' else 0.1 if name in LEARNING_RATES else 0.9}",
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
