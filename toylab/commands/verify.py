"""`toylab verify`: run claims, print a table, write `results.json` and `results.md`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toylab.commands.parts.files import writable_folder, write_atomically
from toylab.commands.parts.refusal import BadInput

DEFAULT_OUT = "out/report"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="CLAIM or TOPIC", help="which claims (default: all of the tier)")
    tier = parser.add_mutually_exclusive_group()
    tier.add_argument(
        "--quick",
        dest="tier",
        action="store_const",
        const="quick",
        help="claims that take <= 3 minutes together",
    )
    tier.add_argument("--long", dest="tier", action="store_const", const="long", help="all claims, hours")
    parser.set_defaults(tier="default")
    parser.add_argument(
        "--sabotage",
        action="store_true",
        help="move every prediction by 1.01 resolutions: all must be refuted",
    )
    parser.add_argument("--list", action="store_true", help="list the claims and run nothing")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of what the claims draw (default 0)")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that run claims side by side (default: 2 on two cores, 1 on a GPU)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the results in DIR that the same code and options gave"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where results go (default {DEFAULT_OUT}, {DEFAULT_OUT}/sabotage if sabotaged)",
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0 if every verdict is the expected one, 1 if not, 130 if interrupted (what is finished is
    saved).
    """
    from toylab.claims import as_expected
    from toylab.training.environment import environment_record

    claims = _chosen(options)
    if options.list:
        return _listed(claims, options.json)
    if options.seed < 0:
        raise BadInput(f"--seed got {options.seed}, needed an integer >= 0", "try --seed 0")
    if options.jobs is not None and options.jobs < 1:
        raise BadInput(f"--jobs got {options.jobs}, needed an integer >= 1", "try --jobs 2")
    folder = writable_folder(options.out or (f"{DEFAULT_OUT}/sabotage" if options.sabotage else DEFAULT_OUT))
    environment = environment_record(seed=options.seed, tier=options.tier, sabotage=options.sabotage)
    records = _resumed(folder, environment, {claim.id for claim in claims}) if options.resume else []
    interrupted = _ran(claims, records, options, lambda: _save(folder, records, environment))
    _save(folder, records, environment)
    if options.json:
        print(json.dumps({"claims": records, "environment": environment}, allow_nan=False))
    else:
        _print_report(records, options.sabotage, folder)
    if interrupted:
        print(
            f"toylab: interrupted, {len(records)} of {len(claims)} claims are saved in {folder}",
            file=sys.stderr,
        )
        return 130
    return 0 if all(as_expected(record, sabotage=options.sabotage) for record in records) else 1


def _chosen(options: argparse.Namespace) -> list[Any]:
    from toylab.claims import UnknownClaim, discovered, selected
    from toylab.commands.parts.shadowing import require_own

    require_own("theory")
    try:
        claims = discovered()
        tier = "long" if options.list and options.tier == "default" else options.tier
        chosen = selected(claims, options.names, tier)
    except UnknownClaim as error:
        raise BadInput(str(error), error.hint) from error
    if not chosen:
        raise BadInput(f"there is no claim to run in the tier {options.tier}", "see toylab verify --list")
    return chosen


def _listed(claims: Sequence[Any], as_json: bool) -> int:
    if as_json:
        fields = ("id", "kind", "statement", "source", "expected", "tier")
        print(json.dumps({"claims": [{field: getattr(claim, field) for field in fields} for claim in claims]}))
        return 0
    width = max(len(claim.id) for claim in claims)
    for claim in claims:
        print(f"{claim.id:<{width}}  {claim.kind:<11}  {claim.tier:<7}  {claim.statement}")
    return 0


def _ran(claims: Sequence[Any], records: list[dict[str, Any]], options: argparse.Namespace, save: Any) -> bool:
    """Run the claims without a record, adding to `records`, in the claims' order, and saving after each; True if
    interrupted."""
    from rich.console import Console
    from rich.markup import escape

    from toylab.claims.report import STYLES

    console = Console(stderr=True, highlight=False)
    finished = {record["id"] for record in records}
    places = {claim.id: number for number, claim in enumerate(claims, start=1)}
    todo = [claim for claim in claims if claim.id not in finished]
    try:
        for record in _records(todo, places, options, console):
            records.append(record)
            records.sort(key=lambda one: places[one["id"]])
            save()
            place = escape(f"[{places[record['id']]}/{len(claims)}] {record['id']}")
            verdict = record["verdict"]
            console.print(f"{place} [{STYLES[verdict]}]{verdict}[/] {record['seconds']:.1f} s", soft_wrap=True)
    except KeyboardInterrupt:
        return True
    return False


def _records(
    todo: Sequence[Any], places: Mapping[str, int], options: argparse.Namespace, console: Any
) -> Iterator[dict[str, Any]]:
    """The records of the claims: in this process one after the other, or as they end in several."""
    from toylab.claims import run_claim
    from toylab.commands.parts.processes import families, run_apart, usual_jobs

    how = {"tier": options.tier, "seed": options.seed, "sabotage": options.sabotage}
    jobs = min(options.jobs or usual_jobs(), len(families(todo)))
    if jobs > 1:
        with console.status(f"{len(todo)} claims in {jobs} processes"):
            yield from run_apart(todo, jobs, **how)
        return
    for claim in todo:
        shown = f"[{places[claim.id]}/{len(places)}] {claim.id}".replace("[", r"\[")
        with contextlib.redirect_stdout(sys.stderr), console.status(shown):
            result = run_claim(claim, **how)
        yield result.to_json()


def _save(folder: Path, records: list[dict[str, Any]], environment: dict[str, Any]) -> None:
    from toylab.claims.report import markdown_report

    content = json.dumps({"claims": records, "environment": environment}, indent=1, allow_nan=False)
    write_atomically(folder / "results.json", content.encode() + b"\n")
    write_atomically(folder / "results.md", markdown_report(records, environment).encode())


def _resumed(folder: Path, environment: dict[str, Any], wanted: set[str]) -> list[dict[str, Any]]:
    """The finished records in `folder` that this run would repeat exactly; none if anything but the choice of
    claims differs.
    """
    path = folder / "results.json"
    if not path.exists():
        return []
    try:
        before = json.loads(path.read_text())
        if before["environment"] != environment:
            print(f"toylab: {path} is of other code, versions or options: starting afresh", file=sys.stderr)
            return []
        return [record for record in before["claims"] if record["id"] in wanted and record["verdict"] != "error"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be resumed: {type(error).__name__}: {error}", "leave out --resume to start afresh"
        ) from error


def _print_report(records: Sequence[dict[str, Any]], sabotage: bool, folder: Path) -> None:
    from rich.console import Console

    from toylab.claims.report import findings_first, summary_line, terminal_table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    for line in findings_first(records):
        console.print(line, markup=False, soft_wrap=True)
    console.print(terminal_table(records, sabotage=sabotage))
    console.print(f"{summary_line(records)}; written to {folder}", markup=False, soft_wrap=True)
