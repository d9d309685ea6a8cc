"""CIFAR-10 from a folder of the user's: its python or its binary batches. Nothing is downloaded."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from toylab.problems.datasets.dataset import Dataset, one_hot, wanted

CLASSES = 10
SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3
RECORDS = 10_000  # images of one batch
BATCHES = 5
FOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
TRY = "unpack cifar-10-python.tar.gz or cifar-10-binary.tar.gz and give that folder"

Batch = tuple[np.ndarray, np.ndarray]


def cifar10(folder: str | Path, examples: int = 5000, test_examples: int = 0) -> Dataset:
    """The first `examples` training images of CIFAR-10 and the first `test_examples` of its test batch.

    `folder` holds the batches (data_batch_1 ... data_batch_5, test_batch, with or without .bin), or holds
    cifar-10-batches-py or cifar-10-batches-bin that does. Inputs (n, 32, 32, 3): pixels / 255, minus the mean of each
    colour and divided by its standard deviation, both over all pixels of the training examples. Targets (n, 10):
    one-hot. Only the files that are needed are read; of the python batches nothing is run.

    Raises ValueError where a file is missing, truncated or not what it should be, or for more examples than there are.
    """
    count = wanted(examples, BATCHES * RECORDS, "examples")
    held_out = wanted(test_examples, RECORDS, "test_examples", least=0)
    place, ending, read = _found(folder)
    train = [read(place / f"data_batch_{i + 1}{ending}") for i in range(-(-count // RECORDS))]
    images, labels = (np.concatenate(parts)[:count] for parts in zip(*train, strict=True))
    pixels = _colours_last(images)
    mean, deviation = pixels.mean(axis=(0, 1, 2), keepdims=True), pixels.std(axis=(0, 1, 2), keepdims=True)
    deviation = np.where(deviation == 0, 1, deviation)
    test = None
    if held_out:
        images, test_labels = (part[:held_out] for part in read(place / f"test_batch{ending}"))
        test = ((_colours_last(images) - mean) / deviation, one_hot(test_labels, CLASSES))
    return Dataset(((pixels - mean) / deviation, one_hot(labels, CLASSES)), test)


def _found(given: str | Path) -> tuple[Path, str, Callable[[Path], Batch]]:
    """Where the batches are, how their names end and who reads them."""
    try:
        folder = Path(given).expanduser()
    except (TypeError, RuntimeError):  # no path; the home of nobody
        raise ValueError(f"got folder={given!r}, needs the name of a folder: {TRY}") from None
    if not folder.is_dir():
        raise ValueError(f"got folder={str(folder)!r}, needs a folder that exists: {TRY}")
    for inside in FOLDERS:
        place = folder / inside
        for ending, read in (("", _python_batch), (".bin", _binary_batch)):
            if (place / f"data_batch_1{ending}").is_file():
                return place, ending, read
    raise ValueError(f"got folder={str(folder)!r}, needs data_batch_1 or data_batch_1.bin in it: {TRY}")


def _colours_last(images: np.ndarray) -> np.ndarray:
    """(n, 3072) bytes, one plane a colour, row by row -> (n, 32, 32, 3) numbers from 0 to 1 in float32."""
    return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)


def _binary_batch(file: Path) -> Batch:
    """Records of one byte for the label and 3072 for the pixels."""
    stored = np.frombuffer(_bytes(file), dtype=np.uint8)
    needed = RECORDS * (PIXELS + 1)
    if stored.size != needed:
        raise ValueError(f"got {stored.size} bytes in {str(file)!r}, needs {needed}, a binary CIFAR-10 batch: {TRY}")
    records = stored.reshape(RECORDS, PIXELS + 1)
    return records[:, 1:], _checked_labels(records[:, 0].tolist(), file)


def _python_batch(file: Path) -> Batch:
    """A pickled dictionary with `data` (n, 3072) of bytes and `labels`, a list."""
    with _opened(file) as stream:
        try:
            stored = _Plain(stream, encoding="bytes").load()
        except Exception as error:  # noqa: BLE001 - a damaged pickle raises anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"got no readable pickle in {str(file)!r} ({reason}), needs a batch: {TRY}") from None
    entries = stored if isinstance(stored, dict) else {}
    images, labels = (entries.get(name.encode(), entries.get(name)) for name in ("data", "labels"))
    shape = images.shape if isinstance(images, np.ndarray) and images.dtype == np.uint8 else None
    if shape != (RECORDS, PIXELS) or not isinstance(labels, list) or len(labels) != RECORDS:
        raise ValueError(
            f"got no data of {RECORDS} x {PIXELS} bytes with as many labels in {str(file)!r}, needs a python CIFAR-10 "
            f"batch: {TRY}"
        )
    return images, _checked_labels(labels, file)


def _checked_labels(labels: list[Any], file: Path) -> np.ndarray:
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise ValueError(f"got labels other than 0 to {CLASSES - 1} in {str(file)!r}, needs CIFAR-10: {TRY}")
    return np.array(labels)


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise ValueError(f"got no {str(file)!r} ({error.strerror}), needs all batches that are used: {TRY}") from None


def _bytes(file: Path) -> bytes:
    with _opened(file) as stream:
        return stream.read()


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into the old pickle protocol: encode(text, "latin1"), and nothing else."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _array_parts() -> dict[tuple[str, str], Any]:
    """What NumPy writes into the pickle of an array, under the module names of all its versions."""
    rebuild = np.zeros(0).__reduce__()[0]  # private in NumPy, under a name that has changed
    of_buffer = np.zeros(0).__reduce_ex__(5)[0]
    cores = ("numpy.core", "numpy._core")
    named = {(f"{core}.multiarray", "_reconstruct"): rebuild for core in cores}
    named |= {(f"{core}.numeric", "_frombuffer"): of_buffer for core in cores}
    return named | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _latin1}


class _Plain(pickle.Unpickler):
    """Reads containers, numbers, bytes and arrays; refuses every other name, so that no code in a file is run."""

    known = _array_parts()

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for; UnpicklingError where it is not a part of an array."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch contains")
        return self.known[module, name]
