"""The core keeps the precision of its input: float32 without x64, and float32 beside it; and its own matrix products
have all digits of float32 on machines whose default is fewer."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

import toylab
from toylab import curvature, models
from toylab.numerics.complementarity import solve_complementarity

ROOT = Path(__file__).resolve().parents[2]

# prints one line "result field dtype" for each floating array that a small float32 run returns
RUN = """
import sys, jax, jax.numpy as jnp, optax, toylab

def loss(params):
    return 0.5 * jnp.sum(jnp.asarray([1.0, 4.0, 9.0], jnp.float32) * params["w"] ** 2)

problem = toylab.Problem(loss, {"w": jnp.ones(3, jnp.float32)})
observe = toylab.observers(loss=True, edge_ratio=True, sharpness=1)
rates = jnp.asarray([1e-2, 1e-1], jnp.float32)
run = toylab.train(problem, optax.adam(rates[0]), steps=4, observe=observe)
grid = toylab.sweep(problem, optax.adam, {"learning_rate": rates}, steps=4, observe=observe)
for name, result in {"run": run, "grid": grid}.items():
    for field in ("params", "loss", "edge_ratio", "sharpness"):
        for leaf in jax.tree.leaves(getattr(result, field)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                print(name, field, leaf.dtype)
"""


def returned(x64: bool) -> list[str]:
    """The lines of RUN in a fresh interpreter, where a down-cast that JAX warns of is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
        env={**os.environ, "JAX_ENABLE_X64": str(int(x64))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def promoted(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.endswith(" float32")]


# Without x64 nothing can be promoted: what is left to see there is a warning of a down-cast.
@pytest.mark.parametrize("x64", [pytest.param(False, marks=pytest.mark.slow), True])
def test_float32_stays_float32(x64):
    lines = returned(x64)
    assert {tuple(line.split()[:2]) for line in lines} >= {("run", "loss"), ("grid", "sharpness")}, lines
    assert promoted(lines) == []


def test_a_planted_promotion_is_seen():
    assert promoted(["run params float32", "grid loss float64"]) == ["grid loss float64"]


def equations(jaxpr):
    """All equations of a jaxpr, of its loops and branches too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def coarse(function, *arguments):
    """How many of the matrix products of `function` leave the number of digits to the machine, and how many it has."""
    found = [one.params["precision"] for one in equations(jax.make_jaxpr(function)(*arguments).jaxpr)
             if one.primitive is lax.dot_general_p]  # fmt: skip
    full = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
    return sum(precision != full for precision in found), len(found)


def single():
    """A network whose loss has matrix products, its start and a diagonal Hessian, in float32."""
    problem = toylab.problems.digits_mlp(hidden=(3,), examples=4)
    problem = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32) if leaf.dtype == float else leaf, problem)
    return problem, problem.params, jnp.arange(1, 21, dtype=jnp.float32)


def algebra():
    _, _, diagonal = single()
    square = jnp.eye(3, dtype=jnp.float32)
    form = jnp.einsum("ac,bd->abcd", square, square)

    def matvec(v):
        return diagonal * v

    return {
        "follow": lambda: curvature.follow(matvec, curvature.begin_track(diagonal, 2), diagonal),
        "top_eigenpairs": lambda: curvature.top_eigenpairs(matvec, jnp.zeros((2, 20), jnp.float32)),
        "spectral_density": lambda: curvature.spectral_density(matvec, diagonal, jax.random.key(0)),
        "complementary": lambda: solve_complementarity(-square, form),
    }


@pytest.mark.parametrize("name", algebra())
def test_linear_algebra_has_all_digits(name):
    less, products = coarse(algebra()[name])
    assert products > 0
    assert less == 0


MODELS = {
    "central_map_steps": optax.adam, "central_flow_steps": optax.rmsprop, "rod_flow_steps": optax.sgd,
    "edge_flow_steps": optax.sgd, "stable_flow_steps": optax.adam,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_have_all_digits(name):
    problem, params, _ = single()
    model = getattr(models, name)(problem, MODELS[name](0.1))
    less, products = coarse(model.step, model.init(params))
    assert products > 0
    assert less == 0


def test_products_with_few_digits_are_seen_and_the_optimizer_keeps_its_own():
    problem, params, diagonal = single()
    less, products = coarse(lambda: jnp.outer(diagonal, diagonal) @ diagonal)
    assert less == products == 1
    rule = models.discrete_steps(problem, optax.sgd(0.1))
    less, products = coarse(rule.step, rule.init(params))
    assert less == products > 0
