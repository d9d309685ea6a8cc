"""A small tanh network on 8 x 8 handwritten digits: real data that trains to the edge in seconds."""

import importlib.resources
from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from toylab.problems.base import Problem

CLASSES = 10
PIXELS = 64


def digits_mlp(
    hidden: Sequence[int] = (32, 32), loss: str = "mse", examples: int = 500, seed: int | Array = 0
) -> Problem:
    """A tanh network 64-hidden-10, linear at its output, on the first `examples` of the 1797 digits.

    Input: pixels / 16, minus each pixel's mean over the examples used. `loss`, a mean over the examples:
    "mse" is half the squared distance of the ten outputs to the one-hot target (summed over outputs),
    "cross_entropy" the softmax cross-entropy in nats. Start: weights normal with mean 0 and variance
    1/fan_in, biases 0, drawn from `seed` (an int, or a JAX random key, which may be traced), in float32
    whatever the precision, so that both precisions start at the same point. `params` is a tuple of (weight
    (fan_in, fan_out), bias (fan_out,)) pairs; `data` is (inputs (n, 64), targets (n, 10)).

    Raises ValueError for an unknown loss, a width below one, or more examples than there are.
    """
    widths = (PIXELS, *(int(width) for width in hidden), CLASSES)
    if min(widths) < 1:
        raise ValueError(f"digits_mlp: got hidden={tuple(hidden)}, needs widths of at least 1: try hidden=(32, 32)")
    if loss not in LOSSES:
        raise ValueError(f"digits_mlp: got loss={loss!r}, needs one of {', '.join(LOSSES)}")
    images, labels = _images_and_labels()
    if not 1 <= examples <= len(labels):
        raise ValueError(f"digits_mlp: got examples={examples}, needs 1 to {len(labels)}")
    inputs = _standardised(images[:examples])
    targets = np.eye(CLASSES)[labels[:examples]]
    key = jax.random.key(seed) if isinstance(seed, (int, np.integer)) else seed
    data = (jnp.asarray(inputs, dtype=float), jnp.asarray(targets, dtype=float))
    return Problem(LOSSES[loss], _initial_layers(key, widths), data, name="digits_mlp")


def _standardised(images: np.ndarray) -> np.ndarray:
    pixels = images.reshape(len(images), PIXELS) / 16.0
    return pixels - pixels.mean(axis=0, keepdims=True)


def _initial_layers(key: Array, widths: Sequence[int]) -> tuple[tuple[Array, Array], ...]:
    layers = []
    for layer_key, fan_in, fan_out in zip(jax.random.split(key, len(widths) - 1), widths[:-1], widths[1:], strict=True):
        normal = jax.random.normal(layer_key, (fan_in, fan_out), dtype=jnp.float32).astype(float)
        layers.append((normal / np.sqrt(fan_in), jnp.zeros(fan_out, dtype=float)))
    return tuple(layers)


def _outputs(layers: tuple[tuple[Array, Array], ...], inputs: Array) -> Array:
    for weight, bias in layers[:-1]:
        inputs = jnp.tanh(inputs @ weight + bias[None])
    weight, bias = layers[-1]
    return inputs @ weight + bias[None]


def _mean_half_square(layers: tuple[tuple[Array, Array], ...], data: tuple[Array, Array]) -> Array:
    inputs, targets = data
    return 0.5 * jnp.mean(jnp.sum((_outputs(layers, inputs) - targets) ** 2, axis=-1))


def _mean_cross_entropy(layers: tuple[tuple[Array, Array], ...], data: tuple[Array, Array]) -> Array:
    inputs, targets = data
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(_outputs(layers, inputs)), axis=-1))


@lru_cache(maxsize=1)
def _images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The shipped digits: images (1797, 8, 8) with values 0..16, labels (1797,). Origin: data/DIGITS.md."""
    file = importlib.resources.files("toylab.problems") / "data" / "digits.npz"
    with file.open("rb") as stream, np.load(stream) as stored:
        return stored["images"], stored["labels"]


LOSSES = {"mse": _mean_half_square, "cross_entropy": _mean_cross_entropy}
PROBLEMS = {"digits_mlp": digits_mlp}
