"""What measuring the edge ratio costs: following eigenpairs along a run at the edge, in gradients of the same process.

Processor time (all threads), compiled beforehand: the median over repeats of the ratio between two runs of the same
stretch one right after the other, of which only one follows. The stretch holds whole periods of the lookout, so that
its products are in the average. The MLP's begin in the plateau of gradient descent. The accuracy is against a search
that starts afresh, whose residual bounds its own error.
"""

import time
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from toylab import observers, problems, train
from toylab.curvature import begin_track, follow, top_eigenpairs

PAIRS = (1, 2, 4)
RULES = {"gradient descent": optax.sgd(0.28), "Adam": optax.adam(2e-3, b1=0.9, b2=0.99)}
TARGET = 3.0  # gradients a step for each pair
PERIOD = 16  # calls between two lookouts: stretches are multiples of it
CHECKED = 8  # points of which the exact eigenvalues are computed


def rows(quick: bool = False) -> Iterator[dict]:
    """One row for each network, precision and number of eigenpairs, then two for `train`; `quick` repeats less and
    leaves single precision out."""
    repeats = 5 if quick else 15
    for dtype in (jnp.float64,) if quick else (jnp.float64, jnp.float32):
        mlp, cnn = problems.digits_mlp(), problems.digits_cnn(examples=100)
        yield from along(mlp, "MLP 64-32-32-10, 500 digits", dtype, 0.28, 1200, 4 * PERIOD, TARGET, PAIRS, repeats)
        yield from along(cnn, "CNN, 100 digits", dtype, 0.05, 50 if quick else 400, PERIOD, None, (1,), repeats)
    for name, rule in RULES.items():
        yield inside_training(name, rule, 19 * 4 * PERIOD, repeats)


def inside_training(name: str, rule: optax.GradientTransformation, settle: int, repeats: int) -> dict:
    """The row for `train` on the MLP in double precision, with and without the edge ratio of every step recorded.

    A run's cost is what one of many chunks costs beyond one of one chunk: preparing a run is not following. The mean
    over a thousand steps: where the first eigenvalues come close to each other, a hundred take twice the products. The
    rule's own memory begins anew after `settle` steps; Adam is back at its edge, with several eigenvalues, after 300.
    """
    chunk, many = 4 * PERIOD, 17
    problem = problems.digits_mlp()
    problem = problem.with_params(train(problem, rule, steps=settle, chunk=chunk).params)

    def run(chunks: int, **watched: int) -> dict:
        return train(problem, rule, steps=chunks * chunk, observe=observers(**watched), chunk=chunk).records

    def beyond(**watched: int) -> float:
        return timed(lambda: run(many, **watched)) - timed(lambda: run(1, **watched))

    products = run(many, edge_ratio=1)["edge_products"][chunk:]
    pairs = np.array([(beyond(), beyond(edge_ratio=1)) for _ in range(min(repeats, 5))]) / ((many - 1) * chunk)
    cost = float(np.median((pairs[:, 1] - pairs[:, 0]) / pairs[:, 0]))
    return {
        "name": f"edge ratio every step inside train, k=1, {name}, MLP 64-32-32-10, 500 digits, float64",
        "measured": round(cost, 2),
        "unit": "gradients a step",
        "target": TARGET,
        "met": cost <= TARGET,
        "accuracy": None,
        "products": round(float(np.mean(products)), 2),
        "gradient_seconds": float(f"{np.median(pairs[:, 0]):.2e}"),
    }


def along(problem, name: str, dtype, rate, settle: int, steps: int, target, counts, repeats: int) -> Iterator[dict]:
    """Rows for gradient descent on one problem: `settle` steps unseen, then `steps` measured ones."""
    problem = jax.tree.map(lambda leaf: leaf.astype(dtype), problem)
    flat, unravel = ravel_pytree(problem.params)

    def gradient(weights):
        return jax.grad(lambda w: problem.value(unravel(w)))(weights)

    def descended(weights, many):
        return jax.lax.fori_loop(0, many, lambda _, w: w - rate * gradient(w), weights)

    @jax.jit
    def watched(weights, track):
        def step(carry, _):
            weights, track = carry
            slope, hessian = jax.linearize(gradient, weights)
            pairs, track = follow(hessian, track, weights)
            return (weights - rate * slope, track), (weights, pairs.value, pairs.products, pairs.converged)

        return jax.lax.scan(step, (weights, track), length=steps)

    @jax.jit
    def afresh(points):
        def one(vectors, weights):
            hessian = jax.linearize(gradient, weights)[1]
            pairs = top_eigenpairs(hessian, vectors, products=12, tolerance=1e-5)
            return pairs.vector, (pairs.value, pairs.residual)

        return jax.lax.scan(one, jnp.zeros((max(counts), flat.size), dtype), points)[1]

    bare = jax.jit(descended)
    start = bare(flat, settle)
    jax.block_until_ready(bare(start, steps))
    truth = None
    for count in counts:
        (_, track), _ = watched(start, begin_track(flat, count))
        _, (points, values, products, converged) = watched(start, track)
        if truth is None:
            truth, residual = (np.asarray(part) for part in afresh(points[:: steps // CHECKED]))
        error = np.abs(np.asarray(values)[:: steps // CHECKED] / truth[:, :count] - 1)
        pairs = np.array(
            [(timed(lambda: bare(start, steps)), timed(partial(watched, start, track))) for _ in range(repeats)]
        )
        cost = float(np.median(pairs[:, 1] / pairs[:, 0])) - 1
        yield {
            "name": f"edge ratio every step, k={count}, {name}, {np.dtype(dtype).name}",
            "measured": round(cost, 2),
            "unit": "gradients a step",
            "target": None if target is None else target * count,
            "met": None if target is None else cost <= target * count,
            "accuracy": float(f"{error.max():.1e}"),
            "accuracy_of_reference": float(f"{residual.max():.1e}"),
            "products": round(float(np.mean(products)), 2),
            "converged": float(np.mean(converged)),
            "gradient_seconds": float(f"{np.median(pairs[:, 0]) / steps:.2e}"),
        }


def timed(function) -> float:
    """The processor time of one call, already compiled."""
    start = time.process_time()
    jax.block_until_ready(function())
    return time.process_time() - start
