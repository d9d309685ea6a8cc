"""Training as a compiled loop: step, observe, freeze on divergence, one chunk of steps at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.observing.batches import drawn_batch
from toylab.observing.chosen import Observers
from toylab.observing.observer import Moment, step_keys
from toylab.problems.problem import Problem
from toylab.rules.edge import EdgeData, RuleStructure
from toylab.training.options import ObservationPlan
from toylab.training.records import Status, fill_value

PyTree = Any


class AnalysedRule(NamedTuple):
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


def begin(problem: Problem, rule: AnalysedRule, observe: Observers, key: Array) -> Carry:
    """The carry at the start of a run."""
    zero, params = jnp.zeros((), jnp.int32), problem.params
    return Carry(params, params, rule.transform.init(params), observe.init(params), key, zero, zero)


def advance(
    problem: Problem,
    rule: AnalysedRule,
    observe: Observers,
    plan: ObservationPlan,
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

    begin_number, end = jnp.asarray(start, jnp.int32), jnp.asarray(steps, jnp.int32)

    def step_from(carry: Carry, number: Array, full_batch: tuple[Array, PyTree] | None) -> Step:
        if plan.batch is None:
            loss, grads = problem.value_and_gradient(carry.params) if full_batch is None else full_batch
        else:
            sampled, _ = step_keys(carry.key, number)
            batch = problem.take(drawn_batch(sampled, problem.examples, plan.batch))
            loss, grads = batch.value_and_gradient(carry.params)
        updates, state = rule.transform.update(grads, carry.state, carry.params)
        return Step(loss, grads, optax.apply_updates(carry.params, updates), state)

    def observed_step(carry: Carry, number: Array, count: Array) -> tuple[Carry, dict[str, Array]]:
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
        records = {name: jnp.where(running, value, fill_value(value.dtype)) for name, value in records.items()}
        return _stepped(carry._replace(memory=memory), step, number, end, bound), records

    def unobserved_step(number: Array, carry: Carry) -> Carry:
        return _stepped(carry, step_from(carry, number, None), number, end, bound)

    def block(index: Array, both: tuple[Carry, dict[str, Array]]) -> tuple[Carry, dict[str, Array]]:
        carry, buffers = both
        first = begin_number + index * plan.stride
        count = (first // plan.stride) * plan.pair

        def one_observed(offset: Array, both: tuple[Carry, dict[str, Array]]) -> tuple[Carry, dict[str, Array]]:
            carry, buffers = both
            carry, records = observed_step(carry, first + offset, count + offset)
            return carry, {name: buffer.at[index, offset].set(records[name]) for name, buffer in buffers.items()}

        carry, buffers = lax.fori_loop(0, plan.pair, one_observed, (carry, buffers))
        last = jnp.minimum(first + plan.stride, end)
        if plan.stride > plan.pair:
            carry = lax.fori_loop(first + plan.pair, last, unobserved_step, carry)
        return carry, buffers

    shapes = jax.eval_shape(lambda carry: observed_step(carry, begin_number, begin_number)[1], carry)
    buffers = {
        name: jnp.full((plan.blocks, plan.pair, *shape.shape), fill_value(shape.dtype), shape.dtype)
        for name, shape in shapes.items()
    }
    blocks = jnp.minimum(plan.blocks, (end - begin_number + plan.stride - 1) // plan.stride)
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
