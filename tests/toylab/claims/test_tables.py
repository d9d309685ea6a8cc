"""One way to write a table."""

import pytest

from toylab.claims.tables import table


def test_rows_stand_below_their_headings():
    written = table([("gd", "2/eta"), ("adam", "")], ["rule", "threshold"])
    assert written.splitlines() == ["| rule | threshold |", "|---|---|", "| gd | 2/eta |", "| adam |  |"]


def test_a_stroke_stays_inside_its_cell():
    assert table([("|z| = 1",)], ["where"]).splitlines()[-1] == "| \\|z\\| = 1 |"


def test_a_table_without_rows_has_its_headings():
    assert table([], ["rule"]) == "| rule |\n|---|"


def test_a_row_of_other_length_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        table([("gd",)], ["rule", "threshold"])
