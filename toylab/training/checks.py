"""The border of every run: a problem with a scalar loss, and an optimizer that needs no more than a gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from toylab.problems.problem import Problem


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


def check_optimizer(transform: Any) -> None:
    """Raise ValueError unless `transform` is an optimizer that has been built: a pair of init and update."""
    if not (callable(getattr(transform, "init", None)) and callable(getattr(transform, "update", None))):
        raise ValueError(
            f"got {type(transform).__name__} where an optimizer is needed: build one first, as in optax.adam(1e-3)"
        )


def check_rule(transform: Any, problem: Problem) -> None:
    """Raise ValueError unless `transform` is an optimizer whose update needs (grads, state, params) and no
    more."""
    check_optimizer(transform)
    try:
        state = jax.eval_shape(transform.init, problem.params)
        jax.eval_shape(transform.update, problem.params, state, problem.params)
    except TypeError as error:
        raise ValueError(f"this optimizer's update cannot be called with (grads, state, params): {error}") from error
