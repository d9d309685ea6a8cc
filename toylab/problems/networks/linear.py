"""Deep networks without nonlinearity."""

from functools import lru_cache
from itertools import pairwise

from jax import Array

from toylab.problems.networks.network import SCALINGS, Network, all_normal_weights, known

Weights = tuple[Array, ...]


@lru_cache(maxsize=256)
def deep_linear(widths: tuple[int, ...], scaling: str = "lecun") -> Network:
    """The deep linear network x -> W_L^T ... W_1^T x without biases: linear in x, of degree L in its weights.

    `widths` (d_0, ..., d_L) and `scaling` as in `mlp`; inputs of more axes are flattened. `params` is a tuple of the L
    weights (fan_in, fan_out). Raises ValueError for fewer than two widths, a width below one or an unknown scaling.
    """
    scale, count = known("scaling", scaling, SCALINGS), len(widths) - 1
    if count < 1 or min(widths) < 1:
        raise ValueError(f"got widths {widths}, needs at least two widths of at least 1")

    def init(key: Array) -> Weights:
        shapes = list(pairwise(widths))
        divisors = [scale(*shape, i == count - 1) for i, shape in enumerate(shapes)]
        return tuple(all_normal_weights(key, shapes, divisors))

    def apply(weights: Weights, inputs: Array) -> Array:
        signal = inputs.reshape(len(inputs), -1)
        for weight in weights:
            signal = signal @ weight
        return signal

    return Network(init, apply)
