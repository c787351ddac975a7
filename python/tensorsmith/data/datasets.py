"""Image datasets: the digits that come with the package, MNIST and Fashion-MNIST.

    >>> digits = Digits(train=True)
    >>> image, label = digits[0]        # (1, 8, 8) float32 in [0, 1], int

N images of H×W pixels with one channel: `data` (N, H, W) uint8, `targets` (N,) int64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorsmith.data.idx import read_idx
from tensorsmith.errors import FileFormatError
from tensorsmith.utils.data import Dataset

__all__ = ["MNIST", "Digits", "FashionMNIST", "MissingDataError", "find"]

PARTS = {True: "train", False: "t10k"}


class MissingDataError(FileNotFoundError):
    """A dataset's files are on none of the places where they may be; the message says where to get them."""

    def __str__(self) -> str:
        return str(self.args[0])


class IdxImages(Dataset[tuple[Any, int]]):
    """Labelled grey images in four idx files, `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`.

    root: the folder that holds the files; by default the places that `find` lists.
    train: the training part, or the held-out part.
    transform: applied to each image, a (1, H, W) float32 tensor in [0, 1].
    """

    name: str
    classes: Sequence[str]
    levels = 255  # the largest pixel value
    places: Sequence[str] = ()  # folders besides TENSORSMITH_DATA
    source: str = ""

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        folder = Path(root) if root is not None else find(type(self))
        images, labels = _file(folder, train, "images-idx3"), _file(folder, train, "labels-idx1")
        self.data = read_idx(images, 3)
        self.targets = read_idx(labels, 1).astype(np.int64)
        if len(self.data) != len(self.targets):
            raise FileFormatError(
                f"{images}: {len(self.data)} images, but {labels} has {len(self.targets)} labels"
            )
        if len(self.targets) and self.targets.max() >= len(self.classes):
            raise FileFormatError(f"{labels}: label {self.targets.max()}, valid 0..{len(self.classes) - 1}")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import tensorsmith as ts

        image = ts.asarray(self.data[index][None].astype(np.float32) / np.float32(self.levels))
        return (self.transform(image) if self.transform else image), int(self.targets[index])

    def __repr__(self) -> str:
        n, h, w = self.data.shape
        return f"{type(self).__name__}({n} images, {h}x{w}, {len(self.classes)} classes)"


class Digits(IdxImages):
    """Handwritten digits, 8×8 pixels, 1,437 to train on and 360 held out; they come with the package.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49, CC BY 4.0. What was changed: see README.md beside this file.
    """

    name = "digits"
    classes = tuple("0123456789")
    levels = 16
    places = (str(Path(__file__).with_name("digits")),)


class MNIST(IdxImages):
    """Handwritten digits, 28×28 pixels, 60,000 to train on and 10,000 held out (LeCun, Cortes, Burges,
    1998).
    """

    name = "mnist"
    classes = tuple("0123456789")
    source = "https://storage.googleapis.com/cvdf-datasets/mnist/"


class FashionMNIST(IdxImages):
    """Pictures of clothes, 28×28 pixels, 60,000 to train on and 10,000 held out.

    H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017; MIT licence.
    """

    name = "fashion-mnist"
    classes = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")
    places = ("/usr/share/datasets/fashion-mnist",)  # Debian's package
    source = "`apt install dataset-fashion-mnist` or https://github.com/zalandoresearch/fashion-mnist"


def find(dataset: type[IdxImages]) -> Path:
    """The folder of a dataset: `<name>` in TENSORSMITH_DATA, else the dataset's own places.

    Raises MissingDataError, which says where it looked and where the files can be had.
    """
    candidates = [Path(place) for place in dataset.places]
    if "TENSORSMITH_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["TENSORSMITH_DATA"]) / dataset.name)
    for folder in candidates:
        if _existing(folder, "train-images-idx3-ubyte"):
            return folder
    looked = " or ".join(str(folder) for folder in candidates) or "any folder, as TENSORSMITH_DATA is not set"
    raise MissingDataError(
        f"{dataset.name}: train-images-idx3-ubyte.gz was not found in {looked}; put the four files from "
        f"{dataset.source} into a folder {dataset.name}/ and set TENSORSMITH_DATA to the folder around it"
    )


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _file(folder: Path, train: bool, kind: str) -> Path:
    name = f"{PARTS[train]}-{kind}-ubyte"
    path = _existing(folder, name)
    if path is None:
        raise MissingDataError(f"{folder} has no {name}.gz")
    return path
