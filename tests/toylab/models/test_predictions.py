"""A record of predictions: a model states what it predicts, and the rest is absent in the right shapes."""

import jax
import jax.numpy as jnp
import numpy as np

from toylab.models.predictions import Cost, Predictions

PARAMS = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}


def test_what_is_not_stated_is_nan_in_its_shape():
    said = Predictions.of(PARAMS, jnp.float32(0.5), jnp.array([1.0, 0.9], jnp.float32))
    shapes = {"mean_loss": (), "mean_square": (), "critical": (), "variances": (2,), "axes": (2, 7), "residual": ()}
    for name, shape in shapes.items():
        entry = getattr(said, name)
        assert entry.shape == shape and entry.dtype == jnp.float32 and np.all(np.isnan(entry)), name
    assert said.converged
    assert tuple(said.cost) == (1, 1, 0, 0)


def test_what_is_stated_is_kept_and_counts_are_whole_numbers():
    def step(loss, variances):
        cost = Cost(2, 3 + 4 * 2, variances.size, thirds=1)
        return Predictions.of(PARAMS, loss, jnp.ones(3), critical=1, variances=variances, mean_loss=2 * loss, cost=cost)

    said = jax.jit(step)(jnp.asarray(0.5), jnp.array([0.25]))
    assert (said.mean_loss, said.critical) == (1.0, 1)
    assert said.variances.shape == (1,) and said.axes.shape == (1, 7) and said.edge_ratios.shape == (3,)
    assert tuple(said.cost) == (2, 11, 1, 1)
    assert {entry.dtype.name for entry in (said.critical, *said.cost)} == {"int32"}
