"""Members of the cubic normal form on which rules are run held, and their 2-cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toylab.experiments import toy_orbits as toy

UNIT = 2.0**-60
"""The size of the toys: rules that are linear only at rest (centred, clipped) are at rest to 2^-120."""


@dataclass(frozen=True)
class Toys:
    """Members of one rule: hyperparameters, coefficients of the normal form, where to start; each (members, ...).

    The slow leaves are held at 1; the loss is multiplied by the P that they give, so that P^-1 H does not know it.
    ``alpha``: sharpening rate before that.  ``reference``: what an order claim measures its error against.
    """

    hyperparameters: dict[str, np.ndarray]
    model: dict[str, np.ndarray]
    start: np.ndarray
    alpha: np.ndarray
    reference: np.ndarray

    def member(self, i: int) -> dict[str, float]:
        """Hyperparameters of member ``i``."""
        return {name: float(values[i]) for name, values in self.hyperparameters.items()}


Sample = dict[str, Toys]


def cycles_of(sample: Sample) -> dict[str, toy.Cycle]:
    """2-cycles of the members of every rule."""
    return {r: toy.two_cycles(r, t.hyperparameters, t.model, t.start) for r, t in sample.items()}
