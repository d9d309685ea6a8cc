"""What figures of training runs share: members of one compiled sweep, means over an oscillation, colours of rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from figures import style
from toylab.optimizers import NAMED

RATES = (style.BLACK, "#0068a5", style.ORANGE, "#e9a91c")
"""Colours of up to four learning rates, the smallest first: lighter and lighter, also in grey."""

Member = tuple[str, Mapping[str, float]]


def numbered(members: Sequence[Member]) -> Callable[[ArrayLike], optax.GradientTransformation]:
    """A factory of `member` = 0, 1, ...: the rule of that name with its settings, for `toylab.sweep`.

    Different rules and settings run in one compiled program: every rule of the list takes its step, and the member's
    own is kept. Settings of the members of one rule must have the same names.
    """
    rules = list(dict.fromkeys(rule for rule, _ in members))
    owner = np.array([rules.index(rule) for rule, _ in members])

    def settings(rule: str, index: jax.Array) -> dict[str, jax.Array]:
        own = [values for name, values in members if name == rule]
        # members of another rule get the settings of the first of this one, and drop the step that they make
        table = {key: [(values if name == rule else own[0])[key] for name, values in members] for key in own[0]}
        return {key: jnp.asarray(column, float)[index] for key, column in table.items()}

    def chosen(member: ArrayLike) -> optax.GradientTransformation:
        index = jnp.asarray(member, int)
        transforms = [NAMED[rule](**settings(rule, index)) for rule in rules]
        if len(transforms) == 1:
            return transforms[0]

        def init(params: Any) -> list[Any]:
            return [transform.init(params) for transform in transforms]

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            taken = [rule.update(updates, own, params) for rule, own in zip(transforms, state, strict=True)]
            mine = jnp.asarray(owner)[index]
            step = jax.tree.map(lambda *steps: lax.select_n(mine, *steps), *(step for step, _ in taken))
            return step, [new for _, new in taken]

        return optax.GradientTransformation(init, update)

    return chosen


def paired(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each two consecutive steps and of their values (..., T): without an oscillation of period two."""
    first = np.flatnonzero(np.diff(steps) == 1)
    return steps[first] + 0.5, (values[..., first] + values[..., first + 1]) / 2
