"""Networks are the functions that their docstrings write down, and their starts have the variances they name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toylab import problems
from toylab.problems import networks
from toylab.problems.criteria import CRITERIA
from toylab.problems.networks.activations import ACTIVATIONS
from toylab.problems.networks.convolutional import POOLINGS, convolved
from toylab.problems.problem import NetworkLoss

KINDS = {
    "mlp": (networks.mlp((6, 4, 3)), (6,), (3,)),
    "no hidden layer": (networks.mlp((6, 3), output_bias=False), (2, 3), (3,)),
    "deep_linear": (networks.deep_linear((6, 5, 3)), (6,), (3,)),
    "cnn": (networks.cnn((5, 4, 2), 3, (4, 2)), (5, 4, 2), (3,)),
    "attention": (networks.attention(4, 3, 5, width=6, hidden=7), (4, 3), (4, 5)),
}


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal numbers without a compilation for each shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def drawn(params, seed: int = 0):
    """Weights with every entry random, biases too."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape)), params)


def shapes_of(network: networks.Network):
    """Zeros like the start, without drawing it."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_has_its_shape_and_depends_on_its_own_input_only(kind) -> None:
    network, inside, outside = KINDS[kind]
    params, inputs, apply = drawn(shapes_of(network)), normal(1, 3, *inside), jax.jit(network.apply)
    alone = apply(params, jnp.stack([0 * inputs[0], inputs[1], 0 * inputs[2]]))
    together = apply(params, inputs)
    assert together.shape == (3, *outside)
    np.testing.assert_allclose(alone[1], together[1], rtol=1e-12)  # vectorised in another order: a few roundings
    assert not np.allclose(alone[0], together[0])


def test_networks_without_nonlinearity_are_matrix_products() -> None:
    inputs, deep = normal(1, 5, 4), networks.deep_linear((4, 3, 2, 6))
    first, second, third = weights = drawn(shapes_of(deep))
    np.testing.assert_allclose(deep.apply(weights, inputs), inputs @ first @ second @ third, rtol=1e-12)  # rounding
    shallow = networks.mlp((4, 3, 2), "identity")
    (w, b), (v, c) = layers = drawn(shapes_of(shallow))
    np.testing.assert_allclose(
        shallow.apply(layers, inputs), (inputs @ w + b[None]) @ v + c[None], rtol=1e-12
    )  # rounding


def test_a_convolution_is_the_sum_over_its_window() -> None:
    images, kernel = np.asarray(normal(1, 2, 5, 4, 3)), np.asarray(normal(2, 3, 3, 3, 2))
    expected = np.zeros((2, 5, 4, 2))
    for y in range(5):
        for x in range(4):
            for i in range(3):
                for j in range(3):
                    if 0 <= y + i - 1 < 5 and 0 <= x + j - 1 < 4:
                        expected[:, y, x] += images[:, y + i - 1, x + j - 1] @ kernel[i, j]
    found = convolved(jnp.asarray(images), jnp.asarray(kernel))
    np.testing.assert_allclose(found, expected, atol=1e-13)  # sums of 27 products of order one


@pytest.mark.parametrize(("pooling", "of_four"), [("average", np.mean), ("max", np.max)])
def test_pooling_halves_and_drops_what_is_left_over(pooling, of_four) -> None:
    images = np.asarray(normal(1, 1, 5, 4, 2))
    found = np.asarray(POOLINGS[pooling](jnp.asarray(images)))
    for y, x, c in np.ndindex(2, 2, 2):
        window = images[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2, c]
        np.testing.assert_allclose(found[0, y, x, c], of_four(window), rtol=1e-13)  # a sum of four


def test_the_cnn_is_its_layers_in_order() -> None:
    network = networks.cnn((4, 4, 1), 2, (3,), "softplus", "max")
    (kernel, bias), (weight, shift) = params = drawn(shapes_of(network))
    images = normal(1, 2, 4, 4, 1)
    hidden = POOLINGS["max"](jnp.logaddexp(0, convolved(images, kernel) + bias[None, None, None]))
    expected = hidden.reshape(2, 12) @ weight + shift[None]
    np.testing.assert_allclose(network.apply(params, images), expected, rtol=1e-12)  # rounding


FORMULAS = {
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "hardtanh": lambda x: min(max(x, -1), 1),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula(name) -> None:
    points = np.array([-3.0, -1.5, -0.4, 0.3, 0.9, 2.5])  # away from the kinks
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(ACTIVATIONS[name])))(jnp.asarray(points))
    # a few roundings, and cancellation by 1e2 at most in the tails
    np.testing.assert_allclose(values, [FORMULAS[name](x) for x in points], rtol=1e-13)
    centred = [(FORMULAS[name](x + 1e-5) - FORMULAS[name](x - 1e-5)) / 2e-5 for x in points]
    np.testing.assert_allclose(slopes, centred, atol=1e-9)  # h^2 times third derivatives, and rounding / h


def test_attention_without_positions_commutes_with_permutations() -> None:
    network = networks.attention(5, 3, 4, width=6, hidden=7, positions=False)
    params, inputs, order = drawn(shapes_of(network)), normal(1, 2, 5, 3), np.array([3, 0, 4, 2, 1])
    apply = jax.jit(network.apply)
    permuted = apply(params, inputs[:, order])
    # sums over positions in another order, passed through one block with outputs of order 1e2
    np.testing.assert_allclose(permuted, apply(params, inputs)[:, order], rtol=1e-10, atol=1e-10)


def test_attention_with_positions_permutes_with_them() -> None:
    network = networks.attention(5, 3, 4, width=6, hidden=7)
    params, inputs, order = drawn(shapes_of(network)), normal(1, 2, 5, 3), np.array([3, 0, 4, 2, 1])
    apply = jax.jit(network.apply)
    plain = apply(params, inputs)[:, order]
    assert not np.allclose(apply(params, inputs[:, order]), plain)
    moved = params | {"positions": (params["positions"][0][order],)}
    np.testing.assert_allclose(apply(moved, inputs[:, order]), plain, rtol=1e-10, atol=1e-10)  # as above


@pytest.mark.parametrize(
    ("scaling", "variances"),
    [("lecun", (1 / 200, 1 / 300)), ("xavier", (2 / 500, 2 / 550)), ("mup", (1 / 200, 1 / 300**2))],
)
def test_starts_have_their_variances(scaling, variances) -> None:
    (w, b), (v, c) = jax.jit(networks.mlp((200, 300, 250), "tanh", scaling, (2.0, 1.0)).init)(
        jax.random.key(1, impl="rbg")
    )
    for weight, variance in ((w, 4 * variances[0]), (v, variances[1])):
        # 60,000 and 75,000 numbers: the variance is known to 0.6 %, the mean to 0.4 % of the deviation; five of them
        np.testing.assert_allclose(np.var(weight), variance, rtol=0.03)
        assert abs(np.mean(weight)) < 0.02 * variance**0.5
    assert not b.any() and not c.any()


@pytest.mark.slow
def test_other_networks_start_with_their_variances() -> None:
    (kernel, _), (weight, _) = jax.jit(networks.cnn((8, 8, 40), 30, (50,)).init)(jax.random.key(1, impl="rbg"))
    embedding = jax.jit(networks.attention(8, 4, 4, width=2000, hidden=3).init)(jax.random.key(1, impl="rbg"))[
        "embedding"
    ][0]
    linear = jax.jit(networks.deep_linear((100, 150)).init)(jax.random.key(1, impl="rbg"))[0]
    # 18,000, 24,000, 8,000 and 15,000 numbers: five times the 1.6 % of the fewest
    for drawn_, fan_in in ((kernel, 360), (weight, 800), (embedding, 4), (linear, 100)):
        np.testing.assert_allclose(np.var(drawn_), 1 / fan_in, rtol=0.08)


def test_both_precisions_start_at_the_same_point(key: jax.Array) -> None:
    network = networks.mlp((5, 4), output_bias=False)
    double = network.init(key)[0][0]
    with jax.enable_x64(False):
        single = network.init(jax.random.key(0))[0][0]
    assert double.dtype == jnp.float64 and single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=2e-7)  # one rounding to float32


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_stays(kind) -> None:
    network, inside, _ = KINDS[kind]
    model = NetworkLoss(network.apply, CRITERIA["cross_entropy"])

    def slope(params, inputs):
        return jax.value_and_grad(model)(params, (inputs, jnp.zeros_like(network.apply(params, inputs))))

    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), shapes_of(network))
    found = jax.eval_shape(slope, params, np.zeros((2, *inside), np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_equal_configurations_share_one_program(key: jax.Array) -> None:
    traces = []

    @jax.jit
    def value(problem: problems.Problem) -> jax.Array:
        traces.append(problem.name)
        return problem.value(problem.params)

    for seed in (key, jax.random.key(1)):
        for activation in ("tanh", "relu"):
            value(problems.chebyshev_mlp(hidden=(1,), seed=seed, activation=activation))
    assert len(traces) == 2  # one an activation
    assert networks.cnn((4, 4, 1), 2) is networks.cnn((4, 4, 1), 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: networks.mlp((3,)), "at least two widths"),
        (lambda: networks.mlp((3, 0, 2)), "at least 1"),
        (lambda: networks.mlp((3, 2), "sine"), "one of tanh, relu"),
        (lambda: networks.mlp((3, 2), scaling="he"), "one of lecun, xavier, mup"),
        (lambda: networks.mlp((3, 2), gains=(1.0, 1.0)), "2 gains for 1 layers"),
        (lambda: networks.deep_linear((3,)), "at least two widths"),
        (lambda: networks.cnn((3, 8, 1), 2), "at least 4 pixels"),
        (lambda: networks.cnn((8, 8, 1), 2, pooling="median"), "one of average, max"),
        (lambda: networks.attention(0, 2, 2), "at least 1 of each"),
    ],
)
def test_networks_that_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        build()
    assert "\n" not in str(refusal.value)
