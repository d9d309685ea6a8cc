"""The README and the pages of docs run, fit together, and mention only what exists."""

import pytest

from tests.structure.pages import PAGES, ROOT, SHELLS, blocks, broken_links, failures, runs, unknown_names
from toylab.claims import discovered

README = (ROOT / "README.md").read_text()
LINES = 150  # what fits on one page
QUICK = ("no-run", "slow")
LEFT_OUT = [("quick", QUICK), ("all", ("no-run",))]


def cases():
    """Every page, without its slow blocks; and with them, where it has some, for the slow tests."""
    for page in PAGES:
        found = blocks(page.read_text())
        for name, left_out in LEFT_OUT:
            if any(runs(block, left_out) for block in found) and (
                name == "quick" or any(block.mark == "slow" for block in found)
            ):
                marks = [pytest.mark.slow] if name == "all" else []
                yield pytest.param(page, left_out, marks=marks, id=f"{page.stem}-{name}")


@pytest.mark.parametrize(("page", "left_out"), list(cases()))
def test_the_blocks_of_a_page_run(tmp_path, page, left_out):
    found = failures(page.read_text(), tmp_path, left_out)
    assert not found, "\n\n".join(found)


def test_the_readme_shows_python_and_commands_that_are_run():
    shown = [block for block in blocks(README) if runs(block, QUICK)]
    assert any(block.language == "python" for block in shown), "no snippet of the README is run"
    assert any("toylab " in block.body for block in shown if block.language in SHELLS), "no command is run"


def test_the_readme_is_one_page():
    assert len(README.splitlines()) <= LINES
    assert all(len(line) <= 120 or line.startswith(("|", "!")) for line in README.splitlines())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("```python\nassert False\n```\n", 1),
        ("```bash\nfalse\ntrue\n```\n", 1),
        ("```console\n$ false\n```\n", 1),
        ("```console\n$ true\nfalse\n```\n", 0),
        ("<!-- no-run -->\n```bash\nfalse\n```\n", 0),
        ("<!-- slow -->\n```bash\nfalse\n```\n", 1),
        ("<!-- no-run -->\n```bash\nfalse\n```\n\n```python\n1 / 0\n```\n", 1),
        ("<!-- file: a.py -->\n```python\nx = 3\n```\n\n```python\nimport a\nassert a.x == 4\n```\n", 1),
        ("```text\nfalse\n```\n", 0),
    ],
)
def test_a_planted_failure_is_seen(tmp_path, text, count):
    assert len(failures(text, tmp_path)) == count


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    assert broken_links(page.read_text(), page.parent) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_of_code_exists(page):
    claims = {claim.id for claim in discovered()}
    assert unknown_names(page.read_text(), claims, {one.partition("/")[0] for one in claims}) == []


def test_every_page_of_docs_is_reached_from_the_readme_and_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in README or page.name == "index.md", page
        assert f"({page.name})" in index or page.name == "index.md", page


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("[a](nowhere.md)", 1),
        ("![a](nowhere.png) and [b](../README.md)", 1),
        ("[a](#there)\n\n# There\n", 0),
        ("[a](#not-there)\n\n# There\n", 1),
        ("[a](../README.md#no-such-heading)", 1),
        ("[a](https://example.org/nowhere)", 0),
        ("```text\n[a](nowhere.md)\n```\n", 0),
    ],
)
def test_a_planted_broken_link_is_seen(text, count):
    assert len(broken_links(text, ROOT / "docs")) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("`theory/nowhere.py`", 1),
        ("`theory/edges` and `toylab/problems/quadratics.py`", 0),
        ("`theory.nothing`", 1),
        ("`toylab.nowhere.something`", 1),
        ("`theory.edge`, `toylab.claims.registry.discovered`", 0),
        ("`edge/never_claimed`", 1),
        ("`edge/lyapunov_zero` with `a/b`", 0),
    ],
)
def test_a_planted_wrong_name_is_seen(text, count):
    assert len(unknown_names(text, {"edge/lyapunov_zero"}, {"edge"})) == count
