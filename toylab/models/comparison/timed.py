"""A kernel driven for many steps by one compiled stretch, with the time that it took."""

import time
from typing import Any

import jax
import numpy as np
from jax import lax

from toylab.models.kernel import Kernel

PyTree = Any

CHUNK = 100
"""Steps of one compiled stretch."""


def driven(kernel: Kernel, start: tuple, steps: int, every: int, late: int = 0) -> tuple[tuple, float]:
    """The infos of `steps` steps after the first `late` ones, their first part only every so many steps; and the
    seconds they took, without compilation.

    One program for all stretches: as many steps of the last one as it has too many are not looked at.
    """
    stretches = -(-(steps + late) // CHUNK)
    length = -(-(steps + late) // stretches)

    def stretch(state: PyTree) -> tuple[PyTree, tuple]:
        def one(carry: PyTree, _: None) -> tuple[PyTree, tuple]:
            return kernel.step(carry)

        return lax.scan(one, state, length=length)

    state = jax.jit(kernel.init)(*start)
    program = jax.jit(stretch).lower(state).compile()
    parts, seconds = [], 0.0
    for begin in range(-late, stretches * length - late, length):
        begun = time.perf_counter()
        state, (path, *rest) = jax.block_until_ready(program(state))
        seconds += time.perf_counter() - begun
        numbers = np.arange(begin, begin + length)
        wanted = (numbers >= 0) & (numbers < steps)
        which = (wanted & (numbers % every == 0), *(wanted for _ in rest))
        stacks = zip((path, *rest), which, strict=True)
        parts.append(tuple(jax.tree.map(lambda leaf, w=w: np.asarray(leaf)[w], part) for part, w in stacks))
    infos = jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
    return infos, seconds * steps / (stretches * length)
