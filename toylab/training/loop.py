"""Training as a compiled loop: step, observe, freeze on divergence, one chunk of steps at a time."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.observing.batches import drawn_batch
from toylab.observing.chosen import Observers, observers
from toylab.observing.observer import Moment, step_keys
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure, edge_data
from toylab.training.records import Status, Trajectory, versions

PyTree = Any
Progress = Callable[[int, int, dict[str, np.ndarray]], None]


class Course(NamedTuple):
    """What is asked of a run beside problem and rule: the arguments of `train` that have these names."""

    steps: int
    every: int = 1
    chunk: int = 256
    diverge_above: float = float("inf")
    batch_size: int | None = None
    batch_seed: int = 0


class Schedule(NamedTuple):
    """When to observe: the first `pair` of every `stride` steps; at most `blocks` strides make a chunk. `batch`: of how
    many examples a step's gradient is the mean, None for all. Static under jit."""

    stride: int
    pair: int
    blocks: int
    batch: int | None = None

    def observed(self, steps: int) -> np.ndarray:
        """The numbers of all observed iterates of a run of `steps` steps, ascending."""
        candidates = np.arange(0, steps, self.stride)[:, None] + np.arange(self.pair)[None]
        return candidates[candidates < steps]


def schedule(problem: Problem, course: Course) -> Schedule:
    """Consecutive pairs (t, t + 1) every `every` steps; every step if `every` is 1 or 2. Raises ValueError
    below 1, for a batch larger than the data."""
    steps, every, chunk, batch_size = course.steps, course.every, course.chunk, course.batch_size
    for name, number in (("steps", steps), ("every", every), ("chunk", chunk), ("batch_size", batch_size)):
        if number is not None and (number != int(number) or number < 1):
            raise ValueError(f"got {name}={number}, needs a whole number of at least 1: try {name}=100")
    if batch_size is not None and batch_size > problem.examples:
        raise ValueError(f"got batch_size={batch_size}, needs at most the {problem.examples} examples of the problem")
    stride, pair = (1, 1) if every <= 2 else (int(every), 2)
    return Schedule(stride, pair, max(1, min(int(chunk), int(steps)) // stride), batch_size)


class Rule(NamedTuple):
    """A built optimizer with what its edge ratio needs; `structure` and `edge` are None when nobody observes it."""

    transform: optax.GradientTransformation
    structure: RuleStructure | None
    edge: EdgeData | None


class Carry(NamedTuple):
    """What the next step needs. `previous`: the weights one step ago; `key`: the run's random key, from which each
    step's own is folded; `status` (): 0 while running; `taken` (): steps taken; `memory`: the observers'."""

    params: PyTree
    previous: PyTree
    state: PyTree
    memory: PyTree
    key: Array
    status: Array
    taken: Array


class Step(NamedTuple):
    """One step as computed, whether or not it is then taken: loss and gradient that it uses, and where it leads."""

    loss: Array
    grads: PyTree
    params: PyTree
    state: PyTree


def begin(problem: Problem, rule: Rule, observe: Observers, key: Array) -> Carry:
    """The carry at the start of a run."""
    zero, params = jnp.zeros((), jnp.int32), problem.params
    return Carry(params, params, rule.transform.init(params), observe.init(params), key, zero, zero)


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

    def step_from(carry: Carry, number: Array, whole: tuple[Array, PyTree] | None) -> Step:
        if plan.batch is None:
            loss, grads = problem.value_and_gradient(carry.params) if whole is None else whole
        else:
            sampled, _ = step_keys(carry.key, number)
            batch = problem.take(drawn_batch(sampled, problem.examples, plan.batch))
            loss, grads = batch.value_and_gradient(carry.params)
        updates, state = rule.transform.update(grads, carry.state, carry.params)
        return Step(loss, grads, optax.apply_updates(carry.params, updates), state)

    def looked(carry: Carry, number: Array, count: Array) -> tuple[Carry, dict[str, Array]]:
        if observe.needs_curvature:
            loss, grads, hvp = problem.expanded(carry.params)
        else:
            (loss, grads), hvp = problem.value_and_gradient(carry.params), None
        step = step_from(carry, number, (loss, grads))
        moment = Moment(
            problem=problem,
            transform=rule.transform,
            structure=rule.structure,
            edge=rule.edge,
            params=carry.params,
            state=carry.state,
            previous=carry.previous,
            following=step.params,
            loss=loss,
            grads=grads,
            step_grads=step.grads,
            hvp=hvp,
            run_key=carry.key,
            number=number,
            count=count,
        )
        memory, records = observe.observe(carry.memory, moment)
        running = carry.status == Status.completed
        records = {name: jnp.where(running, value, _fill(value.dtype)) for name, value in records.items()}
        return _stepped(carry._replace(memory=memory), step, number, end, bound), records

    def unseen(number: Array, carry: Carry) -> Carry:
        return _stepped(carry, step_from(carry, number, None), number, end, bound)

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


def _stepped(carry: Carry, step: Step, number: Array, steps: Array, bound: ArrayLike) -> Carry:
    """Take the step if the run is still going, or freeze it where it is if anything is not finite."""
    valid = _finite((step.loss, step.grads)) & (step.loss <= bound)
    sound = valid & _finite(step.params)
    running = (carry.status == Status.completed) & (number < steps)
    go = running & sound
    failure = jnp.where((number == 0) & ~_finite((step.loss, step.grads)), Status.nonfinite_input, Status.diverged)
    return carry._replace(
        params=_where(go, step.params, carry.params),
        previous=_where(go, carry.params, carry.previous),
        state=_where(go, step.state, carry.state),
        status=jnp.where(running & ~sound, failure.astype(jnp.int32), carry.status),
        taken=carry.taken + go.astype(jnp.int32),
    )


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _fill(dtype: Any) -> float | int | bool:
    if jnp.issubdtype(dtype, jnp.inexact):
        return float("nan")
    return False if jnp.issubdtype(dtype, jnp.bool_) else -1


SHORT, LONG = 0.5, 2.0  # seconds: a chunk that took less is followed by a larger one, one that took more by a smaller


class Driven(NamedTuple):
    """A run so far: how many steps are `done`, the last carry, the `latest` records, and all of them on demand."""

    done: int
    carry: Any
    latest: dict[str, np.ndarray]
    records: Callable[[], dict[str, np.ndarray]]


def drive(
    run_chunk: Callable[[Any, int, int], tuple[Any, dict[str, Array]]],
    carry: Any,
    plan: Schedule,
    steps: int,
    lead: int,
) -> Iterator[Driven]:
    """The host's loop over chunks: memory stays bounded by one chunk on the device, and the caller may look, or stop.

    `run_chunk(carry, start, stop)` does one chunk of at most `plan.blocks` strides; its records have `lead` batch axes
    before (blocks, pair). Chunks grow or shrink with the time they take, which changes no result. Ends early once every
    member is frozen; then the missing records are fill values.
    """
    pieces: list[dict[str, np.ndarray]] = []

    def joined(done: int, count: int) -> dict[str, np.ndarray]:
        wanted, whole = len(plan.observed(done)), {}
        for name in pieces[0]:
            values = np.concatenate([piece[name] for piece in pieces[:count]], axis=lead)
            padding = [(0, wanted - values.shape[lead] if axis == lead else 0) for axis in range(values.ndim)]
            whole[name] = np.pad(values, padding, constant_values=_fill(values.dtype))
        return whole

    start, blocks, frozen = 0, 1, False
    while start < steps and not frozen:
        stop, begun = min(steps, start + plan.stride * blocks), time.monotonic()
        carry, records = run_chunk(carry, start, stop)
        seen = len(plan.observed(stop)) - len(plan.observed(start))
        flat = {
            name: values.reshape(*values.shape[:lead], plan.blocks * plan.pair, *values.shape[lead + 2 :])
            for name, values in ((name, np.asarray(values)) for name, values in records.items())
        }
        pieces.append({name: np.take(values, np.arange(seen), axis=lead) for name, values in flat.items()})
        frozen = bool(np.all(np.asarray(carry.status) != Status.completed))
        took, start = time.monotonic() - begun, stop
        blocks = min(plan.blocks, 2 * blocks) if took < SHORT else max(1, blocks // 2) if took > LONG else blocks
        latest = {name: np.take(values, -1, axis=lead) for name, values in pieces[-1].items()}
        yield Driven(stop, carry, latest, partial(joined, steps if frozen else stop, len(pieces)))


def last_of(run: Iterator[Any], steps: int, progress: Progress | None) -> Any:
    """The last item of a run, telling `progress(done, steps, latest records)` of each."""
    now = None
    for now in run:
        if progress is not None:
            progress(now.done, steps, now.latest)
    return now


@partial(jax.jit, static_argnames=("transform", "observe"))
def _begin_one(problem: Problem, key: Array, *, transform: optax.GradientTransformation, observe: Observers) -> Carry:
    return begin(problem, Rule(transform, None, None), observe, key)


@partial(jax.jit, static_argnames=("transform", "structure", "observe", "plan"))
def _advance_one(
    problem: Problem,
    numbers: EdgeData | None,
    carry: Carry,
    start: int,
    stop: int,
    bound: float,
    *,
    transform: optax.GradientTransformation,
    structure: RuleStructure | None,
    observe: Observers,
    plan: Schedule,
) -> tuple[Carry, dict[str, Array]]:
    return advance(problem, Rule(transform, structure, numbers), observe, plan, carry, start, stop, bound)


def train(
    problem: Problem,
    transform: optax.GradientTransformation,
    steps: int,
    observe: Observers = observers(),
    every: int = 1,
    chunk: int = 256,
    diverge_above: float = float("inf"),
    progress: Progress | None = None,
    batch_size: int | None = None,
    batch_seed: int = 0,
) -> Trajectory:
    """Run `transform` on `problem` for `steps` steps, as optax's own loop would.

    Iterate t = 0 ... steps - 1 is observed before its step: consecutive pairs (t, t + 1) every `every` steps,
    all if `every` <= 2. At most `chunk` steps are run between two calls of `progress(done, steps, latest records)`;
    it bounds memory and does not change the result. `batch_size`: each step uses the gradient of that many
    examples, drawn anew without replacement from `batch_seed` (None: of all examples); observers see the whole problem.
    A run whose loss, gradient or next parameters are not
    finite, or whose loss exceeds `diverge_above`, freezes at its last finite iterate with a status; nothing
    is raised for it.

    Raises ValueError for steps, every, chunk or batch_size below 1, a batch larger than the data, or for something that
    is no Problem or no optimizer; NoLinearEdge (a ValueError) if the edge ratio is asked for and the rule has none.
    """
    course = Course(steps, every, chunk, diverge_above, batch_size, batch_seed)
    return last_of(training(problem, transform, course, observe), steps, progress).result()


class Partial(NamedTuple):
    """A run, or the runs of a sweep, after `done` of the steps: the `latest` records, and on demand the `result` so
    far, a Trajectory or a Sweep, in which what is not at its end has the status `interrupted`.
    """

    done: int
    latest: dict[str, np.ndarray]
    result: Callable[[], Any]


def training(
    problem: Problem, transform: optax.GradientTransformation, course: Course, observe: Observers = observers()
) -> Iterator[Partial]:
    """As `train`, one chunk after the other: for a caller who wants to look, to save, or to stop in between.

    Raises what `train` raises, at once.
    """
    check_problem(problem)
    check_rule(transform, problem)
    plan, steps = schedule(problem, course), course.steps
    structure, numbers = edge_data(transform, problem.params) if observe.needs_edge else (None, None)
    choices = {"transform": transform, "observe": observe}
    carry = _begin_one(problem, jax.random.key(course.batch_seed), **choices)
    config = configuration(problem, course, observe)

    def run_chunk(carry: Carry, start: int, stop: int) -> tuple[Carry, dict[str, Array]]:
        bound = float(course.diverge_above)
        return _advance_one(problem, numbers, carry, start, stop, bound, structure=structure, plan=plan, **choices)

    def trajectory(now: Driven) -> Trajectory:
        status, records = Status(int(now.carry.status)), now.records()
        if status == Status.completed and now.done < steps:
            status = Status.interrupted
        observed = plan.observed(now.done if status == Status.interrupted else steps)
        return Trajectory(observed, records, status, int(now.carry.taken), now.carry.params, now.carry.state, config)

    return (Partial(now.done, now.latest, partial(trajectory, now)) for now in drive(run_chunk, carry, plan, steps, 0))


def configuration(problem: Problem, course: Course, observe: Observers) -> dict[str, Any]:
    """What was run, as JSON."""
    return {
        "problem": problem.name,
        "steps": course.steps,
        "every": course.every,
        "observe": dict(observe.chosen),
        "batch_size": course.batch_size,
        "batch_seed": course.batch_seed,
        "precision": str(jnp.result_type(float)),
        "diverge_above": course.diverge_above if np.isfinite(course.diverge_above) else None,
        "versions": versions(),
    }


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
