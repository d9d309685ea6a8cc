"""Data sets are what their docstrings say, and files that are not are refused in one line."""

import codecs
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from toylab import problems
from toylab.problems import datasets
from toylab.problems.datasets import cifar

FEW = 7


def test_digits_to_test_with_follow_those_to_train_on() -> None:
    both, more = datasets.handwritten_digits(30, 12), datasets.handwritten_digits(42)
    assert both.test is not None
    mean = more.train[0][:30].mean(axis=0, keepdims=True)
    for part, rows in ((both.train, slice(0, 30)), (both.test, slice(30, 42))):
        # the same images from another origin: the mean over the 30 (rounding of numbers below one)
        np.testing.assert_allclose(part[0], more.train[0][rows] - mean, atol=1e-15)
        np.testing.assert_array_equal(part[1], more.train[1][rows])
    assert datasets.handwritten_digits(30).test is None


@pytest.mark.parametrize(("degree", "polynomial"), [(0, [1]), (3, [0, -3, 0, 4]), (5, [0, 5, 0, -20, 0, 16])])
def test_chebyshev_polynomials(degree, polynomial) -> None:
    x, y = datasets.chebyshev_points(degree, 20).train
    np.testing.assert_allclose(np.diff(x[:, 0]), 2 / 19, rtol=1e-14)  # evenly spaced, ends included: rounding
    assert x[0] == -1 and x[-1] == 1
    np.testing.assert_allclose(y, sum(c * x**i for i, c in enumerate(polynomial)), atol=2e-14)  # cancellation of 41


def test_a_mixture_has_its_variances() -> None:
    (x, targets), test = datasets.gaussian_mixture((500,), 4, 0.25, 400, 40)
    assert test is not None and test[0].shape == (40, 500) and x.dtype == np.float32
    np.testing.assert_array_equal(targets.sum(axis=0), 100)
    means = np.stack([x[targets[:, c] == 1].mean(axis=0) for c in range(4)])
    # 4 x 500 class means, each from 100 examples, their own variance plus 0.75/100: known to 3 %, five of them
    np.testing.assert_allclose(means.var(), 0.25 + 0.0075, rtol=0.16)
    # 200,000 numbers, known to 0.3 %; four times
    np.testing.assert_allclose((x - means[np.argmax(targets, axis=1)]).var(), 0.75 * 0.99, rtol=0.013)


def test_sorted_sequences() -> None:
    (inputs, targets), test = datasets.sorting_sequences(6, 3, 20, 5)
    assert inputs.shape == targets.shape == (20, 6, 3) and test is not None and len(test[0]) == 5
    np.testing.assert_array_equal(np.sort(inputs.argmax(-1)), targets.argmax(-1))
    assert (inputs.sum(-1) == 1).all() and (targets.sum(-1) == 1).all()


@pytest.mark.slow
def test_a_student_that_starts_as_the_teacher_has_nothing_to_learn() -> None:
    problem = problems.teacher_student(inputs=3, teacher=(4,), hidden=(4,), examples=10, seed=0)
    assert problem.value(problem.params) < 1e-30  # rounding squared


def test_the_seed_of_the_weights_leaves_the_data_alone() -> None:
    make = jax.jit(lambda key: problems.teacher_student(inputs=3, hidden=(4,), examples=10, seed=key))
    one, other = (make(jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one.data[1], other.data[1])
    assert (one.params[0][0] != other.params[0][0]).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problems.digits_mlp(examples=1790, test_examples=8), "digits_mlp: got test_examples=8, needs 0 to 7"),
        (lambda: problems.digits_cnn(examples=1.5), "digits_cnn: got examples=1.5"),
        (lambda: problems.chebyshev_mlp(degree=-1), "chebyshev_mlp: got degree=-1"),
        (lambda: problems.chebyshev_mlp(points=1), "chebyshev_mlp: got points=1"),
        (lambda: problems.teacher_student(inputs=0), "teacher_student: got widths"),
        (lambda: problems.gaussian_mixture_mlp(signal=2.0), "gaussian_mixture_mlp: got signal=2.0"),
        (lambda: problems.sorting_attention(symbols=1), "sorting_attention: got symbols=1"),
        (lambda: problems.sorting_attention(loss="mean"), "one of mse, cross_entropy"),
    ],
)
def test_arguments_that_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        build()
    assert "\n" not in str(refusal.value)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few images, so that the files are small."""
    monkeypatch.setattr(cifar, "RECORDS", FEW)


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    return random.integers(0, 256, (FEW, 3072), dtype=np.uint8), random.integers(0, 10, FEW, dtype=np.uint8)


def names() -> dict[str, int]:
    return {f"data_batch_{i}": i for i in range(1, 6)} | {"test_batch": 6}


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in names().items():
        images, labels = batch(number)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels[:, None], images]).tobytes())
    return folder


def write_python(folder: Path, protocol: int = 2, text_keys: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in names().items():
        images, labels = batch(number)
        entries = {
            "data": images,
            "labels": labels.tolist(),
            "batch_label": "one of six",
            "filenames": [b"a.png"] * FEW,
        }
        stored = entries if text_keys else {key.encode(): value for key, value in entries.items()}
        (folder / name).write_bytes(pickle.dumps(stored, protocol))
    return folder


WRITERS = {
    "binary": write_binary,
    "binary in its folder": lambda folder: write_binary(folder / "cifar-10-batches-bin").parent,
    "python": write_python,
    "python in its folder": lambda folder: write_python(folder / "cifar-10-batches-py").parent,
    "python, protocol 5": lambda folder: write_python(folder, 5),
    "python, text keys": lambda folder: write_python(folder, 4, True),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("writer", WRITERS)
def test_cifar_is_read(tmp_path, writer) -> None:
    (inputs, targets), test = datasets.cifar10(WRITERS[writer](tmp_path), FEW + 3, 2)
    images, labels = (np.concatenate(parts)[: FEW + 3] for parts in zip(batch(1), batch(2), strict=True))
    pixels = np.stack([images[:, c * 1024 : (c + 1) * 1024].reshape(-1, 32, 32) for c in range(3)], axis=-1) / 255
    mean, deviation = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    # numbers of order one in float32, with sums of 10,000 of them in mean and deviation
    np.testing.assert_allclose(inputs, (pixels - mean) / deviation, atol=1e-5)
    np.testing.assert_array_equal(targets.argmax(1), labels)
    assert test is not None
    top_left = (batch(6)[0][:2, [0, 1024, 2048]] / 255 - mean) / deviation
    np.testing.assert_allclose(test[0][:, 0, 0], top_left, atol=1e-5)  # as above
    np.testing.assert_array_equal(test[1].argmax(1), batch(6)[1][:2])


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_networks_on_cifar(tmp_path) -> None:
    folder = str(write_binary(tmp_path))
    flat = problems.cifar10_mlp(folder, hidden=(2,), examples=4, test_examples=1)
    images = problems.cifar10_cnn(folder, examples=4, channels=(2, 2), chunk=3)
    assert flat.data[0].shape == (4, 3072) and images.data[0].shape == (4, 32, 32, 3) and images.test is None
    assert np.isfinite([flat.value(flat.params), images.value(images.params)]).all()


class Call:
    """Pickles to the order to call a function."""

    def __init__(self, function, *arguments) -> None:
        self.order = function, arguments

    def __reduce__(self):
        return self.order


def overwritten(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def truncated(name: str, size: int):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def stored(**entries):
    whole = {"data": batch(1)[0], "labels": [0] * FEW} | entries
    return overwritten("data_batch_1", pickle.dumps({k: v for k, v in whole.items() if v is not None}))


DAMAGE = {
    "binary truncated": (write_binary, truncated("data_batch_1.bin", 3073 * FEW - 1), "got 21510 bytes"),
    "binary of whole records": (write_binary, truncated("data_batch_1.bin", 3073 * 2), "got 6146 bytes .* needs 21511"),
    "binary empty": (write_binary, truncated("data_batch_1.bin", 0), "got 0 bytes"),
    "binary labels": (write_binary, overwritten("data_batch_1.bin", b"\xff" * 3073 * FEW), "labels other than 0 to 9"),
    "second missing": (write_binary, lambda folder: (folder / "data_batch_2.bin").unlink(), "got no .*data_batch_2"),
    "nothing": (write_binary, lambda folder: [file.unlink() for file in folder.iterdir()], "needs data_batch_1 or"),
    "pickle truncated": (write_python, truncated("data_batch_1", 2000), "no readable pickle"),
    "pickle empty": (write_python, truncated("data_batch_1", 0), "no readable pickle"),
    "no pickle": (write_python, overwritten("data_batch_1", b"\x1f\x8b gzipped"), "no readable pickle"),
    "other pickle": (write_python, overwritten("data_batch_1", pickle.dumps([1, 2])), "got no data of 7 x 3072"),
    "fine labels": (write_python, stored(labels=None, fine_labels=[1]), "as many labels"),
    "few labels": (write_python, stored(labels=[1]), "as many labels"),
    "wrong labels": (write_python, stored(labels=[10] * FEW), "labels other than 0 to 9"),
    "text labels": (write_python, stored(labels=["cat"] * FEW), "labels other than 0 to 9"),
    "ragged labels": (write_python, stored(labels=[[1], *[1] * (FEW - 1)]), "labels other than 0 to 9"),
    "float data": (write_python, stored(data=np.zeros((FEW, 3072))), "got no data of 7 x 3072"),
    "few data": (write_python, stored(data=batch(1)[0][:3]), "got no data of 7 x 3072"),
    "a global": (write_python, stored(labels=os.getcwd), "asks for [a-z]*.getcwd"),
    "a codec": (write_python, stored(labels=Call(codecs.encode, "abc", "rot13")), "asks for the encoding"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", DAMAGE)
def test_files_that_are_refused(tmp_path, damage) -> None:
    write, spoil, message = DAMAGE[damage]
    spoil(write(tmp_path))
    with pytest.raises(ValueError, match=message) as refusal:
        problems.cifar10_mlp(tmp_path, examples=FEW + 1)
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith("cifar10_mlp: got")


@pytest.mark.usefixtures("small")
def test_code_in_a_pickle_is_not_run(tmp_path) -> None:
    folder, trap = write_python(tmp_path / "batches"), tmp_path / "sprung"
    order = pickle.dumps({"data": batch(1)[0], "labels": Call(os.mkdir, str(trap))})
    (folder / "data_batch_1").write_bytes(order)
    with pytest.raises(ValueError, match=r"asks for [a-z]*\.mkdir"):
        problems.cifar10_mlp(folder, examples=1)
    assert not trap.exists()
    pickle.loads(order)  # the same file, read without care, does run it
    assert trap.exists()


def test_a_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cifar10_cnn: got folder=.* needs a folder that exists") as refusal:
        problems.cifar10_cnn(tmp_path / "nowhere")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("folder", [None, 3, b"images", "~nobody-of-this-name/images"])
def test_what_is_no_folder(folder) -> None:
    with pytest.raises(ValueError, match=r"cifar10_mlp: got folder=.* needs the name of a folder") as refusal:
        problems.cifar10_mlp(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 2.5, "3", None, True])
@pytest.mark.parametrize("name", ["examples", "test_examples"])
def test_what_is_no_number_of_images(tmp_path, name, number) -> None:
    with pytest.raises(ValueError, match=rf"cifar10_cnn: got {name}=.* needs [01] to [15]0000$"):
        problems.cifar10_cnn(tmp_path, **{name: number})


@pytest.mark.parametrize("wanted", [{"examples": 50_001}, {"examples": 0}, {"test_examples": 10_001}])
def test_more_of_cifar_than_there_is(tmp_path, wanted) -> None:
    with pytest.raises(ValueError, match=r"cifar10_mlp: got .*examples="):
        problems.cifar10_mlp(tmp_path, **wanted)
