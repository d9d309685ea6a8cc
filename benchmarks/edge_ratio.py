"""What measuring the edge ratio costs: following eigenpairs along a run at the edge, in gradients of the same process.

Processor time (all threads), compiled beforehand, the smallest of several repeats of the same stretch of the run; the
stretch holds whole periods of the lookout, so that its products are in the average.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from toylab import observers, problems, train
from toylab.curvature import begin_track, follow, top_eigenpairs

PAIRS = (1, 2, 4)
RULES = {"gradient descent": optax.sgd(0.28), "Adam": optax.adam(1e-3, b1=0.9, b2=0.99)}
SMALLEST = 3  # repeats, of which the fastest counts


def rows(quick: bool = False) -> list[dict]:
    """One row for each network, precision and number of eigenpairs."""
    found = []
    for dtype in (jnp.float32, jnp.float64):
        mlp = problems.digits_mlp()
        found += along(mlp, "MLP 64-32-32-10, 500 digits", dtype, 0.28, 200 if quick else 1200, 64, 3.0, PAIRS)
        cnn = problems.digits_cnn(examples=100)
        found += along(cnn, "CNN, 100 digits", dtype, 0.05, 20 if quick else 50, 16, None, (1,))
    return found + [inside_training(name, rule, 200 if quick else 1200) for name, rule in RULES.items()]


def inside_training(name: str, rule: optax.GradientTransformation, settle: int) -> dict:
    """The row for `train` on the MLP in double precision, with and without the edge ratio of every step recorded."""
    problem, steps = problems.digits_mlp(), 64
    problem = problem.with_params(train(problem, rule, steps=settle).params)

    def run(**watched: int) -> jax.Array:
        return train(problem, rule, steps=steps, observe=observers(**watched), chunk=steps).records

    plain, seconds = best(run) / steps, best(lambda: run(edge_ratio=1)) / steps
    records = run(edge_ratio=1)
    return {
        "name": f"edge ratio every step inside train, k=1, {name}, MLP 64-32-32-10, 500 digits, float64",
        "measured": round((seconds - plain) / plain, 3),
        "unit": "gradients a step",
        "target": 3.0,
        "met": bool((seconds - plain) / plain <= 3.0),
        "accuracy": None,
        "products": round(float(np.mean(records["edge_products"])), 2),
        "gradient_seconds": float(f"{plain:.3e}"),
    }


def along(problem, name: str, dtype, rate: float, settle: int, steps: int, target: float | None, counts) -> list[dict]:
    """Rows for gradient descent on one problem: `settle` steps unseen, then `steps` measured ones."""
    problem = jax.tree.map(lambda leaf: leaf.astype(dtype), problem)
    flat, unravel = ravel_pytree(problem.params)

    def gradient(weights):
        return jax.grad(lambda w: problem.value(unravel(w)))(weights)

    start = jax.jit(lambda w: jax.lax.fori_loop(0, settle, lambda _, w: w - rate * gradient(w), w))(flat)

    def bare(weights):
        return jax.lax.fori_loop(0, steps, lambda _, w: w - rate * gradient(w), weights)

    def watched(weights, track):
        def step(carry, _):
            weights, track = carry
            slope, hessian = jax.linearize(gradient, weights)
            pairs, track = follow(hessian, track, weights)
            return (weights - rate * slope, track), (weights, pairs)

        return jax.lax.scan(step, (weights, track), length=steps)

    @jax.jit
    def exact(points):
        def one(vectors, weights):
            hessian = jax.linearize(gradient, weights)[1]
            pairs = top_eigenpairs(hessian, vectors, products=12, tolerance=1e-3)
            return pairs.vector, pairs.value

        return jax.lax.scan(one, jnp.zeros((max(counts), flat.size), dtype), points)[1]

    plain = best(jax.jit(bare), start) / steps
    made, truth = [], None
    for count in counts:
        run = jax.jit(watched)
        (_, track), _ = run(start, begin_track(flat, count))  # compiles; the second pass is warm
        seconds = best(run, start, track) / steps
        _, (points, pairs) = run(start, track)
        truth = np.asarray(exact(points[:8])) if truth is None else truth
        error = np.abs(np.asarray(pairs.value)[:8] / truth[:, :count] - 1)
        made.append(
            {
                "name": f"edge ratio every step, k={count}, {name}, {np.dtype(dtype).name}",
                "measured": round((seconds - plain) / plain, 3),
                "unit": "gradients a step",
                "target": None if target is None else target * count,
                "met": None if target is None else bool((seconds - plain) / plain <= target * count),
                "accuracy": float(f"{error.max():.1e}"),
                "products": round(float(np.mean(pairs.products)), 2),
                "gradient_seconds": float(f"{plain:.3e}"),
            }
        )
    return made


def best(function, *arguments) -> float:
    """The smallest processor time of several calls, the first one (which compiles) left out."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(SMALLEST):
        begun = time.process_time()
        jax.block_until_ready(function(*arguments))
        times.append(time.process_time() - begun)
    return min(times)
