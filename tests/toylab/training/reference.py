"""Trajectories of an independent implementation, and the same problems and rules here.  See tests/data/reference."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab import Problem
from toylab.optimizers import scalar_rmsprop
from toylab.problems.criteria import half_square
from toylab.problems.networks import mlp
from toylab.problems.problem import NetworkLoss

FOLDER = Path(__file__).parents[2] / "data" / "reference"
NAMES = ("gd", "scalar_rmsprop", "rmsprop")

network = mlp((48, 16, 16, 4), activation="gelu")
model = NetworkLoss(network.apply, half_square)


class Begun(NamedTuple):
    """Weights and the optimizer's state where the recorded steps begin, after the warm-up."""

    params: tuple
    state: optax.OptState


@lru_cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """All arrays of one file, in double precision; the labels stay integers."""
    with np.load(FOLDER / f"{name}.npz") as file:
        found = {key: file[key] for key in file.files}
    return {key: value.astype(float) if value.dtype == np.float32 else value for key, value in found.items()}


@lru_cache
def problem(name: str) -> Problem:
    """The problem of one file, at the weights before the warm-up; a file has the weights as (out, in)."""
    data = arrays(name)
    layers = tuple((jnp.asarray(data[f"W{i}"].T), jnp.asarray(data[f"b{i}"])) for i in (1, 2, 3))
    return Problem(model, layers, (jnp.asarray(data["x"]), jax.nn.one_hot(data["y"], 4)), "reference")


@lru_cache
def rule(name: str) -> optax.GradientTransformation:
    """The optimizer of one file."""
    data = arrays(name)
    rate = float(f"{data['lr']:.6g}")  # the decimal number that was rounded to float32
    if name == "gd":
        return optax.sgd(rate)
    decay = float(f"{data['beta2']:.6g}")
    if name == "scalar_rmsprop":
        return scalar_rmsprop(rate, decay, bias_correction=True)
    eps = float(f"{data['eps']:.6g}")
    return optax.rmsprop(rate, decay=decay, eps=eps, eps_in_sqrt=False, bias_correction=True)


def begun(name: str) -> Begun:
    """The start of the recorded steps: the `warm` updates count in the bias correction."""
    at, transform = problem(name), rule(name)

    def step(now: Begun, _: None) -> tuple[Begun, None]:
        updates, state = transform.update(at.gradient(now.params), now.state, now.params)
        return Begun(optax.apply_updates(now.params, updates), state), None

    start = Begun(at.params, transform.init(at.params))
    return jax.lax.scan(step, start, None, length=int(arrays(name)["warm"]))[0]
