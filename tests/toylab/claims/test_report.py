"""What people read: findings first, expected refutations before all, surprises marked."""

import io

import numpy as np
from rich.console import Console

from toylab.claims import Claim, equality, measurement, run_claim
from toylab.claims.report import findings_first, markdown_report, summary_line, terminal_table

SHARED = {"statement": "a | b", "source": "s", "tier": "quick"}
EXACT = equality(1e-6, "planted")


def record(name, comparison, measured, predicted=2.0, **fields):
    predicts = None if comparison.kind == "measurement" else lambda sample: predicted
    one = Claim(
        id=name,
        comparison=comparison,
        predicted=predicts,
        measure=lambda sample: measured,
        **SHARED,
        **fields,
    )
    return run_claim(one, tier="quick").to_json()


RECORDS = [
    record("t/measured", measurement(), np.linspace(0, 1, 50), finding="mean 0.5"),
    record("t/surprise", EXACT, 3.0),
    record("t/known", EXACT, 3.0, expected="refuted", finding="understood"),
    record("t/fine", EXACT, {"a": 2.0, "b": [2.0, 2.0]}),
    record("t/broken", EXACT, "three"),
]


def test_findings_come_in_order():
    assert [line.split()[0] for line in findings_first(RECORDS)] == [
        "t/known",
        "t/surprise",
        "t/broken",
        "t/measured",
    ]


def test_summary():
    line = summary_line(RECORDS)
    assert line.startswith("5 claims: 1 confirmed, 2 refuted, 1 measured, 1 error, ")


def test_the_terminal_table_marks_surprises_only():
    stream = io.StringIO()
    Console(file=stream, width=150).print(terminal_table(RECORDS))
    rows = {line.split()[1]: line for line in stream.getvalue().splitlines() if " t/" in line}
    assert {name for name, row in rows.items() if "!" in row} == {"t/surprise", "t/broken"}
    assert "0 .. 1 (50)" in rows["t/measured"]


def test_markdown_has_a_row_for_each_claim_and_escapes_bars():
    text = markdown_report(RECORDS, {"versions": {"jax": "1"}, "devices": ["cpu"], "sabotage": False})
    rows = [line for line in text.splitlines() if line.startswith("| t/")]
    assert len(rows) == len(RECORDS)
    assert all(line.count(" | ") == 7 for line in rows)
    assert "- devices: cpu" in text
