"""`toylab train PROBLEM RULE`: one run, observed and saved in one file."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toylab.commands.bad_input import BadInput
from toylab.commands.experiments import (
    Experiment,
    add_experiment,
    add_recording,
    chosen_observers,
    experiment,
    file_name,
    loss_bound,
    plain,
    results_folder,
    without_edge,
)
from toylab.commands.progress import progress_bar

SAVE_SECONDS = 5.0
"""How often a run that is still going is saved; less often where saving takes more than a twentieth of the time."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_experiment(parser, steps=1000)
    add_recording(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 for a run that ended, however; 130 if interrupted: then what there is is saved."""
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is not the answer
        found = experiment(options)
        run_so_far, recorded = _begun(found, options)
        with results_folder(options.out) as folder:
            path = folder / file_name(found, _configuration(options, recorded))
            trajectory = _finished(run_so_far, found, path, options.steps)
    summary = _summary(found, trajectory, path, time.monotonic() - began)
    if options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print("\n".join(_lines(summary)))
    if summary["status"] == "interrupted":
        print(f"toylab: interrupted after {trajectory.taken} of {options.steps} steps", file=sys.stderr)
        return 130
    return 0


def _begun(found: Experiment, options: argparse.Namespace) -> tuple[Iterator[Any], Any]:
    """The run as an iterator, and what it records. **Errors:** `BadInput` for what the library refuses."""
    from toylab.held import NoLinearEdge
    from toylab.simulate import training

    observers, chosen = chosen_observers(options.observe)
    problem, transform = found.built_problem(), found.transform()
    bound = loss_bound(options, problem)
    choices: dict[str, Any] = {
        "every": options.every,
        "diverge_above": bound,
        "batch_size": options.batch_size,
        "batch_seed": found.seed,
    }
    try:
        try:
            return training(problem, transform, options.steps, observers, **choices), observers
        except NoLinearEdge as refusal:
            observers = without_edge(observers, chosen, refusal, found.rule.name)
            return training(problem, transform, options.steps, observers, **choices), observers
    except ValueError as error:
        raise BadInput(str(error), "see toylab train --help") from error


def _configuration(options: argparse.Namespace, observers: Any) -> dict[str, Any]:
    import jax.numpy as jnp

    chosen = {name: getattr(options, name) for name in ("steps", "every", "batch_size", "diverge_above")}
    return chosen | {"observe": dict(observers.chosen), "precision": str(jnp.result_type(float))}


def _finished(run_so_far: Iterator[Any], found: Experiment, path: Path, steps: int) -> Any:
    """The trajectory at the end or at Ctrl-C, saved; saved on the way too, so that a killed run leaves a file.

    **Errors:** `BadInput` for a start that is not finite, and for what shows only when the run is compiled.
    """
    from toylab.records import Status

    now: Any = None
    saved, pause = False, 0.0

    def keep(now: Any) -> Any:
        trajectory = now.trajectory()
        if trajectory.status == Status.nonfinite_input:
            raise BadInput("the loss or its gradient is not finite at the start", "look at the problem's settings")
        trajectory = dataclasses.replace(trajectory, config={**trajectory.config, **found.named_settings()})
        try:
            trajectory.save(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadInput(f"{path} cannot be written: {reason}", "give another folder with --out DIR") from error
        return trajectory

    last = time.monotonic()
    with progress_bar(f"{found.rule.name} on {found.problem.name}", steps) as shown:
        try:
            for now in run_so_far:
                shown(now.done, steps, now.latest)
                began = time.monotonic()
                if not saved or began - last > pause:
                    keep(now)
                    saved, last = True, time.monotonic()
                    pause = max(SAVE_SECONDS, 20 * (last - began))
        except KeyboardInterrupt:
            if now is None:
                raise
        except ValueError as error:
            raise BadInput(str(error), "see toylab train --help") from error
    return keep(now)


def _summary(found: Experiment, trajectory: Any, path: Path, seconds: float) -> dict[str, Any]:
    last = {name: values[_last_seen(trajectory)] for name, values in trajectory.records.items()}
    return plain(
        {
            **found.named_settings(),
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
            yield f"edge ratio  {_shown(value)} at the end; {_told(summary['plateau'])}"
        elif not name.endswith(("_residual", "_residuals", "_products", "_converged")) and name != "excluded":
            yield f"{name.replace('_', ' '):<11} {_shown(value)}"
    yield f"file        {summary['file']}"


def _told(plateau: dict[str, Any]) -> str:
    if plateau["outcome"] == "settled":
        first, last = plateau["window"]
        return f"plateau {plateau['mean']:.4f} ± {plateau['spread']:.4f} over steps {first} to {last}"
    return f"plateau: {plateau['outcome']}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(entry) for entry in value[:8]) + (", ..." if len(value) > 8 else "")
    return f"{value:.6g}" if isinstance(value, float) else "not finite" if value is None else str(value)
