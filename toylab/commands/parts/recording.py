"""What `train` and `sweep` do alike: begin with the chosen observers, watch, save on the way and at the end."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toylab.commands.parts.arguments import (
    Experiment,
    chosen_observers,
    file_name,
    loss_bound,
    results_folder,
    without_edge,
)
from toylab.commands.parts.progress import progress_bar
from toylab.commands.parts.refusal import BadInput

SAVE_SECONDS = 5.0
"""How often a run that is still going is saved; less often where saving takes more than a twentieth of the time."""


def run_options(found: Experiment, options: argparse.Namespace, problem: Any) -> Any:
    """The `toylab.training.options.RunOptions` of the command line. **Errors:** `BadInput` for a bad bound."""
    from toylab.training.options import RunOptions

    return RunOptions(
        options.steps, options.every, diverge_above=loss_bound(options, problem), batch_size=options.batch_size,
        batch_seed=found.seed,
    )  # fmt: skip


def recorded(
    found: Experiment, options: argparse.Namespace, begin: Callable[[Any], Iterator[Any]], label: str, **sweep: Any
) -> tuple[Any, Path]:
    """The result of the run that `begin(observers)` begins, whole or up to Ctrl-C, and the file that holds it.

    `begin` gives `toylab.training.runs.Partial`s; `label` is shown beside the progress; `sweep`: what distinguishes a
    sweep from others, for its file's name. **Errors:** `BadInput` for what the library refuses, at once or when the run
    is compiled, for a start that is not finite and for a file that cannot be written.
    """
    with _refusals(options.command):
        so_far, observers = _started_run(found, options, begin)
        with results_folder(options.out) as folder:
            configuration = _configuration(options, observers) | sweep
            path = folder / file_name(found, configuration, "sweep" if sweep else "")
            return _finished(so_far, found, path, options.steps, label), path


def exit_code(result: Any, steps: int) -> int:
    """0 for a run or a sweep that ended, however; 130, with a line on stderr, if it was interrupted."""
    import numpy as np

    from toylab.training.records import Status

    if not np.any(np.asarray(result.status) == Status.interrupted):
        return 0
    print(f"toylab: interrupted after {int(np.max(result.taken))} of {steps} steps", file=sys.stderr)
    return 130


@contextmanager
def _refusals(command: str) -> Generator[None]:
    import jax

    try:
        yield
    except jax.errors.JAXTypeError as error:
        first = str(error).splitlines()[0]
        raise BadInput(
            f"the rule or the problem cannot be compiled with traced numbers: {first}",
            "use jax.numpy and jax.random; in a sweep hyperparameters and seeds are data too",
        ) from error
    except ValueError as error:
        raise BadInput(str(error), f"see toylab {command} --help") from error


def _started_run(
    setup: Experiment, options: argparse.Namespace, begin: Callable[[Any], Iterator[Any]]
) -> tuple[Iterator[Any], Any]:
    """The run as an iterator, and what it records."""
    from toylab.rules.errors import NoLinearEdge

    observers, chosen = chosen_observers(options.observe)
    try:
        return begin(observers), observers
    except NoLinearEdge as refusal:
        observers = without_edge(observers, chosen, refusal, setup.rule.name)
        return begin(observers), observers


def _configuration(options: argparse.Namespace, observers: Any) -> dict[str, Any]:
    import jax.numpy as jnp

    chosen = {name: getattr(options, name) for name in ("steps", "every", "batch_size", "diverge_above")}
    return chosen | {"observe": dict(observers.chosen), "precision": str(jnp.result_type(float))}


def _finished(so_far: Iterator[Any], setup: Experiment, path: Path, steps: int, label: str) -> Any:
    """The result at the end or at Ctrl-C, saved; saved on the way too, so that a killed run leaves a file."""
    snapshot: Any = None
    saved, pause, last = False, 0.0, time.monotonic()
    with progress_bar(label, steps) as shown:
        try:
            for snapshot in so_far:
                shown(snapshot.done, steps, snapshot.latest)
                began = time.monotonic()
                if not saved or began - last > pause:
                    _kept(snapshot, setup, path)
                    saved, last = True, time.monotonic()
                    pause = max(SAVE_SECONDS, 20 * (last - began))
        except KeyboardInterrupt:
            if snapshot is None:
                raise
    return _kept(snapshot, setup, path)


def _kept(snapshot: Any, setup: Experiment, path: Path) -> Any:
    """The result so far with what the command line named, saved."""
    import numpy as np

    from toylab.training.records import Status

    result = snapshot.result()
    if np.all(np.asarray(result.status) == Status.nonfinite_input):
        raise BadInput("the loss or its gradient is not finite at the start", "look at the problem's settings")
    result = dataclasses.replace(result, config={**result.config, **setup.named_settings()})
    try:
        result.save(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"{path} cannot be written: {reason}", "give another folder with --out DIR") from error
    return result
