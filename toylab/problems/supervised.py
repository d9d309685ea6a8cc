"""Data, a network and a criterion make a problem."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab.problems.criteria import CRITERIA
from toylab.problems.datasets.dataset import Dataset, Examples
from toylab.problems.networks.network import Network, known
from toylab.problems.problem import NetworkLoss, Problem


def learning_problem(
    name: str,
    dataset: Callable[[], Dataset],
    network: Callable[[], Network],
    loss: str = "mse",
    seed: int | Array = 0,
    chunk: int | None = None,
) -> Problem:
    """The problem of training a network on a data set from a random start.

    `loss`: a name in `CRITERIA`. `seed`: an int or a JAX random key, which may be traced; it draws the weights and
    nothing else. `dataset` and `network` are called without arguments, and a ValueError of theirs is raised again with
    the problem's `name` in front. Arrays get JAX's default precision. Problems of the same network and criterion have
    equal losses, so one compiled program serves all of them. Raises ValueError for an unknown loss or a chunk below 1.
    """
    with _named(name):
        criterion = known("loss", loss, CRITERIA)
        model, examples = network(), dataset()
        test = None if examples.test is None else _arrays(examples.test)
        params = model.init(as_key(seed))
        return Problem(NetworkLoss(model.apply, criterion), params, _arrays(examples.train), name, test, chunk)


def as_key(seed: int | Array) -> Array:
    """The JAX random key of a seed: an int, or already a key."""
    return jax.random.key(seed) if isinstance(seed, (int, np.integer)) else seed


def _arrays(examples: Examples) -> tuple[Array, Array]:
    inputs, targets = examples
    return jnp.asarray(inputs, dtype=float), jnp.asarray(targets, dtype=float)


@contextmanager
def _named(name: str) -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
