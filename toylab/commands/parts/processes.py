"""Claims in several processes: nearly all their time goes into compiling, which one process does on one core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from typing import Any

MOST = 2
"""Processes at most, unless more are asked for: each may take up to 2 GB."""


def usual_jobs() -> int:
    """As many processes as there are cores to run them, two at most; one where an accelerator would be shared."""
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def families(claims: Sequence[Any]) -> list[list[str]]:
    """The ids of claims whose experiments are of one module, and may share runs and compiled programs."""
    by_module: dict[str, list[str]] = {}
    for claim in claims:
        function = claim.errors or claim.measure
        while isinstance(function, partial):
            function = function.func
        by_module.setdefault(function.__module__, []).append(claim.id)
    return list(by_module.values())


def run_apart(claims: Sequence[Any], jobs: int, **how: Any) -> Iterator[dict[str, Any]]:
    """The records of the claims as they end, from `jobs` processes that take one family after the other.

    `how` goes to `toylab.claims.run_claim`.  A claim whose process breaks has the verdict `error`; another process
    takes the rest of its family.  However the iteration ends, and the process that iterates, the processes end with it.
    """
    import jax.numpy as jnp

    double = jnp.result_type(float) == jnp.float64  # as the user, or the command, chose it
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several share an accelerator, if there is one
    context = multiprocessing.get_context("spawn")
    tasks = context.Queue()
    waiting = {claim.id: claim for claim in claims}
    for family in families(claims):
        tasks.put(family)
    workers: list[_Worker] = []

    def started() -> _Worker:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(tasks, theirs, how, double), daemon=True)
        with _without_interrupts():  # Ctrl-C is the business of this process
            process.start()
        theirs.close()
        return _Worker(process, ours)

    try:
        workers.extend(started() for _ in range(jobs))
        while waiting:
            for ready in wait([worker.messages for worker in workers]):
                worker = next(one for one in workers if one.messages is ready)
                try:
                    kind, message = worker.messages.recv()
                except EOFError:
                    workers.remove(worker)
                    worker.process.join()
                    worker.messages.close()
                    if worker.family:
                        first, *rest = worker.family
                        tasks.put(rest)
                        yield _lost(waiting.pop(first), worker.process.exitcode)
                    workers.append(started())
                    continue
                if kind == "family":
                    worker.family = message
                else:
                    worker.family = worker.family[1:]
                    del waiting[message["id"]]
                    yield message
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.messages.close()
        tasks.cancel_join_thread()
        tasks.close()


@dataclass(eq=False)
class _Worker:
    """A process, the pipe that its messages come through, and the ids left of the family that it works on."""

    process: Any
    messages: Any
    family: list[str] = field(default_factory=list)


def _lost(claim: Any, code: int | None) -> dict[str, Any]:
    from toylab.claims.runner import Judgement, Result

    why = f"its process ended with code {code}" + (", out of memory? try --jobs 1" if code == -signal.SIGKILL else "")
    return Result(claim, None, None, Judgement("error", None, "", 0), why, 0.0).to_json()


@contextlib.contextmanager
def _without_interrupts() -> Generator[None]:
    """Ctrl-C is ignored meanwhile, and by a process that is started meanwhile, which inherits that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(tasks: Any, messages: Any, how: dict[str, Any], double: bool) -> None:
    """One process: says which family it takes, and then each record."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import jax

    from toylab.claims import discovered, run_claim

    jax.config.update("jax_enable_x64", double)
    claims = {claim.id: claim for claim in discovered()}
    with contextlib.redirect_stdout(sys.stderr):
        while True:
            family = tasks.get()
            messages.send(("family", family))
            for name in family:
                messages.send(("record", run_claim(claims[name], **how).to_json()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
