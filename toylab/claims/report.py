"""Results for people: a table for the terminal and the same as Markdown. Both take the records of
`Result.to_json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from toylab.claims.runner import as_expected
from toylab.claims.tables import table

STYLES = {
    "confirmed": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "measured": "cyan",
    "error": "bold red",
}


COLUMNS = ("claim", "kind", "predicted", "measured", "tolerance", "resolution", "verdict")
"""Headings of what is shown of a claim, before its seconds."""


def findings_first(records: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each finding: expected refutations first, then surprises, then what was measured."""

    def rank(record: dict[str, Any]) -> int:
        if record["expected"] == "refuted":
            return 0
        return 1 if record["verdict"] != record["expected"] else 2

    noteworthy = sorted((record for record in records if record["finding"]), key=rank)
    return [f"{record['id']} ({record['verdict']}): {record['finding']}" for record in noteworthy]


def summary_line(records: Sequence[dict[str, Any]]) -> str:
    """`3 claims: 2 confirmed, 1 measured, 4.1 s`."""
    counts = Counter(record["verdict"] for record in records)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict])
    seconds = sum(record["seconds"] for record in records)
    noun = "claim" if len(records) == 1 else "claims"
    return f"{len(records)} {noun}: {verdicts or 'none finished'}, {seconds:.1f} s"


def terminal_table(records: Sequence[dict[str, Any]], *, sabotage: bool = False) -> Table:
    """The table that `toylab verify` prints. A verdict that is not the expected one carries an exclamation
    mark.
    """
    shown = Table(title="predictions moved by 1.01 resolutions" if sabotage else None, header_style="bold")
    for heading in (*COLUMNS, "s"):
        shown.add_column(heading, overflow="fold", justify="right" if heading == "s" else "left")
    for record in records:
        *cells, verdict, seconds = _cells(record, sabotage)
        shown.add_row(*map(Text, cells), Text(verdict, style=STYLES[record["verdict"]]), Text(seconds))
    return shown


def markdown_report(records: Sequence[dict[str, Any]], environment: dict[str, Any]) -> str:
    """The same results as Markdown: summary, findings, table, statements with sources, environment."""
    sabotage = bool(environment.get("sabotage"))
    lines = ["# Verification", "", summary_line(records), ""]
    if sabotage:
        lines += ["Every prediction was moved by 1.01 resolutions: all but measurements must be refuted.", ""]
    if findings := findings_first(records):
        lines += ["## Findings", "", *(f"- {_escaped(line)}" for line in findings), ""]
    lines += ["## Claims", "", table([_cells(record, sabotage) for record in records], [*COLUMNS, "seconds"])]
    lines += ["", "## Statements", ""]
    for record in records:
        statement = record["statement"].rstrip(".")
        line = f"- **{record['id']}** ({record['tier']}): {statement}. *{record['source']}*"
        if record["tolerance"] is not None:
            line += f" Tolerance {record['tolerance']:g}: {record['tolerance_reason']}."
        lines.append(line)
    lines += [
        "",
        "## Environment",
        "",
        *(f"- {key}: {_listed(value)}" for key, value in environment.items()),
        "",
    ]
    return "\n".join(lines)


def _cells(record: dict[str, Any], sabotage: bool) -> tuple[str, ...]:
    surprise = "" if as_expected(record, sabotage=sabotage) else " !"
    tolerance, resolution = record["tolerance"], record["resolution"]
    return (
        record["id"],
        record["kind"],
        _range(record["predicted"]),
        _range(record["measured"]),
        "" if tolerance is None else f"{tolerance:.2g}",
        "" if resolution is None else f"{resolution:.2g}",
        record["verdict"] + surprise,
        f"{record['seconds']:.1f}",
    )


def _range(value: Any) -> str:
    """One number, or `min .. max (count)` of many."""
    numbers = list(_numbers(value))
    if len(numbers) < 2:
        return "".join(f"{number:.7g}" for number in numbers)
    return f"{min(numbers):.4g} .. {max(numbers):.4g} ({len(numbers)})"


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _numbers(entry)
    elif value is not None:
        yield float(value)


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
