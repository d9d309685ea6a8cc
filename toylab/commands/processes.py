"""Claims in several processes: nearly all their time goes into compiling, which one process does on one core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
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
    found: dict[str, list[str]] = {}
    for claim in claims:
        function = claim.errors or claim.measure
        while isinstance(function, partial):
            function = function.func
        found.setdefault(function.__module__, []).append(claim.id)
    return list(found.values())


def run_apart(claims: Sequence[Any], jobs: int, **how: Any) -> Iterator[dict[str, Any]]:
    """The records of the claims as they end, from `jobs` processes that take one family after the other.

    `how` goes to `toylab.claims.run_claim`.  A claim whose process ended without a word has the verdict `error`.
    However the iteration ends, the processes end with it.
    """
    import jax.numpy as jnp

    double = jnp.result_type(float) == jnp.float64  # as the user, or the command, chose it
    context = multiprocessing.get_context("spawn")
    tasks, done = context.Queue(), context.Queue()
    for family in [*families(claims), *[None] * jobs]:
        tasks.put(family)
    workers = [context.Process(target=_work, args=(tasks, done, how, double), daemon=True) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        left = {claim.id: claim for claim in claims}
        while left:
            alive = any(worker.is_alive() for worker in workers)
            with contextlib.suppress(queue.Empty):
                record = done.get(timeout=0.5)
                del left[record["id"]]
                yield record
                continue
            if not alive:
                yield from (_lost(claim) for claim in left.values())
                return
    finally:
        for worker in workers:
            worker.terminate()


def _lost(claim: Any) -> dict[str, Any]:
    from toylab.claims.runner import Judgement, Result

    return Result(
        claim, None, None, Judgement("error", None, "", 0), "its process ended: out of memory? try --jobs 1", 0.0
    ).to_json()


def _work(tasks: Any, done: Any, how: dict[str, Any], double: bool) -> None:
    """One process: Ctrl-C is the business of the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import jax

    from toylab.claims import discovered, run_claim

    jax.config.update("jax_enable_x64", double)
    claims = {claim.id: claim for claim in discovered()}
    with contextlib.redirect_stdout(sys.stderr):
        while (family := tasks.get()) is not None:
            for name in family:
                done.put(run_claim(claims[name], **how).to_json())
