"""`toylab train PROBLEM RULE`: one run, observed and saved in one file."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from toylab.commands.parts.arguments import Experiment, add_experiment, add_recording, experiment, plain
from toylab.commands.parts.recording import exit_code, recorded, run_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_experiment(parser, steps=1000)
    add_recording(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 for a run that ended, however; 130 if interrupted: then what there is is saved."""
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is not the answer
        from toylab.training.runs import training

        setup = experiment(options)
        problem, transform = setup.built_problem(), setup.transform()
        loop_options = run_options(setup, options, problem)
        label = f"{setup.rule.name} on {setup.problem.name}"
        trajectory, path = recorded(setup, options, partial(training, problem, transform, loop_options), label)
    summary = _summary(setup, trajectory, path, time.monotonic() - began)
    if options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print("\n".join(_lines(summary)))
    return exit_code(trajectory, options.steps)


def _summary(setup: Experiment, trajectory: Any, path: Path, seconds: float) -> dict[str, Any]:
    last = {name: values[_last_seen(trajectory)] for name, values in trajectory.records.items()}
    return plain(
        {
            **setup.named_settings(),
            "steps": trajectory.config["steps"],
            "taken": trajectory.taken,
            "status": trajectory.status.name,
            "loss": last.get("loss"),
            "edge_ratio": last.get("edge_ratio"),
            "plateau": _plateau(trajectory),
            "last": last,
            "file": str(path),
            "seconds": round(seconds, 2),
        }
    )


def _last_seen(trajectory: Any) -> int:
    """Where the records end: the last observation at or before the last step that was taken."""
    import numpy as np

    return max(0, int(np.searchsorted(trajectory.steps, trajectory.taken, side="right")) - 1)


def _plateau(trajectory: Any) -> dict[str, Any] | None:
    """The plateau of the edge ratio; None where it was not recorded, or not at two consecutive steps."""
    import toylab

    if "edge_ratio" not in trajectory.records:
        return None
    try:
        return toylab.plateau(trajectory.steps, trajectory.edge_ratio)._asdict()
    except ValueError:
        return None


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    settings = {**summary["rule_settings"], **summary["problem_settings"]}
    given = ", ".join(f"{name}={value}" for name, value in settings.items())
    yield f"{summary['rule']} on {summary['problem']} ({given})"
    yield f"status      {summary['status']}, {summary['taken']} of {summary['steps']} steps, {summary['seconds']:.1f} s"
    for name, value in sorted(summary["last"].items(), key=lambda entry: entry[0] not in ("loss", "edge_ratio")):
        if name == "edge_ratio" and summary["plateau"] is not None:
            yield f"edge ratio  {_shown(value)} at the end; {_plateau_text(summary['plateau'])}"
        elif not name.endswith(("_residual", "_residuals", "_products", "_converged")) and name != "excluded":
            yield f"{name.replace('_', ' '):<11} {_shown(value)}"
    yield f"file        {summary['file']}"


def _plateau_text(plateau: dict[str, Any]) -> str:
    if plateau["outcome"] == "settled":
        first, last = plateau["window"]
        return f"plateau {plateau['mean']:.4f} ± {plateau['spread']:.4f} over steps {first} to {last}"
    return "plateau: left the edge" if plateau["outcome"] == "left" else f"plateau: {plateau['outcome']}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(entry) for entry in value[:8]) + (", ..." if len(value) > 8 else "")
    return f"{value:.6g}" if isinstance(value, float) else "not finite" if value is None else str(value)
