"""`toylab sweep PROBLEM RULE --grid ...`: a grid of hyperparameters times seeds, in one compiled program."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from toylab.commands.parts.arguments import Experiment, add_experiment, add_recording, experiment, plain
from toylab.commands.parts.recording import exit_code, recorded, run_options
from toylab.commands.parts.refusal import BadInput
from toylab.commands.parts.resolve import built_problem, resolved_rule
from toylab.commands.parts.settings import GRID_FORMS, check_hyperparameters, parsed_grid, shared_out
from toylab.training.plateaus import OUTCOMES


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_experiment(parser, steps=1000)
    parser.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="NAME=VALUES",
        help="axes: log:1e-4:1e-2:20, lin:0:1:5 or a list 0,.5,.9",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds of the problem, from --seed on")
    parser.add_argument(
        "--one-by-one", action="store_true", help="run members one after the other (convolutions on a CPU)"
    )
    add_recording(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 for a sweep that ended, whatever became of its members; 130 if interrupted: then what all of them
    have done so far is saved.
    """
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        from toylab.training.sweeps import sweeping

        setup, grid = _planned(options)
        problem, seeds = _seeded(setup, options.seeds)
        loop_options = run_options(setup, options, setup.built_problem())
        members = math.prod(map(len, grid.values())) * options.seeds

        def begin(observers: Any) -> Any:
            rule, settings = setup.rule.factory, setup.rule_settings
            return sweeping(problem, rule, grid, loop_options, seeds, observers, settings, options.one_by_one)

        label = f"{setup.rule.name} on {setup.problem.name}, {members} runs"
        result, path = recorded(setup, options, begin, label, grid=grid, seeds=options.seeds)
    summary = _summary(setup, result, path, time.monotonic() - began)
    if options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        _print_table(summary, list(grid))
    return exit_code(result, options.steps)


def _planned(options: argparse.Namespace) -> tuple[Experiment, dict[str, tuple[float, ...]]]:
    """The experiment and the axes of its grid, all of them the rule's. **Errors:** `BadInput`."""
    if options.seeds < 1:
        raise BadInput(f"--seeds got {options.seeds}, needed an integer >= 1", "try --seeds 3")
    axes = parsed_grid(options.grid)
    if not axes:
        raise BadInput("--grid got nothing, needed at least one axis", GRID_FORMS)
    setup = experiment(options, {name.removeprefix("rule."): () for name in axes})
    grid, foreign = shared_out(axes, setup.rule.parameters, setup.problem.parameters, "--grid")
    for name in foreign:
        raise BadInput(
            f"--grid got {name}, a parameter of {setup.problem.name}", "a grid is over the rule's parameters"
        )
    for name, values in grid.items():
        if name in setup.rule_settings:
            raise BadInput(f"{name} is given by --grid and by --set", "leave one of them out")
        for value in values:
            check_hyperparameters({name: value}, "--grid")
        resolved_rule(options.rule, {**setup.rule_settings, name: values[0]})
    return setup, grid


def _seeded(setup: Experiment, seeds: int) -> tuple[Any, Any]:
    """The problem, or a function from a random key to it, and the seeds for `toylab.sweep`."""
    problem = setup.built_problem()
    if seeds == 1:
        return problem, 1
    if "seed" not in setup.problem.parameters.names:
        raise BadInput(f"--seeds got {seeds}, but {setup.problem.name} has no parameter seed", "leave out --seeds")
    import jax
    import jax.numpy as jnp

    first = setup.problem_settings["seed"]
    keys = jax.vmap(jax.random.key)(jnp.arange(first, first + seeds))
    return (lambda key: built_problem(setup.problem, {**setup.problem_settings, "seed": key})), keys


def _summary(setup: Experiment, result: Any, path: Path, seconds: float) -> dict[str, Any]:
    names, shape = list(result.grid), [len(values) for values in result.grid.values()]
    members = [
        {"settings": {name: float(result.grid[name][i]) for name, i in zip(names, index, strict=True)}}
        | _member(result, index)
        for index in itertools.product(*map(range, shape))
    ]
    return plain(
        {
            **setup.named_settings(),
            "steps": result.config["steps"],
            "seeds": int(result.status.shape[-1]),
            "members": members,
            "file": str(path),
            "seconds": round(seconds, 2),
        }
    )


def _member(result: Any, index: tuple[int, ...]) -> dict[str, Any]:
    """One member: how its seeds ended, final loss, and the plateau of the edge ratio over time and over seeds.

    `mean` is over the seeds that settled, `spread` their mean spread over time, `spread_over_seeds` the standard
    deviation of their means (None for fewer than two).
    """
    import numpy as np

    import toylab
    from toylab.training.records import Status

    statuses = np.asarray(result.status)[index]
    ended = {status.name: int(np.sum(statuses == status)) for status in Status if np.any(statuses == status)}
    member: dict[str, Any] = {"status": ended}
    if "loss" in result.records:
        finals = [float(result.loss[index][seed][_last(result, index, seed)]) for seed in range(len(statuses))]
        member["loss"] = float(np.mean(finals))
    if "edge_ratio" not in result.records:
        return member
    try:
        plateaus = [toylab.plateau(result.steps, ratio) for ratio in result.edge_ratio[index]]
    except ValueError:  # no two consecutive steps
        return member
    settled = [one for one in plateaus if one.outcome == "settled"]
    means = [one.mean for one in settled]
    member["outcomes"] = {outcome: sum(one.outcome == outcome for one in plateaus) for outcome in OUTCOMES}
    member["edge_ratio"] = {
        "mean": float(np.mean(means)) if means else None,
        "spread": float(np.mean([one.spread for one in settled])) if means else None,
        "spread_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
    }
    return member


def _last(result: Any, index: tuple[int, ...], seed: int) -> int:
    import numpy as np

    taken = np.asarray(result.taken)[index][seed]
    return max(0, int(np.searchsorted(result.steps, taken, side="right")) - 1)


def _print_table(summary: dict[str, Any], names: list[str]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    has_edge = any("outcomes" in member for member in summary["members"])
    seeds = f"{summary['seeds']} seed{'s' if summary['seeds'] > 1 else ''}"
    title = f"{summary['rule']} on {summary['problem']}, {summary['steps']} steps, {seeds}"
    console.print(title, markup=False, soft_wrap=True)
    table = Table(box=SIMPLE)
    headings = [*names, "final loss"]
    headings += ["edge ratio", "over seeds", *OUTCOMES] if has_edge else ["status"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for member in summary["members"]:
        row = [f"{member['settings'][name]:.4g}" for name in names] + [_number(member.get("loss"), ".4g")]
        if has_edge:
            edge = member["edge_ratio"]
            plateau = f"{edge['mean']:.4f} ± {edge['spread']:.4f}" if edge["mean"] is not None else "-"
            row += [plateau, _number(edge["spread_over_seeds"], ".4f")]
            row += [str(member["outcomes"][outcome]) for outcome in OUTCOMES]
        else:
            row.append(", ".join(f"{count} {name}" for name, count in member["status"].items()))
        table.add_row(*row)
    console.print(table)
    console.print(f"file {summary['file']}; {summary['seconds']:.1f} s", markup=False, soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
