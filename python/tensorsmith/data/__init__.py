"""Datasets that `tensorsmith train` and the examples learn from."""

from tensorsmith.data.datasets import MNIST, Digits, FashionMNIST, MissingDataError

__all__ = ["MNIST", "Digits", "FashionMNIST", "MissingDataError"]
