"""The border of a sweep: a grid of hyperparameters and seeds as arrays, or a refusal that says what to change."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from toylab.problems.problem import Problem

PyTree = Any
Factory = Callable[..., optax.GradientTransformation]
Source = Problem | Callable[[Any], Problem]


def factory_attribute(factory: Factory, attribute: str) -> str:
    """An attribute of a factory, or of its class: partials and objects have no name of their own."""
    return getattr(factory, attribute, getattr(type(factory), attribute))


def same_problem(seed: PyTree, problem: Problem) -> Problem:
    """The problem that does not depend on the seed."""
    del seed
    return problem


def combinations(axes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All combinations as flat arrays, the last axis fastest."""
    meshes = np.meshgrid(*axes.values(), indexing="ij")
    return {name: mesh.ravel() for name, mesh in zip(axes, meshes, strict=True)}


def checked_grid(
    grid: Mapping[str, ArrayLike | Sequence[float]], factory: Factory, fixed: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The axes as arrays. Raises ValueError for an empty or misspelt grid and for values that are no numbers."""
    if not callable(factory):
        raise ValueError(
            f"sweep: got {type(factory).__name__} as factory, needs a function such as optax.adam, not built"
        )
    if not grid:
        raise ValueError("sweep: got an empty grid, needs at least one axis: try {'learning_rate': [0.1, 0.2]}")
    parameters = inspect.signature(factory).parameters
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    axes = {}
    for name, values in grid.items():
        if name not in parameters and not anything:
            near = difflib.get_close_matches(name, parameters, 1) or list(parameters)
            called = factory_attribute(factory, "__name__")
            raise ValueError(f"sweep: {called} has no hyperparameter {name!r}: try {', '.join(near)}")
        if name in fixed:
            raise ValueError(f"sweep: {name!r} is in the grid and in fixed: leave it in one of them")
        array = np.atleast_1d(np.asarray(values, dtype=float))
        if array.ndim != 1 or not array.size or not np.isfinite(array).all():
            raise ValueError(
                f"sweep: got {name}={values!r}, needs a list of finite numbers: what is no number goes in fixed"
            )
        axes[name] = array
    return axes


def checked_seeds(problem: Source, seeds: int | ArrayLike) -> tuple[PyTree, Callable]:
    """The seeds as an array, and (seed, problem or None) -> Problem."""
    single = isinstance(seeds, (int, np.integer))
    if single and seeds < 1:
        raise ValueError(f"sweep: got seeds={seeds}, needs at least 1")
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds)) if single else jnp.asarray(seeds)
    if isinstance(problem, Problem):
        if not (single and seeds == 1):
            raise ValueError(
                "sweep: got seeds for a Problem that depends on none: give a function from a seed to a Problem, "
                "such as lambda key: toylab.problems.digits_mlp(seed=key)"
            )
        return keys, same_problem
    if not callable(problem):
        raise ValueError(
            f"sweep: got {type(problem).__name__} as problem, needs a Problem or a function from a seed to one"
        )
    return keys, _Made(problem)


class _Made:
    """`problem(seed)` with the signature of `same_problem`; equal for equal functions, so that jit recognises it."""

    def __init__(self, problem: Callable[[Any], Problem]):
        self.problem = problem

    def __call__(self, seed: PyTree, unused: None) -> Problem:
        return self.problem(seed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Made) and self.problem == other.problem

    def __hash__(self) -> int:
        return hash(self.problem)


def built_rule(factory: Factory, first: dict[str, Any], fixed: Mapping[str, Any]) -> optax.GradientTransformation:
    """The first rule of a grid. Raises ValueError where the factory lacks an argument."""
    try:
        return factory(**first, **fixed)
    except TypeError as error:
        name, given = factory_attribute(factory, "__name__"), ", ".join([*first, *fixed])
        raise ValueError(f"sweep: {name} cannot be called with {given}: {error}") from error


def hashable_settings(fixed: Mapping[str, Any]) -> tuple:
    """The settings as part of a program's key. Raises ValueError for one that cannot be hashed."""
    try:
        hash(tuple(fixed.items()))
    except TypeError as error:
        raise ValueError(
            f"sweep: fixed values become part of the compiled program and must be hashable: {error}"
        ) from error
    return tuple(fixed.items())
