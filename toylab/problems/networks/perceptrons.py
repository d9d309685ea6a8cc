"""Fully connected networks."""

from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

from toylab.problems.networks.activations import ACTIVATIONS
from toylab.problems.networks.network import SCALINGS, Network, known, normal_weights

Layers = tuple[tuple[Array, ...], ...]


@lru_cache(maxsize=256)
def mlp(
    widths: tuple[int, ...],
    activation: str = "tanh",
    scaling: str = "lecun",
    gains: tuple[float, ...] | None = None,
    output_bias: bool = True,
) -> Network:
    """The multilayer perceptron x -> W_L^T phi(... phi(W_1^T x + b_1) ...) + b_L, linear at its output.

    `widths` (d_0, ..., d_L): inputs first, outputs last; inputs of more axes are flattened. `activation`: a name in
    `ACTIVATIONS`. Weights are normal with the variance of `scaling` (a name in `SCALINGS`) times gain^2; `gains`: one
    number a layer, 1 by default. Biases start at 0; `output_bias`: whether the last layer has one. `params` is a tuple
    of one (weight (fan_in, fan_out), bias (fan_out,)) a layer, the last (weight,) without output bias.

    Raises ValueError for fewer than two widths, a width below one, unknown names or gains that are not one a layer.
    """
    phi, scale = known("activation", activation, ACTIVATIONS), known("scaling", scaling, SCALINGS)
    count = len(widths) - 1
    if count < 1 or min(widths) < 1:
        raise ValueError(f"got widths {widths}, needs at least two widths of at least 1")
    gains = (1.0,) * count if gains is None else gains
    if len(gains) != count:
        raise ValueError(f"got {len(gains)} gains for {count} layers: give one a layer")

    def init(key: Array) -> Layers:
        keys = jax.random.split(key, count)
        layers: list[tuple[Array, ...]] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            last = i == count - 1
            weight = normal_weights(keys[i], (fan_in, fan_out), scale(fan_in, fan_out, last), gains[i])
            bias = () if last and not output_bias else (jnp.zeros(fan_out, dtype=float),)
            layers.append((weight, *bias))
        return tuple(layers)

    def apply(layers: Layers, inputs: Array) -> Array:
        signal = inputs.reshape(len(inputs), -1)
        for layer in layers[:-1]:
            signal = phi(affine(layer, signal))
        return affine(layers[-1], signal)

    return Network(init, apply)


def affine(layer: tuple[Array, ...], signal: Array) -> Array:
    """`signal` (..., fan_in) times the weight, plus the bias where the layer has one."""
    product = signal @ layer[0]
    return product + layer[1].reshape((1,) * (product.ndim - 1) + (-1,)) if len(layer) > 1 else product
