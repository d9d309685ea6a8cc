"""The host's loop over the chunks of a compiled run: memory bounded by one chunk, a look or a stop in between."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from toylab.training.options import ObservationPlan
from toylab.training.records import Status, fill_value

Progress = Callable[[int, int, dict[str, np.ndarray]], None]

SHORT, LONG = 0.5, 2.0  # seconds: a chunk that took less is followed by a larger one, one that took more by a smaller


class Driven(NamedTuple):
    """A run so far: how many steps are `done`, the last carry, the `latest` records, and all of them on demand."""

    done: int
    carry: Any
    latest: dict[str, np.ndarray]
    records: Callable[[], dict[str, np.ndarray]]


def drive(
    run_chunk: Callable[[Any, int, int], tuple[Any, dict[str, Array]]],
    carry: Any,
    plan: ObservationPlan,
    steps: int,
    lead: int,
) -> Iterator[Driven]:
    """The host's loop over chunks: memory stays bounded by one chunk on the device, and the caller may look, or stop.

    `run_chunk(carry, start, stop)` does one chunk of at most `plan.blocks` strides; its records have `lead` batch axes
    before (blocks, pair). Chunks grow or shrink with the time they take, which changes no result. Ends early once every
    run is frozen; then the missing records are fill values.
    """
    pieces: list[dict[str, np.ndarray]] = []

    def joined(done: int, count: int) -> dict[str, np.ndarray]:
        wanted, padded = len(plan.observed(done)), {}
        for name in pieces[0]:
            values = np.concatenate([piece[name] for piece in pieces[:count]], axis=lead)
            padding = [(0, wanted - values.shape[lead] if axis == lead else 0) for axis in range(values.ndim)]
            padded[name] = np.pad(values, padding, constant_values=fill_value(values.dtype))
        return padded

    start, blocks, frozen = 0, 1, False
    while start < steps and not frozen:
        stop, began = min(steps, start + plan.stride * blocks), time.monotonic()
        carry, records = run_chunk(carry, start, stop)
        new = len(plan.observed(stop)) - len(plan.observed(start))
        flat = {
            name: values.reshape(*values.shape[:lead], plan.blocks * plan.pair, *values.shape[lead + 2 :])
            for name, values in ((name, np.asarray(values)) for name, values in records.items())
        }
        pieces.append({name: np.take(values, np.arange(new), axis=lead) for name, values in flat.items()})
        frozen = bool(np.all(np.asarray(carry.status) != Status.completed))
        took, start = time.monotonic() - began, stop
        blocks = min(plan.blocks, 2 * blocks) if took < SHORT else max(1, blocks // 2) if took > LONG else blocks
        latest = {name: np.take(values, -1, axis=lead) for name, values in pieces[-1].items()}
        yield Driven(stop, carry, latest, partial(joined, steps if frozen else stop, len(pieces)))


def last_of(run: Iterator[Any], steps: int, progress: Progress | None) -> Any:
    """The last item of a run, with a call of `progress(done, steps, latest records)` for each."""
    part = None
    for part in run:
        if progress is not None:
            progress(part.done, steps, part.latest)
    return part
