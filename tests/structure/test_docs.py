"""Every table of the documentation is what the program says, and `make docs` writes no other."""

import importlib.util
import json

import pytest
import sympy

from tests.structure.pages import PAGES, ROOT
from toylab.optimizers import NAMED

SPEC = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
docs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(docs)


def test_every_page_is_what_the_generator_writes():
    """One test for all pages: theorems that are derived once serve the tables and what else is asked of them."""
    stale = [page.name for page in PAGES if docs.written(page.read_text(), docs.TABLES) != page.read_text()]
    assert stale == [], "run `make docs`"
    assert len(docs.TABLES["thresholds"]().splitlines()) == len(NAMED) + 2
    # and as JSON one object of theorems, which are derived by now
    records = json.loads(docs.output_of("derive", "--table", "--json"))
    assert set(records) == set(NAMED)
    eta, beta1 = sympy.symbols("eta beta1")
    assert sympy.simplify(sympy.sympify(records["heavy_ball"]["threshold"]) - 2 * (1 + beta1) / eta) == 0


def test_every_table_is_used():
    assert docs.unused([page.read_text() for page in PAGES], docs.TABLES) == []
    assert docs.unused([f"{begin('a')}\n{END}\n"], {"a": str, "b": str}) == ["b"]


def begin(name):
    return f"<!-- table: {name} -->"


END = "<!-- end -->"


def test_a_planted_wrong_table_is_written_anew():
    page = f"# Title\n\n{begin('a')}\n| wrong |\n{END}\n\ntext\n"
    assert docs.written(page, {"a": lambda: "| right |\n"}) == f"# Title\n\n{begin('a')}\n| right |\n{END}\n\ntext\n"


@pytest.mark.parametrize(
    "page",
    [
        f"{begin('unknown')}\n{END}\n",
        f"{begin('a')}\n",
        f"{END}\n",
        f"{begin('a')}\n{begin('a')}\n{END}\n",
        f"<!-- table : a -->\n{END}\n",
        f"{begin('a')} \n{END}\n",
    ],
)
def test_planted_wrong_markers_are_refused(page):
    with pytest.raises(docs.PageError):
        docs.written(page, {"a": str})


def test_the_generator_writes_only_what_changes(tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("no table\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text(f"{begin('a')}\n{END}\n")
    asked = []
    tables = {"a": lambda: f"row {asked.append(0) or len(asked)}"}
    assert docs.main(tmp_path, tables) == 0
    assert page.read_text() == f"{begin('a')}\nrow 1\n{END}\n"
    assert capsys.readouterr().out == "wrote docs/page.md\n"
    page.write_text(f"{begin('b')}\n{END}\n")
    assert docs.main(tmp_path, tables) == 2
    assert "docs/page.md" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("k* |z| <1 and <b", r"k\* \|z\| <1 and \<b"),
        ("`a*b|c` x_1 _b_", r"`a*b\|c` x_1 \_b\_"),
        ("two\n  lines", "two lines"),
    ],
)
def test_text_of_the_program_is_plain_markdown(text, shown):
    assert docs.plain(text) == shown
