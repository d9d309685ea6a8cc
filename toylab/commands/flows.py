"""`toylab flows PROBLEM RULE`: models of the averaged path beside the optimizer's own run, their errors and costs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toylab.commands.figures import packed, rendered
from toylab.commands.parts.arguments import Experiment, add_experiment, experiment, plain, results_folder
from toylab.commands.parts.files import write_atomically
from toylab.commands.parts.progress import progress_bar
from toylab.commands.parts.refusal import BadInput, nearest
from toylab.commands.parts.shadowing import require_own

DEFAULT_OUT, DEFAULT_STEPS = "out/flows", 400
INTERRUPTED = "interrupted"

SETTLING = 20
"""Steps of the rule itself, before the models start, for rules with second moments: their first estimates come from a
single gradient, and no model is made for that."""

LOOKS = 200
"""The most times that paths are compared in a run."""

COLUMNS = {  # field -> heading, format
    "distance": ("distance", "{:.3g}"),
    "distance_ratio": ("times closer", "{:.3g}"),
    "loss_error": ("loss", "{:.2g}"),
    "edge_ratio_error": ("edge ratio", "{:.2g}"),
    "variance_error": ("variance", "{:.2g}"),
    "axis_error": ("along axes", "{:.2g}"),
    "gradients_per_step": ("gradients/step", "{:.1f}"),
    "seconds_per_step": ("ms/step", "{:.2f}"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_experiment(parser, steps=DEFAULT_STEPS)
    parser.add_argument(
        "--models",
        metavar="A,B",
        help="which models, always with stable_flow (default: all but those that take hundreds of gradients a step)",
    )
    parser.add_argument(
        "--eigenvalues", type=int, default=4, metavar="K", help="how many are followed, and may be critical (default 4)"
    )
    parser.add_argument(
        "--warm-up", type=int, metavar="N",
        help=f"steps of the rule before the models start (default: {SETTLING} with second moments, 0 without)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"where results go (default {DEFAULT_OUT})")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 with the comparison; 130 if interrupted, 1 if a model failed: then those that ended are saved; 1 if
    the results were saved and printed, but could not be drawn.

    **Errors:** `BadInput`, also for a rule without a linear edge, with the reason.
    """
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is not the answer
        models = _models(options.models)
        setup = experiment(options)
        _possible(options)
        require_own("figures")
        with results_folder(options.out) as folder:
            warm_up, compared, stopped = _compared(setup, models, options)
            record, arrays = _record(setup, compared, warm_up), _arrays(compared)
            written = _saved(record, arrays, folder)  # before anything is drawn, which may fail
            drawn, failure = _drawn(arrays, folder)
            files = f"{folder / 'flows'}.{{{','.join([*written, *drawn])}}}"
    print(json.dumps(record, allow_nan=False) if options.json else "\n".join([*_lines(record), f"files: {files}"]))
    if failure:
        print(f"toylab: results are in {files}, but they could not be drawn: {failure}", file=sys.stderr)
    if stopped:
        print(f"toylab: {stopped}, {len(record['models'])} of the models ended", file=sys.stderr)
    return 130 if stopped == INTERRUPTED else 1 if stopped or failure else 0


def _models(text: str | None) -> tuple[str, ...]:
    """The models that were asked for. **Errors:** `BadInput` for an unknown one."""
    from toylab.models.named import models

    known = models()
    if text is None:
        return tuple(name for name, model in known.items() if not model.slow)
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in known:
            hint = nearest(name, known, f"models are {', '.join(known)}")
            raise BadInput(f"--models got {name!r}, which is no model", hint)
    return names


def _possible(options: argparse.Namespace) -> None:
    """**Errors:** `BadInput` for numbers that no comparison can have."""
    if options.batch_size is not None:
        raise BadInput("--batch-size was given, but the models are of full batches", "leave it out")
    for name, least in (("steps", 3), ("eigenvalues", 1), ("warm_up", 0)):
        number = getattr(options, name)
        if number is not None and number < least:
            raise BadInput(f"--{name.replace('_', '-')} got {number}, needed an integer >= {least}", "")


def _compared(setup: Experiment, models: tuple[str, ...], options: argparse.Namespace) -> tuple[int, Any, str]:
    """The steps of warm-up that were taken, the `toylab.models.comparison.run.ModelComparison`, and what stopped it
    before its end, Ctrl-C or a model that failed; empty if nothing did.  A part has the models that ended."""
    from toylab.models.comparison.run import comparing, parts_of
    from toylab.rules.edge import edge_data
    from toylab.rules.errors import NoLinearEdge

    problem, transform = setup.built_problem(), setup.transform()
    so_far: Any = None
    stopped = ""
    try:
        structure, _ = edge_data(transform, problem.params)
        warm_up = options.warm_up if options.warm_up is not None else SETTLING if structure.roles.slow else 0
        parts = len(parts_of(models))
        every = max(1, options.steps // LOOKS)
        with progress_bar(f"{setup.rule.name} on {setup.problem.name}: optimizer and models", parts) as shown:
            shown(0, parts, {})
            for part in comparing(
                problem, transform, options.steps, models=models, count=options.eigenvalues, warm_up=warm_up,
                every=every,
            ):  # fmt: skip
                so_far = part.result()
                shown(part.done, parts, {})
    except KeyboardInterrupt:
        if so_far is None or not so_far.runs:
            raise
        stopped = INTERRUPTED
    except NoLinearEdge as refusal:
        raise BadInput(f"{setup.rule.name} has no linear edge: {refusal.reason}", refusal.hint) from refusal
    except ValueError as error:
        raise BadInput(str(error), "see toylab flows --help") from error
    except Exception as failure:  # what has ended is worth hours: it is saved, and the failure told
        if so_far is None or not so_far.runs:
            raise
        stopped = " ".join(f"a model failed, {type(failure).__name__}: {failure}".split())
    compared = so_far
    if compared.travelled == 0:
        raise BadInput("the optimizer ended where it began, so no distance can be compared", "start elsewhere")
    if not math.isfinite(float(compared.measured.loss[0])):
        raise BadInput("the loss or its gradient is not finite at the start", "look at the problem's settings")
    return warm_up, compared, stopped


def _record(setup: Experiment, compared: Any, warm_up: int) -> dict[str, Any]:
    import numpy as np

    from toylab.training.environment import code_fingerprint, devices, precision, versions

    lost = np.flatnonzero(~np.isfinite(np.asarray(compared.measured.loss)))
    return plain(
        {
            **setup.named_settings(),
            "steps": compared.steps,
            "warm_up": warm_up,
            "travelled": compared.travelled,
            "onset": compared.onset,
            "settled": compared.settled,
            "crowded": compared.all_followed_critical,
            "diverged": int(lost[0]) if lost.size else None,
            "models": [run.record() for run in compared.runs],
            "refused": compared.refused,
            "environment": {
                "versions": versions(), "devices": devices(), "precision": precision(), "code": code_fingerprint(),
            },
        }
    )  # fmt: skip


def _arrays(compared: Any) -> dict[str, Any]:
    """The arrays that the figure is drawn from; `figures.model_paths.draw` describes them."""
    import numpy as np

    own = compared.measured
    arrays = {
        "models": np.array([run.name for run in compared.runs]),
        "times": compared.times,
        "steps": np.arange(1, compared.steps + 1),
        "phases": np.array([step for step in (compared.onset, compared.settled) if step is not None], int),
        "optimizer_loss": own.loss,
        "optimizer_edge_ratios": own.edge_ratios,
        "optimizer_variance": own.variance,
    }
    for run in compared.runs:
        predictions = run.predictions
        arrays[f"{run.name}_distance"] = run.distances
        arrays[f"{run.name}_loss"] = predictions.mean_loss
        arrays[f"{run.name}_edge_ratios"] = predictions.edge_ratios
        arrays[f"{run.name}_variances"] = predictions.variances
        if run.along is not None:
            arrays[f"{run.name}_along"] = run.along
    return {name: np.asarray(array) for name, array in arrays.items()}


def _saved(record: dict[str, Any], arrays: dict[str, Any], folder: Path) -> list[str]:
    """Write flows.json and flows.npz; their suffixes. **Errors:** `BadInput`."""
    return _write(folder, {"json": json.dumps(record, indent=1, allow_nan=False).encode(), "npz": packed(arrays)})


def _drawn(arrays: dict[str, Any], folder: Path) -> tuple[list[str], str]:
    """Write the figure; its suffixes, and in one line why there is none. **Errors:** `BadInput`."""
    from figures import model_paths

    try:
        pictures = rendered(model_paths.draw(arrays))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a picture, the answer is given
        return [], " ".join(f"{type(error).__name__}: {error}".split())
    return _write(folder, pictures), ""


def _write(folder: Path, contents: Mapping[str, bytes]) -> list[str]:
    """Write each content to flows.SUFFIX; the suffixes. **Errors:** `BadInput` where that is not possible."""
    for suffix, content in contents.items():
        try:
            write_atomically(folder / f"flows.{suffix}", content)
        except OSError as error:
            raise BadInput(f"{folder}: {error.strerror or error}", "give another folder with --out DIR") from error
    return list(contents)


def _lines(record: dict[str, Any]) -> Iterator[str]:
    settings = {**record["rule_settings"], **record["problem_settings"]}
    given = ", ".join(f"{name}={value}" for name, value in settings.items())
    after = f" after {record['warm_up']} steps of warm-up" if record["warm_up"] else ""
    yield f"{record['rule']} on {record['problem']} ({given}), {record['steps']} steps{after}"
    if record["diverged"] is not None:
        yield f"diverged: the loss is not finite from step {record['diverged']}; lower learning_rate"
    rows = [[heading for heading, _ in COLUMNS.values()]]
    rows += [[_cell(model[name], name) for name in COLUMNS] for model in record["models"]]
    names = ["model", *(model["name"] for model in record["models"])]
    left, widths = max(map(len, names)), [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, row in zip(names, rows, strict=True):
        yield f"{name:<{left}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
    for name, reason in record["refused"].items():
        yield f"{name}: refused: {' '.join(reason.split())}"
    travelled = "nothing finite" if record["travelled"] is None else f"{record['travelled']:.4g}"
    yield f"distance: at the end, over the distance travelled ({travelled}); times closer: than the stable flow then"
    yield "twin: the optimizer, started 1e-6 of its weights' norm away: how far it is from itself"
    yield _phase(record)
    if record["crowded"] > 0:
        yield (
            f"in {record['crowded']:.0%} of the steps all eigenvalues that are followed are at the edge, and more may "
            "be: raise --eigenvalues"
        )


def _phase(record: dict[str, Any]) -> str:
    if record["onset"] is None:
        return (
            "never reached the edge: the models agree because nothing oscillates; raise learning_rate or --steps"
            if record["diverged"] is None
            else "loss, edge ratio, variance: not compared, the edge was never followed"
        )
    return (
        f"loss, edge ratio, variance: relative errors of time averages over steps {record['settled']} to "
        f"{record['steps']}, the second half of what follows the edge ratio's first .95, at step {record['onset']}"
    )


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return COLUMNS[name][1].format(1000 * value if name == "seconds_per_step" else value)
