"""The libraries that a case is timed with: ours and the peers, each at its best setting.

A case is written once, as a function of a vocabulary `m` and arrays: `lambda m, x, **o: m.exp(x, **o)`. Each
library brings its own vocabulary; a word that it does not have means that the case is not timed with it.
`**o` is where NumPy and PyTorch are handed memory for the result.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Thunk = Callable[[], object]
Function = Callable[..., Any]


class NotThere(Exception):
    """The library has no such operation."""


class Library:
    """A library under test. `name` is its module; `modules` are searched for the words of a case, in
    order.
    """

    name: str
    modules: Sequence[str]

    def __init__(self) -> None:
        self._modules = [importlib.import_module(name) for name in self.modules]

    def __getattr__(self, word: str) -> Any:
        if not word.startswith("_"):
            for module in self._modules:
                if hasattr(module, word):
                    return getattr(module, word)
        raise NotThere(f"{self.name} has no {word}")

    def set_threads(self, count: int) -> None:
        raise NotImplementedError

    def array(self, x: np.ndarray) -> Any:
        raise NotImplementedError

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        """f on the arrays; the thunk returns when the result is there."""
        return lambda: f(self, *arrays)

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        """f and the gradients of all floating arrays, for an upstream gradient of ones."""
        raise NotThere(f"{self.name} has no gradients")


class Ours(Library):
    name = "tensorsmith"
    modules = ("tensorsmith", "tensorsmith.nn.functional")

    def set_threads(self, count: int) -> None:
        self.set_num_threads(count)

    def array(self, x: np.ndarray) -> Any:
        return self.asarray(x)

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _tape(self, f, arrays, [a for a in arrays if "float" in str(a.dtype)])


class Torch(Library):
    name = "torch"
    modules = ("torch", "torch.nn.functional")

    def set_threads(self, count: int) -> None:
        self.set_num_threads(count)

    def array(self, x: np.ndarray) -> Any:
        t = self.from_numpy(x.copy())
        return t.contiguous(memory_format=self.channels_last) if x.ndim == 4 else t

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _with_out(self, f, arrays, f(self, *arrays))

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _tape(self, f, arrays, [a for a in arrays if a.is_floating_point()])


class NumPy(Library):
    name = "numpy"
    modules = ("numpy",)

    def set_threads(self, count: int) -> None:
        """NumPy takes its threads from the environment: the command line sets it before the first import."""

    def array(self, x: np.ndarray) -> Any:
        return x

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _with_out(self, f, arrays, f(self, *arrays))


class Jax(Library):
    name = "jax"
    modules = ("jax.numpy", "jax.nn", "jax.scipy.special", "jax.lax", "jax")

    def set_threads(self, count: int) -> None:
        """XLA takes as many threads as the process has processors: the command line limits them."""

    def array(self, x: np.ndarray) -> Any:
        return self.asarray(x)

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        compiled = self.jit(lambda *a: f(self, *a))
        return lambda: self.block_until_ready(compiled(*arrays))

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        wrt = tuple(i for i, a in enumerate(arrays) if "float" in str(a.dtype))
        compiled = self.jit(self.value_and_grad(lambda *a: f(self, *a).sum(), argnums=wrt))
        return lambda: self.block_until_ready(compiled(*arrays))


def _with_out(m: Library, f: Function, arrays: Sequence[Any], result: Any) -> Thunk:
    try:
        f(m, *arrays, out=result)
    except (TypeError, RuntimeError, ValueError):
        return lambda: f(m, *arrays)
    return lambda: f(m, *arrays, out=result)


def _tape(m: Library, f: Function, arrays: Sequence[Any], leaves: Sequence[Any]) -> Thunk:
    for leaf in leaves:
        leaf.requires_grad_()
    ones = m.ones_like(f(m, *arrays).detach())

    def step() -> None:
        f(m, *arrays).backward(ones)
        for leaf in leaves:
            leaf.grad = None

    return step


PEERS: tuple[type[Library], ...] = (NumPy, Torch, Jax)


def installed_peers() -> list[Library]:
    return [peer() for peer in PEERS if importlib.util.find_spec(peer.name)]


def has_compiler() -> bool:
    """Whether torch.compile can work here."""
    return any(shutil.which(name) for name in ("g++", "c++", "clang++"))
