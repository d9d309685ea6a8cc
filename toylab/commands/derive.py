"""`toylab derive RULE`: the theorem on a rule's edge of stability, from the rule's own code."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from toylab.commands.parts import stabilization
from toylab.commands.parts.refusal import BadInput
from toylab.commands.parts.resolve import Resolved, resolved_rule
from toylab.commands.parts.settings import check_hyperparameters, parsed_settings
from toylab.commands.parts.shadowing import require_own
from toylab.numerics.json_numbers import number_or_name


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "rule", metavar="RULE", nargs="?", help="built-in name, optax:NAME, module:factory or file.py:factory"
    )
    parser.add_argument("--table", action="store_true", help="all built-in rules as a Markdown table instead of RULE")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="hyperparameters, as b1=.9 nesterov=true; t=100 holds the step count; evaluates the theorem",
    )  # fmt: skip
    parser.add_argument(
        "--stabilization", action="store_true", help="how the rule stabilises itself at the edge, instead of the edge"
    )
    parser.add_argument("--latex", action="store_true", help="the theorem in LaTeX")
    parser.add_argument("--time-limit", type=float, default=30.0, metavar="S", help="seconds to derive (default 30)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 with the theorem on stdout. **Errors:** `BadInput`, also for what theory refuses."""
    if not 0 < options.time_limit < math.inf:
        raise BadInput(
            f"--time-limit got {options.time_limit:g}, needed a number of seconds > 0", "try --time-limit 60"
        )
    if options.table:
        require_own("theory")
        print(_whole_table(options))
        return 0
    if options.rule is None:
        raise BadInput("no RULE was given, one was needed", "try toylab derive adam; see toylab derive --help")
    settings = parsed_settings(options.set)
    check_hyperparameters(settings)
    step_count = settings.pop("t", None)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is not the answer
        rule = resolved_rule(options.rule, settings)
        edge, numbers, used = _derived(rule, settings, step_count, options.time_limit)
        stable = _stabilization(rule.name, edge, options.time_limit) if options.stabilization else None
    if stable is not None:
        print(_stabilization_text(rule.name, stable, used if settings else None, options))
    elif options.json:
        print(json.dumps(_record(rule.name, edge, numbers, used, options.latex), allow_nan=False))
    elif options.latex:
        print(edge.latex())
    else:
        print("\n".join(_lines(rule.name, edge, numbers, used)))
    return 0


def _stabilization(name: str, edge: Any, time_limit: float) -> Any:
    import theory
    from theory.self_stabilization.any_rule import stabilization_of
    from theory.tracing.time_limit import time_limited

    try:
        with time_limited(time_limit):
            return stabilization_of(edge)
    except theory.Refusal as refusal:
        raise BadInput(f"{name}: {refusal}", refusal.hint) from refusal


def _stabilization_text(name: str, theorem: Any, used: Mapping[str, float] | None, options: argparse.Namespace) -> str:
    if options.json:
        return json.dumps(stabilization.record(name, theorem, used), allow_nan=False)
    return theorem.latex() if options.latex else "\n".join(stabilization.lines(name, theorem, used, _pretty))


def _whole_table(options: argparse.Namespace) -> str:
    from toylab.optimizers import NAMED

    if not options.stabilization:
        return json.dumps(_tabled()) if options.json else "\n".join(_markdown(_tabled()))
    if options.json:
        from theory.self_stabilization.any_rule import stabilizations

        rows = dict(stabilizations(NAMED))
        records = {
            name: {"refused": str(row)} if isinstance(row, Exception) else stabilization.record(name, row, None)
            for name, row in rows.items()
        }
        return json.dumps(records)
    return "\n".join(stabilization.table(NAMED))


def _tabled() -> dict[str, Any]:
    """`Edge.to_json` of every built-in rule."""
    import theory
    from toylab.optimizers import NAMED

    return {name: theory.cached_edge(factory).to_json() for name, factory in NAMED.items()}


def _markdown(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| rule | threshold of lambda_max(P^-1 H) | P | crossing |"
    yield "|---|---|---|---|"
    for name, record in records.items():
        yield f"| {name} | `{record['threshold']}` | `{record['preconditioner']}` | {record['crossing']} |"


def _derived(
    rule: Resolved, settings: Mapping[str, Any], step_count: int | None, time_limit: float
) -> tuple[Any, Any, dict[str, float]]:
    """The theorem and, if there are settings, its numbers there and the values they were computed at."""
    require_own("theory")
    import theory

    try:
        edge = theory.edge(rule.factory, t=step_count, time_limit=time_limit, **settings)
        return (edge, *_evaluated(edge, settings)) if settings else (edge, None, {})
    except theory.Refusal as refusal:
        raise BadInput(f"{rule.name}: {refusal}", refusal.hint) from refusal


def _evaluated(edge: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """`Edge.at` where the settings say, and at the reference value of every other parameter."""
    numeric = {name: value for name, value in settings.items() if name in edge.symbols and not isinstance(value, bool)}
    used = {name: float(value) for name, value in edge.reference.items() if name in edge.symbols} | numeric
    return edge.at(**used), used


def _record(name: str, edge: Any, numbers: Any, used: Mapping[str, float], latex: bool) -> dict[str, Any]:
    record = {**edge.to_json(), "rule": name, "source": _source(name, edge)}
    if latex:
        record["latex"] = edge.latex()
    if numbers is not None:
        record["at"] = {"settings": dict(used), **_plain_numbers(numbers)}
    return record


def _source(name: str, edge: Any) -> str:
    """Where the rule's code is: for a file of the user's, the file instead of the module that it was loaded
    as.
    """
    return name if ".py:" in name else edge.source


def _plain_numbers(numbers: Any) -> dict[str, Any]:
    """The fields of `theory.EdgeNumbers` that people ask for, as JSON; what is not finite becomes a string."""
    kept = ("threshold", "k", "crossing", "angle", "windows", "gain_dc", "gain_nyquist", "growth")
    return {name: _plain(getattr(numbers, name)) for name in kept}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return number_or_name(value)


def _lines(name: str, edge: Any, numbers: Any, used: Mapping[str, float]) -> Iterator[str]:
    import sympy

    yield f"{name}: {edge.statement}"
    step = [
        sympy.Eq(
            sympy.Symbol(f"{str(left).rstrip('_')}_next"), left + right if left.name == "w" else right, evaluate=False
        )
        for left, right in edge.step_map.items()
    ]
    sections = {
        "one step": step,
        "preconditioner P, in the held slow state": [edge.preconditioner],
        "filter Q(z)": [edge.filter],
        "matrix": [edge.matrix],
        "threshold of lambda_max(P^-1 matrix)": [edge.threshold],
        f"crossing: {edge.crossing}, at z =": [edge.multiplier],
        "growth d|z|/dk at the crossing": [edge.growth],
        "gain Q(1), the speed of averaged motion": [edge.gain_dc],
        "gain Q(-1)": [edge.gain_nyquist],
        "characteristic polynomial, k = eta lambda(P^-1 matrix)": [edge.characteristic_polynomial],
        "stable windows, at the reference hyperparameters": edge.windows,
        "stable exactly where all of these are positive": edge.conditions,
    }
    for heading, expressions in sections.items():
        yield from ("", heading)
        for expression in expressions:
            yield from _pretty(expression)
    yield from ("", "assumptions", *(f"    {assumption}" for assumption in edge.assumptions))
    yield from ("", "symbols and reference values")
    for parameter, symbol in edge.symbols.items():
        yield f"    {symbol!s:<10} {parameter} = {float(edge.reference[parameter]):g}"
    yield from ("", f"source: {_source(name, edge)}")
    if numbers is not None:
        yield from ("", "at " + ", ".join(f"{parameter} = {value:g}" for parameter, value in used.items()))
        for field, value in _plain_numbers(numbers).items():
            yield f"    {field:<13} {_shown(value)}"


def _pretty(expression: Any) -> list[str]:
    """An expression as indented lines of two-dimensional text, in ASCII where the terminal has no more."""
    if expression is None:
        return ["    only implicit, see the conditions"]
    if isinstance(expression, str):
        return [f"    {expression}"]
    import sympy

    unicode = "utf" in (sys.stdout.encoding or "").lower()
    text = sympy.pretty(sympy.sympify(expression), use_unicode=unicode, wrap_line=False)
    return [f"    {line}" for line in text.splitlines()]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"({_shown(entry[0])}, {_shown(entry[1])})" for entry in value)
    return value if isinstance(value, str) else f"{value:.10g}"
