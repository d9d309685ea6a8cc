"""The declaration of a model of training: its name, its kernel, the rules that it covers, and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from toylab.models.kernel import Kernel

Dashes = str | tuple[int, tuple[float, ...]]
"""A line style: `-` for a solid line, or the offset and the lengths of dashes and gaps in points."""


class Coverage(IntEnum):
    """The rules that a model covers; wider ones come first."""

    linear_edge = 0  # every rule with a linear edge
    flip = 1  # those whose edge is a flip, with a mean that follows the mean gradient
    gradient_descent = 2  # gradient descent without memory


class Appearance(NamedTuple):
    """How a model is drawn, as plain data: `label` in legends, `colour` as #rrggbb, `dashes` of its line, and its
    `marker` by matplotlib's letter.  Models must differ by marker or dashes, for readers who see no colours.
    """

    label: str
    colour: str
    dashes: Dashes
    marker: str


@dataclass(frozen=True)
class Model:
    """A model of training that can be laid beside an optimizer's run.

    `name`: of the command line and of records.  `steps(problem, transform, known, count=...)`: its kernel, with
    `init(params, state)` and `toylab.models.predictions.Predictions` as info; `known` is the rule's structure and edge
    data, or None, `count` how many eigenvalues are followed.  It raises ValueError, with the reason, for a rule that
    it does not cover; `covers` says which it does.  `slow`: whether a step takes hundreds of gradients, so that the
    model is only run when it is asked for.
    """

    name: str
    steps: Callable[..., Kernel]
    covers: Coverage
    appearance: Appearance
    slow: bool = False
