"""Tables in Markdown: the one place that writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> str:
    """A table in Markdown, one line a row below the headings `columns`; an upright stroke in a cell is escaped.

    **Errors:** `ValueError` for a row that has not as many cells as there are columns.
    """
    lines = [_line(columns), "|" + "---|" * len(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(columns)} columns: {list(row)}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
