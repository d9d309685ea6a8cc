"""Small convolutional networks."""

from functools import lru_cache
from itertools import pairwise

import jax.numpy as jnp
from jax import Array

from toylab.problems.networks.activations import ACTIVATIONS
from toylab.problems.networks.network import SCALINGS, Network, all_normal_weights, known
from toylab.problems.networks.perceptrons import Layers, affine

WINDOW = 3


@lru_cache(maxsize=256)
def cnn(
    shape: tuple[int, int, int],
    outputs: int,
    channels: tuple[int, ...] = (32, 32),
    activation: str = "tanh",
    pooling: str = "average",
    scaling: str = "lecun",
) -> Network:
    """Convolutions of 3 x 3 with as many `channels`, each followed by its activation and 2 x 2 pooling; then a linear
    read-out of what is left (the architecture of Cohen et al. 2021, arXiv:2103.00065, at channels (32, 32)).

    Inputs (n, height, width, colours), `shape` being the last three. Convolutions have stride 1 and zeros around the
    image, so that they keep its size; pooling, "average" (smooth) or "max", halves it, dropping an odd last row or
    column. `activation` and `scaling` as in `mlp`, a unit's fan_in being 9 times the channels that it sees and its
    fan_out 9 times those it belongs to; biases start at 0. `params` is a tuple of (kernel (3, 3, in, out), bias (out,))
    a convolution, then (weight, bias) of the read-out.

    Raises ValueError for unknown names, channels below one, or images that pooling leaves nothing of.
    """
    phi, scale = known("activation", activation, ACTIVATIONS), known("scaling", scaling, SCALINGS)
    pooled = known("pooling", pooling, POOLINGS)
    height, width, colours = shape
    height, width = height >> len(channels), width >> len(channels)
    if min(height, width, colours, outputs, *channels) < 1:
        raise ValueError(
            f"got images {shape}, channels {channels} and {outputs} outputs, needs at least 1 of each and images of at "
            f"least {2 ** len(channels)} pixels a side"
        )
    depths = (colours, *channels)
    features = height * width * depths[-1]

    def init(key: Array) -> Layers:
        shapes = [(WINDOW, WINDOW, before, after) for before, after in pairwise(depths)]
        divisors = [scale(WINDOW**2 * before, WINDOW**2 * after, False) for before, after in pairwise(depths)]
        shapes, divisors = [*shapes, (features, outputs)], [*divisors, scale(features, outputs, True)]
        weights = all_normal_weights(key, shapes, divisors)
        return tuple((weight, jnp.zeros(weight.shape[-1], dtype=float)) for weight in weights)

    def apply(layers: Layers, images: Array) -> Array:
        signal = images
        for kernel, bias in layers[:-1]:
            signal = pooled(phi(convolved(signal, kernel) + bias[None, None, None]))
        return affine(layers[-1], signal.reshape(len(signal), -1))

    return Network(init, apply)


def convolved(images: Array, kernel: Array) -> Array:
    """The cross-correlation (n, h, w, out) of images (n, h, w, in) with a kernel (a, b, in, out), zeros around them.

    As one product of all patches with the kernel: XLA's own convolution is five to ten times slower inside compiled
    loops on a CPU, where everything here runs, and slower still with a batch of kernels.
    """
    (rows, columns), (count, height, width, _) = kernel.shape[:2], images.shape
    around = ((0, 0), ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2), (0, 0))
    padded = jnp.pad(images, around)
    shifted = [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(count * height * width, -1)
    return (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(count, height, width, -1)


def _windows(images: Array) -> Array:
    """(n, h, w, c) -> (n, h//2, 2, w//2, 2, c)."""
    n, h, w, c = images.shape
    return images[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)


def _average(images: Array) -> Array:
    return _windows(images).mean(axis=(2, 4))


def _max(images: Array) -> Array:
    return _windows(images).max(axis=(2, 4))


POOLINGS = {"average": _average, "max": _max}
