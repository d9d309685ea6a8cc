"""What is measured while training. One observer is an (init, observe) pair and one entry of `OBSERVERS`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from toylab import curvature, filters
from toylab.gauging import Gauge, Kind
from toylab.problems.base import Problem

PyTree = Any


class Moment(NamedTuple):
    """Everything an observer may look at: one iterate, before its step is taken.

    `state` is the optimizer's before the step; `hvp` is the Hessian at `params` as a linear map on pytrees;
    `kind` and `gauge` are the rule's (see `toylab.gauging`), None when no observer needs them; `count`
    numbers the observations of a run from 0 and is the same for all members of a batch.
    """

    problem: Problem
    transform: optax.GradientTransformation
    kind: Kind | None
    gauge: Gauge | None
    params: PyTree
    state: PyTree
    loss: Array
    grads: PyTree
    hvp: Callable[[PyTree], PyTree]
    count: Array


class Observer(NamedTuple):
    """`init(params) -> memory`; `observe(memory, moment) -> (memory, {record name: array})`. Pure, jit and
    vmap."""

    init: Callable[[PyTree], PyTree]
    observe: Callable[[PyTree, Moment], tuple[PyTree, dict[str, Array]]]


def _loss(option: int) -> Observer:
    del option
    return Observer(lambda params: (), lambda memory, moment: (memory, {"loss": moment.loss}))


def _grad_norm(option: int) -> Observer:
    del option
    return Observer(lambda params: (), lambda memory, moment: (memory, {"grad_norm": optax.tree.norm(moment.grads)}))


def _sharpness(count: int) -> Observer:
    """The `count` largest eigenvalues of H, (count,), and the residual of each."""

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        pairs = _tracked(memory, moment, None)
        return pairs.vector, {
            "sharpness": pairs.value,
            "sharpness_residual": pairs.residual,
            "sharpness_products": pairs.products,
        }

    return Observer(lambda params: _nothing_yet(params, count), observe)


def _edge_ratio(option: int) -> Observer:
    """lambda_max(P^-1/2 H P^-1/2) over the rule's threshold: 1 at the edge. P is that of this very step; with coupled
    weight decay H is the loss's Hessian plus that decay.
    """
    del option

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        kind, gauge = moment.kind, moment.gauge
        assert kind is not None and gauge is not None, "prepared for every run that observes the edge ratio"
        preconditioner = filters.inverse_preconditioner(moment.transform, kind.roles, gauge.impulse, kind.delay)
        inverse = preconditioner(moment.grads, moment.state, moment.params)

        def decayed(vector: PyTree) -> PyTree:  # coupled decay adds to the curvature that the rule feels
            return jax.tree.map(lambda h, v: h + jnp.asarray(gauge.coupled, v.dtype) * v, moment.hvp(vector), vector)

        pairs = _tracked(memory, moment._replace(hvp=decayed), inverse)
        ratio = pairs.value[0] / jnp.asarray(gauge.threshold, dtype=pairs.value.dtype)
        return pairs.vector, {
            "edge_ratio": ratio,
            "edge_residual": pairs.residual[0],
            "edge_products": pairs.products,
            "excluded": pairs.excluded,
        }

    return Observer(lambda params: _nothing_yet(params, 1), observe)


def _nothing_yet(params: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), params)


AUDIT = 16  # every so many observations the eigenvectors are sought with a longer search
TOLERANCE = 1e-2  # of the residual: the error of a value is about its square over the relative gap


def _tracked(memory: PyTree, moment: Moment, inverse: PyTree) -> curvature.EigenPair:
    """Top eigenpairs from the last ones with two products each. An eigenvalue that overtakes shows in no
    residual and enters a two-product search only slowly, so each `AUDIT`-th observation is a longer search
    (and so is the first).
    """
    products = jnp.where(moment.count % AUDIT == 0, curvature.RESTART, 2)
    return curvature.top_eigenpairs(
        moment.hvp, memory, inverse_preconditioner=inverse, products=products, tolerance=TOLERANCE
    )


# name -> (option -> Observer). An option of False or 0 leaves the observer out.
OBSERVERS: dict[str, Callable[[int], Observer]] = {
    "loss": _loss,
    "grad_norm": _grad_norm,
    "sharpness": _sharpness,
    "edge_ratio": _edge_ratio,
}


@dataclass(frozen=True)
class Observers:
    """A choice of observers: hashable, static under jit. `chosen` holds (name, option) pairs."""

    chosen: tuple[tuple[str, int], ...]

    @property
    def needs_gauge(self) -> bool:
        """Whether the rule's threshold must be computed beforehand."""
        return any(name == "edge_ratio" for name, _ in self.chosen)

    def init(self, params: PyTree) -> dict[str, PyTree]:
        """The memory of every chosen observer at the start of a run."""
        return {name: OBSERVERS[name](option).init(params) for name, option in self.chosen}

    def observe(self, memory: dict[str, PyTree], moment: Moment) -> tuple[dict[str, PyTree], dict[str, Array]]:
        """The records of one moment, and the memory for the next."""
        remembered, records = {}, {}
        for name, option in self.chosen:
            remembered[name], record = OBSERVERS[name](option).observe(memory[name], moment)
            records |= record
        return remembered, records


def observers(loss: bool = True, **others: int) -> Observers:
    """Choose what a run records: `loss` (default), `edge_ratio=True`, `sharpness=k`, `grad_norm=True`.

    Records: `loss` (); `edge_ratio` () with `edge_residual` () and `excluded` (), the coordinates without a
    preconditioner; `sharpness` (k,), descending, with `sharpness_residual` (k,); `grad_norm` (), Euclidean.
    All at the iterate before its step.

    Raises ValueError for an unknown name or a negative option.
    """
    wanted: dict[str, int] = {"loss": loss, **others}
    for name, option in wanted.items():
        if name not in OBSERVERS:
            near = difflib.get_close_matches(name, OBSERVERS, 1) or list(OBSERVERS)
            raise ValueError(f"no observer is called {name!r}: try {', '.join(near)}")
        if int(option) < 0:
            raise ValueError(f"got {name}={option}, needs True, False or a count: try {name}=1")
    return Observers(tuple((name, int(option)) for name, option in wanted.items() if option))


class Plateau(NamedTuple):
    """Where a recorded ratio settled. `outcome`: "settled", "never reached" (the edge), "diverged" or "too
    short".

    `mean`, `spread`: average and standard deviation over time of the pair averages in the window, NaN unless
    settled. `pairs`: how many. `reached`: the step at which the edge was first reached, -1 if never.
    `window`: first and last step.
    """

    outcome: str
    mean: float
    spread: float
    pairs: int
    reached: int
    window: tuple[int, int]


REACHED = 0.95


def plateau(steps: np.ndarray, ratio: np.ndarray) -> Plateau:
    """The plateau of a ratio recorded at `steps` (T,), which contain consecutive pairs (t, t + 1).

    Consecutive values are averaged in disjoint pairs, so that an oscillation of period two cancels. The edge
    is reached where they first cross 0.95 from below (at the start, if they are never below it): a fresh second moment
    puts an adaptive rule above the edge for its first steps, which is no plateau. The window is the last half of the
    steps from there to the end. A spread over time, not over seeds: correlated pairs make it no standard error of the
    mean.

    Raises ValueError if the shapes differ or no two consecutive steps were recorded.
    """
    steps, ratio = np.asarray(steps), np.asarray(ratio, dtype=float)
    if steps.shape != ratio.shape or steps.ndim != 1:
        raise ValueError(
            f"plateau: got steps {steps.shape} and ratio {ratio.shape}, needs two equal lengths: "
            "give one run of a sweep at a time"
        )
    first = _disjoint_pairs(steps)
    if not first.size:
        raise ValueError("plateau: got no two consecutive steps, needs pairs (t, t + 1): record them with toylab.train")
    averages, times = 0.5 * (ratio[first] + ratio[first + 1]), steps[first]
    below = averages < REACHED
    above = np.flatnonzero(~below & (np.maximum.accumulate(below) | ~below.any()))
    reached = int(times[above[0]]) if above.size else -1
    if not np.isfinite(ratio).all():
        return Plateau("diverged", np.nan, np.nan, 0, reached, (-1, -1))
    if reached < 0:
        return Plateau("never reached", np.nan, np.nan, 0, reached, (-1, -1))
    inside = averages[times >= reached + (times[-1] - reached) / 2]
    window = (int(times[times >= reached + (times[-1] - reached) / 2][0]), int(times[-1]) + 1)
    if inside.size < 2:
        return Plateau("too short", np.nan, np.nan, int(inside.size), reached, window)
    return Plateau("settled", float(inside.mean()), float(inside.std(ddof=1)), int(inside.size), reached, window)


def _disjoint_pairs(steps: np.ndarray) -> np.ndarray:
    """Indices i such that steps[i], steps[i] + 1 = steps[i + 1] are pairs without a common member."""
    follows = np.diff(steps) == 1
    indices = np.arange(len(follows))
    run_start = np.maximum.accumulate(np.where(np.r_[True, ~follows[:-1]], indices, 0)) if len(follows) else indices
    return np.flatnonzero(follows & ((indices - run_start) % 2 == 0))
