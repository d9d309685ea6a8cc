"""What `train`, `sweep` and `edge` have in common: PROBLEM, RULE, their settings, and where results go."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toylab.commands.parts.files import writable_folder
from toylab.commands.parts.refusal import BadInput
from toylab.commands.parts.resolve import Resolved, built_problem, named_rule, resolved_problem, resolved_rule
from toylab.commands.parts.settings import LEARNING_RATES, check_hyperparameters, parsed_settings, shared_out
from toylab.numerics.json_numbers import number_or_null

DEFAULT_OUT = "out/runs"

DIVERGED = 1e6
"""Times the loss at the start: episodes at the edge stay far below, a linear instability passes it soon."""


def add_experiment(parser: argparse.ArgumentParser, steps: int | None) -> None:
    """Declare what names an experiment; `steps`: the default of --steps."""
    parser.add_argument("problem", metavar="PROBLEM", help="built-in name, module:factory or file.py:factory")
    parser.add_argument("rule", metavar="RULE", help="built-in name, optax:NAME, module:factory or file.py:factory")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="of rule and problem, as learning_rate=.1 hidden=64,64; rule.NAME or problem.NAME where both have it",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help=f"steps of the rule (default {steps})")
    parser.add_argument("--batch-size", type=int, metavar="B", help="examples in a step's gradient (default: all)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the problem, if it has one, and of the mini-batches (default 0)"
    )


def add_recording(parser: argparse.ArgumentParser) -> None:
    """Declare what is recorded, and where to."""
    parser.add_argument(
        "--observe", nargs="+", action="extend", metavar="NAME[=K]",
        help="what to record beside the loss, as edge_ratio sharpness=2 accuracy (default edge_ratio)",
    )  # fmt: skip
    parser.add_argument(
        "--diverge-above", type=float, metavar="LOSS",
        help="a run with a larger loss has diverged and stops (default: a million times the loss at the start)",
    )  # fmt: skip
    parser.add_argument("--every", type=int, default=1, metavar="N", help="record two steps out of N (default 1: all)")
    parser.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"where results go (default {DEFAULT_OUT})")


@dataclass(frozen=True)
class Experiment:
    """PROBLEM and RULE with the settings of each; `seed` of the command line (or 0)."""

    problem: Resolved
    rule: Resolved
    problem_settings: dict[str, Any]
    rule_settings: dict[str, Any]
    seed: int

    def built_problem(self) -> Any:
        """The problem. **Errors:** `BadInput`."""
        return built_problem(self.problem, self.problem_settings)

    def transform(self) -> Any:
        """The built rule. **Errors:** `BadInput` if a hyperparameter without default is missing."""
        self.require(self.rule_settings)
        return self.rule.called(self.rule_settings)

    def require(self, given: Mapping[str, Any]) -> None:
        """**Errors:** `BadInput` unless every hyperparameter of the rule without a default is `given`."""
        missing = [name for name in self.rule.required() if name not in given]
        if missing:
            name = missing[0]
            value = ".01" if name in LEARNING_RATES else "..."
            raise BadInput(f"{self.rule.name} needs {', '.join(missing)}", f"give it with --set {name}={value}")

    def named_settings(self) -> dict[str, Any]:
        """What was set, as JSON."""
        return {
            "problem": self.problem.name,
            "rule": self.rule.name,
            "problem_settings": self.problem_settings,
            "rule_settings": self.rule_settings,
            "seed": self.seed,
        }


def experiment(options: argparse.Namespace, grid: Mapping[str, Any] | None = None) -> Experiment:
    """What the command line names; `grid`: swept hyperparameters, which count as given.

    **Errors:** `BadInput` for names and settings that do not fit; nothing has been computed then.
    """
    for name in ("steps", "every", "batch_size"):
        number = getattr(options, name, None)
        least = 0 if name == "steps" and getattr(options, "none_is_fine", False) else 1
        if number is not None and number < least:
            flag = f"--{name.replace('_', '-')}"
            raise BadInput(f"{flag} got {number}, needed an integer >= {least}", f"try {flag} 100")
    seed = 0 if options.seed is None else options.seed
    if not 0 <= seed < 2**31:
        raise BadInput(f"--seed got {seed}, needed an integer in [0, 2^31)", "try --seed 0")
    settings = parsed_settings(options.set, owned=True)
    problem = resolved_problem(options.problem)
    rule_settings, problem_settings = shared_out(settings, named_rule(options.rule).parameters, problem.parameters)
    check_hyperparameters(rule_settings)
    rule = resolved_rule(options.rule, rule_settings)
    if "seed" in problem.parameters.names:
        if options.seed is not None and "seed" in problem_settings:
            raise BadInput("the problem's seed is given by --seed and by --set", "leave one of them out")
        problem_settings.setdefault("seed", seed)
    setup = Experiment(problem, rule, problem_settings, rule_settings, seed)
    if grid is not None:
        setup.require({**rule_settings, **grid})
    return setup


def chosen_observers(tokens: list[str] | None) -> tuple[Any, bool]:
    """`toylab.observers` of `NAME` or `NAME=K` tokens, and whether the user chose.

    **Errors:** `BadInput` for unknown names and options that are no counts.
    """
    import toylab

    options: dict[str, Any] = {}
    for token in ["edge_ratio"] if tokens is None else tokens:
        name, equals, text = token.partition("=")
        if equals and not text.isdecimal():
            raise BadInput(f"--observe {name} got {text!r}, needed a count", f"as in --observe {name}=1")
        if name in options:
            raise BadInput(f"--observe got {name} twice", "give each observer once")
        options[name] = int(text) if equals else 1
    try:
        return toylab.observers(**options), tokens is not None
    except (TypeError, ValueError) as error:
        raise BadInput(f"--observe: {error}", "as in --observe edge_ratio sharpness=2") from error


def loss_bound(options: argparse.Namespace, problem: Any) -> float:
    """Above which loss a run counts as diverged. **Errors:** `BadInput` for a bound that is no number > 0."""
    bound = options.diverge_above
    if bound is not None:
        if not bound > 0:
            raise BadInput(f"--diverge-above got {bound:g}, needed a number > 0", "try --diverge-above 1e6")
        return bound
    start = float(problem.value(problem.params))
    return DIVERGED * start if start > 0 else math.inf


def without_edge(observers: Any, chosen: bool, refusal: Any, rule: str) -> Any:
    """The observers that need no edge, for a rule that has none; said on stderr.

    **Errors:** `BadInput` with the reason if the user asked for the edge ratio.
    """
    if chosen:
        raise BadInput(f"{rule} has no edge ratio: {refusal.reason}", "choose others with --observe")
    import toylab

    print(f"toylab: {rule} has no linear edge, so no edge ratio is recorded: {refusal.reason}", file=sys.stderr)
    return toylab.observers(**{name: option for name, option in observers.chosen if "edge_ratio" not in name})


@contextmanager
def results_folder(path: str) -> Generator[Path]:
    """The folder for results; folders that were made for it are removed again if nothing was saved."""
    missing = [one for one in (Path(path), *Path(path).parents) if not one.exists()]
    folder = writable_folder(path)
    try:
        yield folder
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


def file_name(found: Experiment, configuration: Mapping[str, Any], noun: str = "") -> str:
    """RULE-PROBLEM-HASH.npz, the hash that of the whole configuration: another experiment gets another name."""
    text = json.dumps({**found.named_settings(), **configuration}, sort_keys=True, default=repr)
    names = (re.sub(r"[^A-Za-z0-9_.]+", "_", Path(one.name).name) for one in (found.rule, found.problem))
    parts = [*names, *([noun] if noun else []), hashlib.sha256(text.encode()).hexdigest()[:10]]
    return "-".join(parts) + ".npz"


def plain(value: Any) -> Any:
    """Numbers and arrays as JSON: what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return number_or_null(value) if isinstance(value, float) else value
