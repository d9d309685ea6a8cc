"""One block of self-attention: the smallest transformer."""

from functools import lru_cache

import jax
import jax.numpy as jnp
from jax import Array

from toylab.problems.networks.activations import ACTIVATIONS
from toylab.problems.networks.network import SCALINGS, Network, all_normal_weights, known
from toylab.problems.networks.perceptrons import affine

Params = dict[str, tuple[Array, ...]]


@lru_cache(maxsize=256)
def attention(
    length: int,
    symbols: int,
    outputs: int,
    width: int = 32,
    hidden: int = 64,
    positions: bool = True,
    activation: str = "gelu",
    scaling: str = "lecun",
) -> Network:
    """One block of attention and perceptron on sequences, each added to the stream s, and a linear read-out.

    s = x E + P;  s += softmax(s Q (s K)^T / sqrt(width)) s V O over all positions, past and future, one head;
    s += phi(s W_1 + b_1) W_2 + b_2;  output s R + b, at every position.  No layer norm, no mask.

    Inputs (n, length, symbols), one-hot rows for symbols; outputs (n, length, outputs). `width` of the stream, `hidden`
    of the perceptron. Without `positions` there is no P, and the network commutes with every permutation of the
    positions; with it, permuting the inputs and the rows of P permutes the outputs. `activation` and `scaling` as in
    `mlp`, with fan_in `symbols` for E and `length` for P, which too is read by one-hot vectors; biases start at 0.
    `params` is a dict of tuples, one a letter of the formula: "embedding" (E,) "positions" (P,) "query" "key" "value"
    "mixing" (O,) "hidden" (W_1, b_1) "back" (W_2, b_2) "readout" (R, b).

    Raises ValueError for unknown names or a size below one.
    """
    phi, scale = known("activation", activation, ACTIVATIONS), known("scaling", scaling, SCALINGS)
    if min(length, symbols, outputs, width, hidden) < 1:
        sizes = f"length {length}, {symbols} symbols, {outputs} outputs, width {width}, hidden {hidden}"
        raise ValueError(f"got {sizes}, needs at least 1 of each")
    shapes = {"embedding": (symbols, width), "query": (width, width), "key": (width, width), "value": (width, width)}
    shapes |= {"mixing": (width, width), "hidden": (width, hidden), "back": (hidden, width)}
    shapes |= {"readout": (width, outputs)} | ({"positions": (length, width)} if positions else {})

    def init(key: Array) -> Params:
        divisors = [scale(*shape, name == "readout") for name, shape in shapes.items()]
        weights = dict(zip(shapes, all_normal_weights(key, list(shapes.values()), divisors), strict=True))
        biases = {name: jnp.zeros(shapes[name][1], dtype=float) for name in ("hidden", "back", "readout")}
        return {name: (weight, biases[name]) if name in biases else (weight,) for name, weight in weights.items()}

    def apply(params: Params, inputs: Array) -> Array:
        stream = affine(params["embedding"], inputs)
        if positions:
            stream = stream + params["positions"][0][None]
        queries, keys, values = (affine(params[name], stream) for name in ("query", "key", "value"))
        weights = jax.nn.softmax(jnp.einsum("nsd,ntd->nst", queries, keys) / width**0.5)
        stream = stream + affine(params["mixing"], weights @ values)
        stream = stream + affine(params["back"], phi(affine(params["hidden"], stream)))
        return affine(params["readout"], stream)

    return Network(init, apply)
