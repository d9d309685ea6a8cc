"""The README runs: its commands and snippets, in order and in one empty folder.

A block that cannot run here (it needs a clone, a GPU or an hour) has `<!-- no-run -->` on the line before its
fence, one that takes a minute and is left to the slow tests `<!-- slow -->`; `<!-- file: NAME -->` there writes the
block to NAME instead, for the blocks that follow.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?:<!-- *(?P<mark>no-run|slow|file: *\S+) *-->[ \t]*\n+)?"
    r"```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("bash", "sh", "console")
SECONDS = 240  # for one block; a whole README must fit into the suite's eight minutes


class Block(NamedTuple):
    line: int
    language: str
    mark: str
    body: str


def blocks(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["language"], found["mark"] or "", found["body"])
        for found in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[str]:
    """The block as arguments of a child process; of a console block, only what follows its prompts."""
    if block.language == "python":
        return [sys.executable, "-W", "error", "-c", block.body]
    if block.language == "console":
        typed = [line[2:] for line in block.body.splitlines() if line.startswith("$ ")]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(typed)]
    return ["bash", "-euo", "pipefail", "-c", block.body]


def failures(text: str, folder: Path, left_out: tuple[str, ...] = ("no-run",)) -> list[str]:
    """Runs every block of `text` in `folder` but those with a mark in `left_out`; what failed, each with its line."""
    # the commands of this environment come first, as after activating it
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = []
    for block in blocks(text):
        if block.mark.startswith("file:"):
            (folder / block.mark.removeprefix("file:").strip()).write_text(block.body)
        elif block.mark not in left_out and block.language in (*SHELLS, "python"):
            done = subprocess.run(
                commands(block), cwd=folder, env={**os.environ, "PATH": path, "MPLBACKEND": "agg"},
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                found.append(f"line {block.line}, exit {done.returncode}:\n{block.body}{done.stderr[-2000:]}")
    return found


@pytest.mark.parametrize(
    "left_out", [("no-run", "slow"), pytest.param(("no-run",), marks=pytest.mark.slow)], ids=["quick", "all"]
)
def test_readme_runs(tmp_path, left_out):
    text = (ROOT / "README.md").read_text()
    runs = [block for block in blocks(text) if not block.mark]
    assert any(block.language == "python" for block in runs), "no snippet of the README is run"
    assert any("toylab " in block.body for block in runs if block.language in SHELLS), "no command is run"
    found = failures(text, tmp_path, left_out)
    assert not found, "\n\n".join(found)


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
