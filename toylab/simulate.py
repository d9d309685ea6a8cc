"""Training as a compiled loop: step, observe, freeze on divergence, one chunk of steps at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.gauging import Gauge, Kind, gauge
from toylab.observe import Moment, Observers, observers
from toylab.problems.base import Problem
from toylab.records import Status, Trajectory, versions

PyTree = Any
Progress = Callable[[int, int, dict[str, np.ndarray]], None]


class Schedule(NamedTuple):
    """When to observe: the first `pair` of every `stride` steps; `blocks` strides make a chunk. Static under
    jit."""

    stride: int
    pair: int
    blocks: int

    def observed(self, steps: int) -> np.ndarray:
        """The numbers of all observed iterates of a run of `steps` steps, ascending."""
        candidates = np.arange(0, steps, self.stride)[:, None] + np.arange(self.pair)[None]
        return candidates[candidates < steps]


def schedule(steps: int, every: int, chunk: int) -> Schedule:
    """Consecutive pairs (t, t + 1) every `every` steps; every step if `every` is 1 or 2. Raises ValueError
    below 1."""
    for name, number in (("steps", steps), ("every", every), ("chunk", chunk)):
        if number != int(number) or number < 1:
            raise ValueError(f"got {name}={number}, needs a whole number of at least 1: try {name}=100")
    stride, pair = (1, 1) if every <= 2 else (int(every), 2)
    return Schedule(stride, pair, max(1, min(int(chunk), int(steps)) // stride))


class Rule(NamedTuple):
    """A built optimizer with what its edge ratio needs; `kind` and `gauge` are None when nobody observes it."""

    transform: optax.GradientTransformation
    kind: Kind | None
    gauge: Gauge | None


class Carry(NamedTuple):
    """What the next step needs. `status` (): 0 while running; `taken` (): steps taken; `memory`: the
    observers'."""

    params: PyTree
    state: PyTree
    memory: PyTree
    status: Array
    taken: Array


def begin(problem: Problem, rule: Rule, observe: Observers) -> Carry:
    """The carry at the start of a run."""
    zero = jnp.zeros((), jnp.int32)
    return Carry(problem.params, rule.transform.init(problem.params), observe.init(problem.params), zero, zero)


def advance(
    problem: Problem,
    rule: Rule,
    observe: Observers,
    plan: Schedule,
    carry: Carry,
    start: ArrayLike,
    steps: ArrayLike,
    bound: ArrayLike,
) -> tuple[Carry, dict[str, Array]]:
    """One chunk: from iterate number `start` at most `plan.blocks` strides on, but not past `steps`.

    Pure; `start`, `steps` and `bound` are data, so that a shorter last chunk is the same program. Under vmap
    keep `start` and `steps` unbatched. Records come back as (blocks, pair, ...); entries that were not
    reached hold fill values.
    """

    begun, end = jnp.asarray(start, jnp.int32), jnp.asarray(steps, jnp.int32)

    def looked(carry: Carry, number: Array, count: Array) -> tuple[Carry, dict[str, Array]]:
        loss, grads = jax.value_and_grad(problem.value)(carry.params)
        _, hessian = jax.linearize(problem.gradient, carry.params)
        moment = Moment(
            problem, rule.transform, rule.kind, rule.gauge, carry.params, carry.state, loss, grads, hessian, count
        )
        memory, records = observe.observe(carry.memory, moment)
        running = carry.status == Status.completed
        records = {name: jnp.where(running, value, _fill(value.dtype)) for name, value in records.items()}
        return _stepped(rule, carry._replace(memory=memory), loss, grads, number, end, bound), records

    def unseen(number: Array, carry: Carry) -> Carry:
        loss, grads = jax.value_and_grad(problem.value)(carry.params)
        return _stepped(rule, carry, loss, grads, number, end, bound)

    def block(index: Array, both: tuple[Carry, dict[str, Array]]) -> tuple[Carry, dict[str, Array]]:
        carry, buffers = both
        first = begun + index * plan.stride
        count = (first // plan.stride) * plan.pair

        def observed(offset: Array, both: tuple[Carry, dict[str, Array]]) -> tuple[Carry, dict[str, Array]]:
            carry, buffers = both
            carry, records = looked(carry, first + offset, count + offset)
            return carry, {name: buffer.at[index, offset].set(records[name]) for name, buffer in buffers.items()}

        carry, buffers = lax.fori_loop(0, plan.pair, observed, (carry, buffers))
        last = jnp.minimum(first + plan.stride, end)
        if plan.stride > plan.pair:
            carry = lax.fori_loop(first + plan.pair, last, unseen, carry)
        return carry, buffers

    shapes = jax.eval_shape(lambda carry: looked(carry, begun, begun)[1], carry)
    buffers = {
        name: jnp.full((plan.blocks, plan.pair, *shape.shape), _fill(shape.dtype), shape.dtype)
        for name, shape in shapes.items()
    }
    blocks = jnp.minimum(plan.blocks, (end - begun + plan.stride - 1) // plan.stride)
    return lax.fori_loop(0, blocks, block, (carry, buffers))


def _stepped(
    rule: Rule, carry: Carry, loss: Array, grads: PyTree, number: Array, steps: Array, bound: ArrayLike
) -> Carry:
    """Take the step if the run is still going, or freeze it where it is if anything is not finite."""
    updates, state = rule.transform.update(grads, carry.state, carry.params)
    params = optax.apply_updates(carry.params, updates)
    valid = _finite((loss, grads)) & (loss <= bound)
    sound = valid & _finite(params)
    running = (carry.status == Status.completed) & (number < steps)
    go = running & sound
    failure = jnp.where((number == 0) & ~_finite((loss, grads)), Status.nonfinite_input, Status.diverged)
    return Carry(
        params=_where(go, params, carry.params),
        state=_where(go, state, carry.state),
        memory=carry.memory,
        status=jnp.where(running & ~sound, failure.astype(jnp.int32), carry.status),
        taken=carry.taken + go.astype(jnp.int32),
    )


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _fill(dtype: Any) -> float | int:
    return float("nan") if jnp.issubdtype(dtype, jnp.inexact) else -1


def drive(
    run_chunk: Callable[[PyTree, int], tuple[PyTree, dict[str, Array]]],
    carry: Any,
    plan: Schedule,
    steps: int,
    lead: int,
    progress: Progress | None,
) -> tuple[Any, dict[str, np.ndarray]]:
    """The host's loop over chunks: memory stays bounded by one chunk on the device, and progress shows.

    `run_chunk(carry, start)` does one chunk; its records have `lead` batch axes before (blocks, pair). Stops
    early once every member is frozen. Returns the last carry and the records with one axis for all observed
    iterates.
    """
    wanted = len(plan.observed(steps))
    pieces: list[dict[str, np.ndarray]] = []
    for start in range(0, steps, plan.stride * plan.blocks):
        carry, records = run_chunk(carry, start)
        records = {name: np.asarray(values) for name, values in records.items()}
        pieces.append(
            {
                name: values.reshape(*values.shape[:lead], -1, *values.shape[lead + 2 :])
                for name, values in records.items()
            }
        )
        done = min(steps, start + plan.stride * plan.blocks)
        if progress is not None:
            seen = len(plan.observed(done)) - len(plan.observed(start))
            progress(done, steps, {name: np.take(values, seen - 1, axis=lead) for name, values in pieces[-1].items()})
        if np.all(np.asarray(carry.status) != Status.completed):
            break
    joined = {}
    for name in pieces[0] if pieces else ():
        values = np.concatenate([piece[name] for piece in pieces], axis=lead)
        missing = max(0, wanted - values.shape[lead])
        padding = [(0, missing) if axis == lead else (0, 0) for axis in range(values.ndim)]
        values = np.pad(values, padding, constant_values=_fill(values.dtype))
        joined[name] = np.take(values, np.arange(wanted), axis=lead)
    return carry, joined


@partial(jax.jit, static_argnames=("transform", "observe"))
def _begin_one(problem: Problem, *, transform: optax.GradientTransformation, observe: Observers) -> Carry:
    return begin(problem, Rule(transform, None, None), observe)


@partial(jax.jit, static_argnames=("transform", "kind", "observe", "plan"))
def _advance_one(
    problem: Problem,
    numbers: Gauge | None,
    carry: Carry,
    start: int,
    steps: int,
    bound: float,
    *,
    transform: optax.GradientTransformation,
    kind: Kind | None,
    observe: Observers,
    plan: Schedule,
) -> tuple[Carry, dict[str, Array]]:
    return advance(problem, Rule(transform, kind, numbers), observe, plan, carry, start, steps, bound)


def train(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    observe: Observers = observers(),
    every: int = 1,
    chunk: int = 256,
    diverge_above: float = float("inf"),
    progress: Progress | None = None,
) -> Trajectory:
    """Run `transform` on `problem` for `steps` steps, as optax's own loop would.

    Iterate t = 0 ... steps - 1 is observed before its step: consecutive pairs (t, t + 1) every `every` steps,
    all if `every` <= 2. `chunk` steps are run between two calls of `progress(done, steps, latest records)`;
    it bounds memory and does not change the result. A run whose loss, gradient or next parameters are not
    finite, or whose loss exceeds `diverge_above`, freezes at its last finite iterate with a status; nothing
    is raised for it.

    Raises ValueError for steps, every or chunk below 1 or for something that is no Problem or no optimizer;
    NoLinearEdge (a ValueError) if the edge ratio is asked for and the rule has none.
    """
    check_problem(problem)
    check_rule(transform, problem)
    plan = schedule(steps, every, chunk)
    kind, numbers = gauge(transform, problem.params) if observe.needs_gauge else (None, None)
    carry = _begin_one(problem, transform=transform, observe=observe)

    def run_chunk(carry: Carry, start: int) -> tuple[Carry, dict[str, Array]]:
        return _advance_one(
            problem,
            numbers,
            carry,
            start,
            steps,
            float(diverge_above),
            transform=transform,
            kind=kind,
            observe=observe,
            plan=plan,
        )

    carry, records = drive(run_chunk, carry, plan, steps, 0, progress)
    config = {
        "problem": problem.name,
        "steps": steps,
        "every": every,
        "observe": dict(observe.chosen),
        "precision": str(jnp.result_type(float)),
        "diverge_above": diverge_above if np.isfinite(diverge_above) else None,
        "versions": versions(),
    }
    return Trajectory(
        plan.observed(steps), records, Status(int(carry.status)), int(carry.taken), carry.params, carry.state, config
    )


def check_problem(problem: Any) -> None:
    """Raise ValueError unless `problem` is a Problem with floating parameters and a scalar loss."""
    if not isinstance(problem, Problem):
        raise ValueError(f"got {type(problem).__name__} where a Problem is needed: write toylab.Problem(loss, params)")
    leaves = jax.tree.leaves(problem.params)
    if not leaves or not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        raise ValueError(
            "a Problem's params must be floating arrays, at least one: "
            f"got {[str(jnp.result_type(leaf)) for leaf in leaves]}"
        )
    value = jax.eval_shape(problem.value, problem.params)
    if getattr(value, "shape", None) != ():
        raise ValueError(f"a Problem's loss must return one number, got {value}: take a mean in the loss")


def check_rule(transform: Any, problem: Problem) -> None:
    """Raise ValueError unless `transform` is an optimizer whose update needs (grads, state, params) and no
    more."""
    if not (callable(getattr(transform, "init", None)) and callable(getattr(transform, "update", None))):
        raise ValueError(
            f"got {type(transform).__name__} where an optimizer is needed: build one first, as in optax.adam(1e-3)"
        )
    try:
        state = jax.eval_shape(transform.init, problem.params)
        jax.eval_shape(transform.update, problem.params, state, problem.params)
    except TypeError as error:
        raise ValueError(f"this optimizer's update cannot be called with (grads, state, params): {error}") from error
