"""A kernel driven for many steps by one compiled stretch, with the time that it took."""

import time
from functools import partial
from typing import Any

import jax
import numpy as np

from toylab.models.kernel import Kernel, rollout

PyTree = Any

CHUNK = 100
"""Steps of one compiled stretch at most: they bound the memory on the device."""


def driven(kernel: Kernel, start: tuple, steps: int, every: int, late: int = 0) -> tuple[tuple, float]:
    """The infos of `steps` steps after the first `late` ones, their first part only every so many steps; and the
    seconds they took, without compilation.

    `rollout` on the host, for runs whose infos do not fit on the device.  One program for all stretches: as many steps
    of the last one as it has too many are not looked at.
    """
    stretches = -(-(steps + late) // CHUNK)
    length = -(-(steps + late) // stretches)
    state = jax.jit(kernel.init)(*start)
    program = jax.jit(partial(rollout, kernel, steps=length)).lower(state).compile()
    parts, seconds = [], 0.0
    for begin in range(-late, stretches * length - late, length):
        start_time = time.perf_counter()
        state, (path, *rest) = jax.block_until_ready(program(state))
        seconds += time.perf_counter() - start_time
        numbers = np.arange(begin, begin + length)
        wanted = (numbers >= 0) & (numbers < steps)
        which = (wanted & (numbers % every == 0), *(wanted for _ in rest))
        stacks = zip((path, *rest), which, strict=True)
        parts.append(tuple(jax.tree.map(lambda leaf, w=w: np.asarray(leaf)[w], part) for part, w in stacks))
    infos = jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
    return infos, seconds * steps / (stretches * length)
