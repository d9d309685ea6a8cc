"""What a run leaves behind, and how it is stored: one npz file, written whole or not at all."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
FORMAT = 1


class Status(IntEnum):
    """How a run ended. Failure is a value: raising is the caller's choice.

    Example:
        >>> import optax
        >>> import toylab
        >>> toylab.train(toylab.problems.quadratic([1.0]), optax.sgd(3.0), 50, diverge_above=100.0).status.name
        'diverged'
        >>> toylab.Status.completed == 0
        True
    """

    completed = 0  # all steps were taken
    diverged = 1  # loss, gradient or parameters left the finite numbers (or the given bound on the loss)
    nonfinite_input = 2  # loss or gradient were already not finite at the start
    interrupted = 3  # stopped by the caller before all steps were taken


@dataclass(frozen=True, repr=False)
class _Observed:
    steps: np.ndarray
    records: dict[str, np.ndarray]
    status: Any
    taken: Any
    params: PyTree
    state: PyTree = None
    config: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> np.ndarray:
        records = self.__dict__.get("records", {})
        if name in records:
            return records[name]
        raise AttributeError(
            f"this run recorded {', '.join(records) or 'nothing'} and no {name!r}: "
            "ask for it with observe=toylab.observers(...)"
        )

    def save(self: "Trajectory | Sweep", path: str | os.PathLike) -> Path:
        """Write everything but the optimizer's state to `path`, atomically. `toylab.load(path)` gives it
        back."""
        return save(self, path)


@dataclass(frozen=True, repr=False)
class Trajectory(_Observed):
    """One run. Every record is an attribute too: `run.loss`, `run.edge_ratio`, `run.sharpness`, ...

    `steps` (T,): the iterates that were observed, 0 being the start. `records`: name -> array (T, ...); NaN
    (-1 for counts) after a run froze. `status`: a Status. `taken`: steps taken before the end or the
    freezing. `params`, `state`: the last finite iterate and the optimizer's state there (`state` is not
    stored). `config`: what was run, and with which versions.

    Example:
        >>> import optax
        >>> import toylab
        >>> run = toylab.train(toylab.problems.quadratic([1.0]), optax.sgd(0.5), 4)
        >>> run
        Trajectory(completed after 4 steps; 4 steps observed: loss)
        >>> run.steps.tolist(), run.loss.tolist()
        ([0, 1, 2, 3], [0.5, 0.125, 0.03125, 0.0078125])
        >>> run.params.tolist()
        [0.0625]
    """

    def __repr__(self) -> str:
        """How it ended and what was recorded; no arrays."""
        return f"Trajectory({self.status.name} after {self.taken} steps; {_recorded(self)})"


@dataclass(frozen=True, repr=False)
class Sweep(_Observed):
    """Many runs. As a Trajectory, but `status`, `taken` and every record and leaf of `params` and `state`
    have leading axes: one for each entry of `grid` in its order, then one for the seeds. `grid`: name -> the
    values along its axis.

    Example:
        >>> import optax
        >>> import toylab
        >>> runs = toylab.sweep(toylab.problems.quadratic([1.0]), optax.sgd, {"learning_rate": [0.5, 1.0]}, steps=3)
        >>> runs
        Sweep(2 learning_rate x 1 seeds: 2 completed; 3 steps observed: loss)
        >>> runs.loss.shape, runs.params[:, 0, 0].tolist()
        ((2, 1, 3), [0.125, 0.0])
    """

    grid: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Runs by axis, how many ended how, and what was recorded; no arrays."""
        statuses = np.asarray(self.status)
        axes = [*(f"{len(values)} {name}" for name, values in self.grid.items()), f"{statuses.shape[-1]} seeds"]
        counts = {status.name: int(np.sum(statuses == status)) for status in Status}
        ended = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"Sweep({' x '.join(axes)}: {ended}; {_recorded(self)})"


def _recorded(run: Trajectory | Sweep) -> str:
    return f"{len(run.steps)} steps observed: {', '.join(run.records) or 'nothing'}"


def fill_value(dtype: Any) -> float | int | bool:
    """The entry of a record of this dtype that was never reached: NaN, False, or -1 for a count."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return float("nan")
    return False if jnp.issubdtype(dtype, jnp.bool_) else -1


def save(run: Trajectory | Sweep, path: str | os.PathLike) -> Path:
    """Store a run as npz. Dicts, lists and tuples of `params` come back as they are; other containers come
    back as a dict from key path to array. The file appears complete or not at all (temporary file, fsync,
    rename).

    Raises OSError if the folder cannot be written.
    """
    leaves: list[np.ndarray] = []
    skeleton = _skeleton(run.params, leaves)
    header = {"format": FORMAT, "kind": type(run).__name__, "config": run.config, "params": skeleton}
    arrays: dict[str, Any] = {"steps": run.steps, "status": np.asarray(run.status), "taken": np.asarray(run.taken)}
    arrays |= {f"record:{name}": values for name, values in run.records.items()}
    arrays |= {f"params:{index}": leaf for index, leaf in enumerate(leaves)}
    if isinstance(run, Sweep):
        header["grid"] = list(run.grid)
        arrays |= {f"grid:{name}": values for name, values in run.grid.items()}
    arrays["header"] = np.array(json.dumps(header, allow_nan=True))

    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez_compressed(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def load(path: str | os.PathLike) -> Trajectory | Sweep:
    """The run that `save` stored at `path`.

    Raises FileNotFoundError, or ValueError if the file is no such record or of a later format.

    Example:
        >>> import pathlib, tempfile
        >>> import optax
        >>> import toylab
        >>> run = toylab.train(toylab.problems.quadratic([1.0]), optax.sgd(0.5), 4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = toylab.load(run.save(pathlib.Path(folder) / "run.npz"))
        >>> again, bool((again.loss == run.loss).all())
        (Trajectory(completed after 4 steps; 4 steps observed: loss), True)
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")))
        kind = {"Trajectory": Trajectory, "Sweep": Sweep}[header["kind"]]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{os.fspath(path)} is not a record of toylab: give a file that .save(path) wrote") from error
    if header["format"] > FORMAT:
        raise ValueError(
            f"{os.fspath(path)} has format {header['format']}, this toylab reads up to {FORMAT}: upgrade it"
        )
    common = {
        "steps": arrays["steps"],
        "records": {
            name.removeprefix("record:"): values for name, values in arrays.items() if name.startswith("record:")
        },
        "params": _filled(header["params"], arrays),
        "config": header["config"],
    }
    if kind is Sweep:
        grid = {name: arrays[f"grid:{name}"] for name in header["grid"]}
        return Sweep(status=arrays["status"], taken=arrays["taken"], grid=grid, **common)
    return Trajectory(status=Status(int(arrays["status"])), taken=int(arrays["taken"]), **common)


def _skeleton(tree: PyTree, leaves: list[np.ndarray]) -> Any:
    """The containers of `tree` as JSON, its arrays appended to `leaves`."""
    if tree is None:
        return None
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: _skeleton(child, leaves) for key, child in tree.items()}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_skeleton(child, leaves) for child in tree]}
    if jax.tree_util.all_leaves([tree]):
        leaves.append(np.asarray(tree))
        return len(leaves) - 1
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return _skeleton({jax.tree_util.keystr(path): leaf for path, leaf in paths}, leaves)


def _filled(skeleton: Any, arrays: dict[str, np.ndarray]) -> PyTree:
    if skeleton is None:
        return None
    if isinstance(skeleton, int):
        return arrays[f"params:{skeleton}"]
    ((kind, children),) = skeleton.items()
    if kind == "dict":
        return {key: _filled(child, arrays) for key, child in children.items()}
    filled = [_filled(child, arrays) for child in children]
    return tuple(filled) if kind == "tuple" else filled
