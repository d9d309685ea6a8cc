"""Trace a factory's step: its hyperparameters, gradient, weight and state as the inputs of one program."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from theory.errors import BadFactory, CannotTrace, NoLinearEdge, Refusal
from theory.tracing.interpreter import evaluate, objects, program
from theory.tracing.symbols import Hyperparameters, hyperparameters, name_of

w, g = sp.symbols("w g", real=True)


@dataclass
class Traced:
    """The step as a jaxpr (hyperparameters, w, g, state leaves) -> (update, new leaves); init values; leaf names."""

    closed: Any
    init: list[np.ndarray]
    names: list[str]
    parameters: Hyperparameters
    notes: list[str] = field(default_factory=list)


def trace_factory(factory: Callable, settings: dict[str, Any], t: int | None = None) -> Traced:
    """Trace with every numeric hyperparameter as a symbol; those that the rule's own code branches on are fixed."""
    parameters = replace(hyperparameters(factory, settings), t=t)
    notes: list[str] = []
    while True:
        try:
            return trace_with(factory, parameters, notes)
        except CannotTrace as error:
            smaller = _blame(factory, parameters)
            if smaller is None:
                raise
            dropped = next(n for n in parameters.symbols if n not in smaller.symbols)
            notes.append(f"{dropped} = {parameters.reference[dropped]}, since the rule's own code branches on it")
            parameters = smaller
            del error


def _blame(factory: Callable, parameters: Hyperparameters) -> Hyperparameters | None:
    """The first hyperparameter that, fixed to its default, lets the factory be traced; None if there is none."""
    for name in reversed(list(parameters.symbols)):
        if name == parameters.learning_rate:
            continue
        smaller = parameters.fix(name)
        try:
            trace_with(factory, smaller, [])
        except CannotTrace:
            continue
        except BadFactory:
            continue
        return smaller
    return None


def trace_with(factory: Callable, parameters: Hyperparameters, notes: list[str], shape: tuple = ()) -> Traced:
    """Trace the step for weights of ``shape``."""
    names = list(parameters.symbols)
    real = jnp.result_type(float)
    scalar = jax.ShapeDtypeStruct((), real)

    def build(values: tuple) -> Any:
        with _blamed(f"the factory, called with {', '.join(names) or 'no numbers'},"):
            rule = factory(**parameters.fixed, **dict(zip(names, values, strict=True)))
        if not (callable(getattr(rule, "init", None)) and callable(getattr(rule, "update", None))):
            raise BadFactory(f"the factory returned {type(rule).__name__}, an optax.GradientTransformation was needed")
        return rule

    def begin(*values: Any) -> Any:
        rule = build(values)
        with _blamed("its init, for a scalar weight and not a matrix," if shape == () else "its init"):
            return rule.init(jnp.zeros(shape, real))

    start, state_tree = program(begin, *[scalar] * len(names))
    init = evaluate(start, [objects(s) for s in parameters.symbols.values()])
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in start.jaxpr.outvars]

    def step(*flat: Any) -> Any:
        rule = build(flat[: len(names)])
        weight, gradient, *leaves = flat[len(names) :]
        with _blamed("its update, for a scalar weight and not a matrix," if shape == () else "its update"):
            answer = rule.update(gradient, jax.tree.unflatten(state_tree, leaves), weight)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise BadFactory(f"its update returned {type(answer).__name__}, a pair (updates, state) was needed")
        update, state = answer
        return [update, *jax.tree.leaves(state)]

    weights = jax.ShapeDtypeStruct(shape, real)
    closed, _ = program(step, *[scalar] * len(names), weights, weights, *avals)
    if len(closed.jaxpr.outvars) != 1 + len(avals):
        raise NoLinearEdge("the update returns a state of another structure than it was given")
    paths = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(state_tree, range(len(avals))))[0]
    return Traced(closed, init, [name_of(path) for path, _ in paths], parameters, notes)


@contextmanager
def _blamed(what: str) -> Generator[None]:
    """Errors of the user's code, in one line."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, Refusal):
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:160]
        if isinstance(error, TypeError) and "argument" in message and what.startswith("its update"):
            raise BadFactory(
                f"its update needs extra arguments: {message}",
                "rules that ask for the loss value or a gradient function have no update map on a quadratic alone",
            ) from error
        raise BadFactory(f"{what} raised {type(error).__name__}: {message}") from error
