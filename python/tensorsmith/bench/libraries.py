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

OWN = "tensorsmith"
Thunk = Callable[[], object]
Function = Callable[..., Any]


class NotThere(Exception):
    """The library has no such operation."""


class Library:
    """A library under test. `module` is what is imported, and installed or not; `modules` are searched for the
    words of a case, in order. `name` differs from `module` where a library has more than one way to run.
    """

    name: str
    module: str
    modules: Sequence[str]
    compiles = False

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

    def image(self, x: np.ndarray) -> Any:
        """x (N, C, H, W) in memory as (N, H, W, C)."""
        return self.array(x)

    def rounded(self, x: Any) -> Any:
        """An array of float32 as bfloat16."""
        raise NotThere(f"{self.name} has no bfloat16")

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        """f on the arrays; the thunk returns when the result is there."""
        return lambda: f(self, *arrays)

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        """f and the gradients of all floating arrays, for an upstream gradient of ones."""
        raise NotThere(f"{self.name} has no gradients")


class Ours(Library):
    name = module = OWN
    modules = ("tensorsmith", "tensorsmith.nn.functional")

    def set_threads(self, count: int) -> None:
        self.set_num_threads(count)

    def array(self, x: np.ndarray) -> Any:
        return self.asarray(x)

    def image(self, x: np.ndarray) -> Any:
        return self.permute_dims(self.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), (0, 3, 1, 2))

    def rounded(self, x: Any) -> Any:
        return x.astype(self.bfloat16)

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _tape(self, f, arrays, [a for a in arrays if "float" in str(a.dtype)])


class Torch(Library):
    name = module = "torch"
    modules = ("torch", "torch.nn.functional")

    def set_threads(self, count: int) -> None:
        self.set_num_threads(count)

    def array(self, x: np.ndarray) -> Any:
        return self.from_numpy(x)

    def image(self, x: np.ndarray) -> Any:
        return self.array(x).contiguous(memory_format=self.channels_last)

    def rounded(self, x: Any) -> Any:
        return x.to(self.bfloat16)

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _with_out(self, f, arrays, f(self, *arrays))

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _tape(self, f, arrays, [a for a in arrays if a.is_floating_point()])


class TorchCompile(Torch):
    """PyTorch with its compiler, for cases where it can fuse something; it needs a C++ compiler at hand."""

    name = "torch.compile"
    compiles = True

    def __init__(self) -> None:
        super().__init__()
        if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
            raise NotThere("torch.compile needs a C++ compiler")

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        compiled = self.compile(lambda *a: f(self, *a), dynamic=False)
        return lambda: compiled(*arrays)

    def backward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        compiled = self.compile(lambda m, *a: f(m, *a), dynamic=False)
        return super().backward(compiled, arrays)


class NumPy(Library):
    name = module = "numpy"
    modules = ("numpy",)

    def set_threads(self, count: int) -> None:
        """NumPy takes its threads from the environment: the command line sets it before the first import."""

    def array(self, x: np.ndarray) -> Any:
        return x

    def forward(self, f: Function, arrays: Sequence[Any]) -> Thunk:
        return _with_out(self, f, arrays, f(self, *arrays))


class Jax(Library):
    name = module = "jax"
    modules = ("jax.numpy", "jax.nn", "jax.scipy.special", "jax.lax", "jax")

    def set_threads(self, count: int) -> None:
        """XLA takes as many threads as the process has processors: the command line limits them."""

    def array(self, x: np.ndarray) -> Any:
        return self.asarray(x)

    def rounded(self, x: Any) -> Any:
        return x.astype(self.bfloat16)

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


# Peers by module, each timed in a process of its own: the idle threads of one disturb the calls of another.
PEERS: dict[str, tuple[type[Library], ...]] = {
    "numpy": (NumPy,),
    "torch": (Torch, TorchCompile),
    "jax": (Jax,),
}


def installed_peers() -> list[str]:
    return [module for module in PEERS if importlib.util.find_spec(module)]


def contestants(module: str) -> list[Library]:
    """Ours and the ways to run one peer."""
    libraries: list[Library] = [Ours()]
    for kind in PEERS[module]:
        try:
            libraries.append(kind())
        except NotThere:
            continue
    return libraries
