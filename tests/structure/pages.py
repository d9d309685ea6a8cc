"""Reading the pages of the documentation: their blocks of code, their links and the names of code they mention.

A block that cannot run here (it needs a clone, a GPU or an hour) has `<!-- no-run -->` on the line before its
fence, one that takes a minute and is left to the slow tests `<!-- slow -->`; `<!-- file: NAME -->` there writes the
block to NAME instead, for the blocks that follow on the page.
"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(
    r"^(?:<!-- *(?P<mark>no-run|slow|file: *\S+) *-->[ \t]*\n+)?"
    r"```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("bash", "sh", "console")
SECONDS = 240  # for one block; the quick blocks of all pages must fit into the suite's eight minutes
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PACKAGES = ("theory", "toylab", "figures")
FOLDERS = (*PACKAGES, "docs", "tests", "benchmarks")
FILE = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w/.]*")
NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


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


def runs(block: Block, left_out: tuple[str, ...]) -> bool:
    """Whether a block is run when those with a mark in `left_out` are not."""
    return block.mark not in left_out and block.language in (*SHELLS, "python")


def failures(text: str, folder: Path, left_out: tuple[str, ...] = ("no-run",)) -> list[str]:
    """Runs every block of `text` in `folder` but those with a mark in `left_out`; what failed, each with its line."""
    # the commands of this environment come first, as after activating it
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = []
    for block in blocks(text):
        if block.mark.startswith("file:"):
            (folder / block.mark.removeprefix("file:").strip()).write_text(block.body)
        elif runs(block, left_out):
            done = subprocess.run(
                commands(block), cwd=folder, env={**os.environ, "PATH": path, "MPLBACKEND": "agg"},
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                found.append(f"line {block.line}, exit {done.returncode}:\n{block.body}{done.stderr[-2000:]}")
    return found


def prose(text: str) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The names by which the headings of a page are linked to."""
    heads = re.findall(r"^#+ +(.+?) *$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-").replace("_", "-") for head in heads}


def broken_links(text: str, folder: Path) -> list[str]:
    """The relative links of a page in `folder` that lead to no file, or to no heading of the page they lead to."""
    return [
        link for link in LINK.findall(prose(text)) if not re.match(r"[a-z]+:", link) and not leads(link, text, folder)
    ]


def leads(link: str, text: str, folder: Path) -> bool:
    """Whether a relative link of the page `text` leads to a file, and to a heading of it if it names one."""
    target, _, anchor = link.partition("#")
    if target and not (folder / target).exists():
        return False
    return not anchor or anchor in anchors((folder / target).read_text() if target else text)


def unknown_names(text: str, claims: set[str], topics: set[str]) -> list[str]:
    """What a page mentions in backticks and does not exist: files, modules and public names, claims."""
    found = []
    for mentioned in CODE.findall(prose(text)):
        if FILE.fullmatch(mentioned):
            known = (ROOT / mentioned).exists()
        elif NAME.fullmatch(mentioned):
            known = resolves(mentioned)
        else:
            topic, _, name = mentioned.partition("/")
            known = not (topic in topics and name.isidentifier()) or mentioned in claims
        if not known:
            found.append(mentioned)
    return found


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    top, *rest = dotted.split(".")
    thing: Any = importlib.import_module(top)
    for index, name in enumerate(rest):
        try:
            thing = getattr(thing, name)
        except AttributeError:
            try:
                thing = importlib.import_module(".".join([top, *rest[: index + 1]]))
            except ImportError:
                return False
    return True
