"""The idx reader and the datasets: what comes along, where others are looked for, damaged files."""

from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith.data import MNIST, Digits, FashionMNIST, MissingDataError
from tensorsmith.data.datasets import find
from tensorsmith.data.idx import read_idx


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def write(folder, name, array, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    data = idx(array)
    (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)


def write_dataset(folder, labels=(0, 1, 9)):
    for part in ("train", "t10k"):
        write(folder, f"{part}-images-idx3-ubyte", np.zeros((len(labels), 28, 28), np.uint8))
        write(folder, f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8), packed=False)


def test_digits_come_with_the_package():
    train, test = Digits(train=True), Digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    assert train.data.shape == (1437, 8, 8) and train.data.max() == 16
    assert sorted(np.unique(test.targets)) == list(range(10))
    assert repr(test) == "Digits(360 images, 8x8, 10 classes)"
    image, label = train[0]
    assert image.shape == (1, 8, 8) and image.dtype == ts.float32 and isinstance(label, int)
    assert float(image.max()) <= 1


def test_digits_are_the_published_ones():
    sklearn = pytest.importorskip("sklearn.datasets")
    images = sklearn.load_digits().images.astype(np.uint8)
    held_out = np.arange(len(images)) % 5 == 0
    np.testing.assert_array_equal(Digits(train=True).data, images[~held_out])
    np.testing.assert_array_equal(Digits(train=False).data, images[held_out])


def test_the_split_is_fixed():
    digest = hashlib.sha256(Digits(train=False).data.tobytes()).hexdigest()
    assert digest == "9f958e31e037f4fd184c40b8a5f246a0177f1dc8cdf88ad5286b935dc7cfc76d"


def test_transform():
    assert Digits(transform=lambda image: image.shape)[0][0] == (1, 8, 8)


def test_found_in_the_environment(tmp_path, monkeypatch):
    write_dataset(tmp_path / "mnist")
    monkeypatch.setenv("TENSORSMITH_DATA", str(tmp_path))
    assert find(MNIST) == tmp_path / "mnist"
    assert MNIST(train=False).targets.tolist() == [0, 1, 9]


def test_missing_data_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORSMITH_DATA", str(tmp_path))
    with pytest.raises(
        MissingDataError, match=f"was not found in {tmp_path}/mnist; put the four files from https"
    ):
        MNIST()
    monkeypatch.delenv("TENSORSMITH_DATA")
    with pytest.raises(MissingDataError, match="TENSORSMITH_DATA is not set"):
        MNIST()
    monkeypatch.setattr(FashionMNIST, "places", (str(tmp_path / "none"),))
    with pytest.raises(
        MissingDataError, match=r"none; put the four files from `apt install dataset-fashion-mnist`"
    ):
        FashionMNIST()


def test_a_part_that_is_missing(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert len(MNIST(tmp_path, train=True)) == 3
    with pytest.raises(MissingDataError, match=r"has no t10k-labels-idx1-ubyte\.gz"):
        MNIST(tmp_path, train=False)


def test_counts_and_labels_are_checked(tmp_path):
    write_dataset(tmp_path, labels=(0, 10))
    with pytest.raises(ts.FileFormatError, match=r"label 10, valid 0\.\.9"):
        MNIST(tmp_path)
    write(tmp_path, "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(ts.FileFormatError, match=r"2 images, but .* has 3 labels"):
        MNIST(tmp_path)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
DAMAGED = {
    "empty": (b"", "begins with"),
    "wrong magic": (b"\0\1" + GOOD[2:], "begins with 00 01 08 03"),
    "other element type": (GOOD[:2] + b"\x0d" + GOOD[3:], "begins with 00 00 0d 03"),
    "other rank": (idx(np.zeros(3, np.uint8)), "has 1 dimensions, expected 3"),
    "cut header": (GOOD[:10], "ends within its header, after 10 bytes"),
    "cut data": (GOOD[:-1], r"shape \(2, 3, 4\) takes 24 bytes, the file holds 23"),
    "more data": (GOOD + b"x", r"shape \(2, 3, 4\) takes 24 bytes, the file holds more"),
    "too large": (
        struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "at most 1073741824 are read",
    ),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_idx(tmp_path, name, packed):
    data, message = DAMAGED[name]
    path = tmp_path / ("f.gz" if packed else "f")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(ts.FileFormatError, match=message) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


def test_damaged_gzip(tmp_path):
    path, whole = tmp_path / "f.gz", gzip.compress(GOOD)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ts.FileFormatError):
            read_idx(path, 3)
    for at in range(10, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(ts.FileFormatError):
            read_idx(path, 3)


def test_good_idx(tmp_path):
    (tmp_path / "f").write_bytes(GOOD)
    np.testing.assert_array_equal(read_idx(tmp_path / "f", 3), np.arange(24).reshape(2, 3, 4))
