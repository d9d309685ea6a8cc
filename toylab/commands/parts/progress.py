"""A progress bar on stderr for runs: steps done, loss and edge ratio live; silent where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(label: str, steps: int) -> Generator[Callable[[int, int, Mapping[str, Any]], None]]:
    """Gives `shown(done, steps, latest records)`, as `toylab.train` calls it; records of a sweep are averaged over its
    members.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[records]}"),
    )  # fmt: skip
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False,
        redirect_stderr=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task(escape(label), total=steps, records="compiling")

        def shown(done: int, steps: int, latest: Mapping[str, Any]) -> None:
            bar.update(task, completed=done, total=steps, records=_described(latest))

        yield shown


def _described(latest: Mapping[str, Any]) -> str:
    import numpy as np

    parts = []
    for name, words in (("loss", "loss {:.4g}"), ("edge_ratio", "edge ratio {:.3f}")):
        values = np.asarray(latest.get(name, np.nan), dtype=float)
        if np.isfinite(values).any():
            parts.append(words.format(float(np.nanmean(np.where(np.isfinite(values), values, np.nan)))))
    return ", ".join(parts)
