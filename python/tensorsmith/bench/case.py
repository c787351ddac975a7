"""What a row of the bench is: something that several libraries do in turns.

Arrays are float32 unless a case says otherwise. A case says what one call costs, so that its time can be given as a
share of the machine's limit: `flops` operations, or `bytes` moved at least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tensorsmith.bench.libraries import Function, Library, Thunk


@dataclass(frozen=True)
class Case:
    """A function of a vocabulary (see libraries.py) and of arrays, given by their shapes.

    `overrides` has the function of a library whose words differ, by its name, or None where it sits the case out.
    With `backward` a call computes the gradients of all floating arrays too. Integers are indices below `high`.
    `compiled` cases are timed with `torch.compile` as well: where it can fuse something. `channels_last` has the
    modules whose images (arrays of 4 dimensions) lie channels last: where PyTorch is faster that way, it.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    function: Function
    flops: float = 0
    bytes: float = 0
    backward: bool = False
    overrides: Mapping[str, Function | None] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    high: int = 1
    compiled: bool = False
    channels_last: tuple[str, ...] = ("torch",)

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """What the libraries are given, bfloat16 still as float32. All of them read this memory, for where memory
        lies makes a fifth of the time of what is bound by it.
        """
        rng = np.random.default_rng(0)
        arrays: list[np.ndarray] = []
        for shape, dtype in zip(self.shapes, self._dtypes(), strict=True):
            if dtype == "bool":
                arrays.append(rng.random(shape) < 0.5)
            elif dtype.startswith("int"):
                arrays.append(rng.integers(0, self.high, shape).astype(dtype))
            else:
                kept = "float32" if dtype == "bfloat16" else dtype
                arrays.append(rng.uniform(0.1, 1.0, shape).astype(kept))
        return arrays

    def _dtypes(self) -> tuple[str, ...]:
        return self.dtypes + ("float32",) * (len(self.shapes) - len(self.dtypes))

    def thunk(self, library: Library) -> Thunk | None:
        """One call with a library; None where it sits this case out."""
        function = self.overrides.get(library.module, self.function)
        if function is None or (library.compiles and not self.compiled):
            return None
        arrays = []
        for array, dtype in zip(self.arrays, self._dtypes(), strict=True):
            image = array.ndim == 4 and library.module in self.channels_last
            given = library.image(array) if image else library.array(array)
            arrays.append(library.rounded(given) if dtype == "bfloat16" else given)
        bind = library.backward if self.backward else library.forward
        return bind(function, arrays)


@dataclass(frozen=True)
class Task:
    """Whatever is written for each library by itself: `makers` has who prepares it, by the library's name, and
    returns the call to time. `beside` tasks are timed alone, then beside a process that never rests. `peak` has the
    dtype whose peak `flops` are a share of.
    """

    name: str
    makers: Mapping[str, Callable[[], Thunk]]
    flops: float = 0
    bytes: float = 0
    beside: bool = False
    peak: str = "float32"

    def thunk(self, library: Library) -> Thunk | None:
        maker = self.makers.get(library.name)
        return maker() if maker else None


@dataclass(frozen=True)
class Reading:
    """Seconds that are read rather than timed, by the name of a library's module."""

    name: str
    read: Callable[[str], float]
    flops: float = 0
    bytes: float = 0
