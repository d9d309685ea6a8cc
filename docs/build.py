"""Writes the tables of the documentation: `make docs`.

A page (README.md or docs/*.md) says where a table stands, by two lines of their own,

    <!-- table: NAME -->
    <!-- end -->

and what stands between them is written by the entry NAME of `TABLES`: what the program itself says, through its own
command line, its registries and the records that it keeps.  Nothing is pasted; a test compares every page.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^<!-- table: (?P<name>\S+) -->\n(?P<body>.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
MARKER = re.compile(r"^ *<!-- *(table\b|end\b).*$", re.MULTILINE)
CHAPTERS = ("theory", "toylab", "toylab.claims", "figures")
"""The packages whose folders a reader walks through; what each is about is the first sentence of its docstring."""

Table = Callable[[], str]


class PageError(ValueError):
    """A page asks for a table in a way that cannot be answered: one line that says what to do."""


# ---------------------------------------------------------------------------------------------------------------
# Pages


def pages(root: Path = ROOT) -> list[Path]:
    """The README and every page of docs, by name."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def wanted(page: str) -> list[str]:
    """The names of the tables in a page, in order. Raises PageError for a marker that is not one of a pair."""
    blocks = list(BLOCK.finditer(page))
    inside = [marker for one in blocks for marker in MARKER.finditer(one["body"])]
    markers = len(MARKER.findall(page))
    if inside or markers != 2 * len(blocks):
        raise PageError("the markers do not pair up: write <!-- table: NAME --> and <!-- end -->, a line for each")
    return [one["name"] for one in blocks]


def written(page: str, tables: Mapping[str, Table]) -> str:
    """The page with its tables written anew. Raises PageError for markers without their pair and unknown names."""
    unknown = [name for name in wanted(page) if name not in tables]
    if unknown:
        raise PageError(f"there is no table {unknown[0]!r}: tables are {', '.join(sorted(tables))}")
    return BLOCK.sub(lambda one: f"<!-- table: {one['name']} -->\n{tables[one['name']]().strip()}\n<!-- end -->", page)


def unused(texts: Iterable[str], tables: Mapping[str, Table]) -> list[str]:
    """The tables that no page asks for."""
    used = {name for text in texts for name in wanted(text)}
    return sorted(tables.keys() - used)


# ---------------------------------------------------------------------------------------------------------------
# Tables


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the cells are Markdown already, see `plain`."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def plain(text: str) -> str:
    """Text of the program as one line of Markdown: what is in backticks stays code, nothing else has a meaning."""
    parts = re.split(r"(`+.+?`+)", " ".join(text.split()))
    special = r"([\\|*]|<(?=[a-zA-Z/!?])|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9]))"
    escaped = [re.sub(r"\|" if one.startswith("`") else special, r"\\\g<0>", one) for one in parts]
    return "".join(escaped)


def code(text: str) -> str:
    """Text of the program as it is typed."""
    return f"`{text}`"


def summary(thing: Any) -> str:
    """The first paragraph of a docstring, without what it opens for a formula that follows."""
    return plain((inspect.getdoc(thing) or "").partition("\n\n")[0]).rstrip(":")


def place(module: str) -> str:
    """A link from docs to the file or the folder of a module."""
    file = Path(str(importlib.import_module(module).__file__)).resolve().relative_to(ROOT)
    shown = file.parent if file.name == "__init__.py" else file
    return f"[{plain(shown.as_posix())}](../{shown.as_posix()})"


def output_of(*arguments: str) -> str:
    """What `toylab ARGUMENTS` prints."""
    from toylab.cli import main

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = main(arguments)
    if status:
        raise RuntimeError(f"toylab {' '.join(arguments)} ended with {status}")
    return stream.getvalue()


def commands() -> str:
    """Every command of `toylab`."""
    from toylab.commands import COMMANDS

    return grid(["command", "what it does"], ([code(f"toylab {name}"), plain(does)] for name, does in COMMANDS.items()))


def chapters() -> str:
    """Every folder of code, with the sentence that its docstring opens with."""
    from toylab.discovery import subpackages

    names = [name for package in CHAPTERS for name in (package, *subpackages(package))]
    listed = [name for name in dict.fromkeys(names) if name.rpartition(".")[0] != "toylab.claims"]
    return grid(["folder", "what it is about"], ([place(name), _opening(name)] for name in listed))


def topics() -> str:
    """Every topic of claims, with its question and how many claims answer it."""
    claims = json.loads(output_of("verify", "--list", "--json"))["claims"]
    counts = {topic: sum(one["id"].startswith(topic + "/") for one in claims) for topic in _topics(claims)}
    rows = [
        [f"[{plain(t)}](#{t.replace('_', '-')})", _opening(f"toylab.claims.{t}"), str(n)] for t, n in counts.items()
    ]
    return grid(["topic", "what it is about", "claims"], rows)


def claims() -> str:
    """Every claim under a heading of its topic, by name."""
    listed = json.loads(output_of("verify", "--list", "--json"))["claims"]
    parts = []
    for topic in _topics(listed):
        mine = sorted((one for one in listed if one["id"].startswith(topic + "/")), key=lambda one: one["id"])
        rows = [[code(one["id"]), one["kind"], one["tier"], plain(one["statement"])] for one in mine]
        title = f"### {topic.replace('_', ' ')}"
        parts.append(f"{title}\n\n{grid(['claim', 'kind', 'tier', 'statement'], rows)}")
    return "\n\n".join(parts)


def problems() -> str:
    """Every problem that comes with the laboratory."""
    from toylab.problems import NAMED

    rows = ([code(name), summary(make), place(inspect.unwrap(make).__module__)] for name, make in NAMED.items())
    return grid(["problem", "what it is", "file"], rows)


def observers() -> str:
    """Every observer."""
    from toylab.observing import named_observers

    rows = ([code(name), summary(make), place(make.__module__)] for name, make in named_observers().items())
    return grid(["observer", "what it records", "file"], rows)


def records() -> str:
    """The names and shapes of what observers record, from the docstring of `toylab.observers`."""
    import toylab

    text = inspect.getdoc(toylab.observers) or ""
    rows: list[str] = []
    for line in text.splitlines():
        if line.startswith("| |"):  # goes on with the row above
            rows[-1] = rows[-1].removesuffix(" |") + line.removeprefix("| |")
        elif line.startswith("|"):
            rows.append(line)
    return "\n".join(rows)


def figures() -> str:
    """Every figure."""
    listed = json.loads(output_of("figures", "--list", "--json"))["figures"]
    return grid(["figure", "what it shows"], ([code(one["name"]), plain(one["title"])] for one in listed))


def models() -> str:
    """Every model of training that can be laid beside an optimizer."""
    from toylab.models.named import models as named

    rows = ([code(name), summary(one.steps), place(one.steps.__module__)] for name, one in named().items())
    return grid(["model", "what it is", "file"], rows)


def model_errors() -> str:
    """The kept comparisons of models with optimizers."""
    from toylab.claims.flows.table import kept, markdown

    results = kept()
    return f"{markdown(results['records'])}\n\nRuns of {results['date']}."


SHORT = ("gd", "rmsprop", "adam", "heavy_ball")
SHOWN = ("central_map", "central_flow", "rod_flow")


def closer() -> str:
    """In short, from the kept comparisons: how many times nearer than the stable flow models end, digits in float64."""
    from toylab.claims.flows.table import kept

    results = kept()
    rows = []
    for rule in SHORT:
        runs = [one for one in results["records"] if _short_run(one["setting"], rule)]
        longest = max(one["setting"]["steps"] for one in runs)
        errors = [one["models"] for one in runs if one["setting"]["steps"] == longest]
        cells = [_range([m["distance_ratio"] for seed in errors for m in seed if m["name"] == name]) for name in SHOWN]
        rows.append([code(rule), str(longest), *cells])
    return grid(["optimizer", "steps", *(code(name) for name in SHOWN)], rows)


def _short_run(setting: Mapping[str, Any], rule: str) -> bool:
    plainly = not setting["single"] and setting["warm_up"] <= 20 and setting["settings"].get("loss") == "mse"
    return plainly and setting["problem"] == "digits_mlp" and setting["rule"] == rule


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2g} to {max(values):.2g}" if values else ""


def plateaus() -> str:
    """The kept plateaus of edge ratios on networks."""
    from toylab.claims.networks.table import markdown

    results = json.loads((ROOT / "docs" / "plateaus.json").read_text(encoding="utf-8"))
    return f"{markdown(results['rows'])}\n\nRuns of {results['date']}."


def costs() -> str:
    """The kept measurements of `make bench`."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    rows = ([plain(one["name"]), f"{one['measured']:.1f}", one["unit"]] for one in results["rows"])
    machine = results["machine"]
    return f"{grid(['what', 'cost', 'unit'], rows)}\n\nOn {machine['cores']} core(s), JAX {machine['jax']}."


def _topics(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["id"].partition("/")[0] for one in entries))


def _opening(module: str) -> str:
    return summary(importlib.import_module(module))


TABLES: Mapping[str, Table] = {
    "thresholds": lambda: output_of("derive", "--table"),
    "stabilization": lambda: output_of("derive", "--table", "--stabilization"),
    "closer": closer,
    "models": models,
    "model_errors": model_errors,
    "plateaus": plateaus,
    "topics": topics,
    "claims": claims,
    "problems": problems,
    "observers": observers,
    "records": records,
    "figures": figures,
    "commands": commands,
    "chapters": chapters,
    "costs": costs,
}
"""Name -> what writes the table of that name."""


def main(root: Path = ROOT, tables: Mapping[str, Table] = TABLES) -> int:
    """Write every page that says something else than the program; 0, or 2 if a page cannot be written."""
    once = {name: cache(table) for name, table in tables.items()}
    texts = {path: path.read_text(encoding="utf-8") for path in pages(root)}
    new = {}
    for path, text in texts.items():
        try:
            new[path] = written(text, once)
        except PageError as error:
            print(f"{path.relative_to(root)}: {error}", file=sys.stderr)
            return 2
    for path, text in new.items():
        if text != texts[path]:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
