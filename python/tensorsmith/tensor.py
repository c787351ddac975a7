"""`Tensor`: the array that everything else is made of.

Memory, attributes and operators are in the core (csrc/python/tensor.cpp); this file gives the class its methods, most
of which are the operations of `tensorsmith.ops` with the tensor as their first argument.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tensorsmith import _core, autograd, dtypes
from tensorsmith._core import ops as core


def _shape(shape: tuple[Any, ...]) -> Any:
    """(2, 3) from either f(2, 3) or f((2, 3))."""
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def _cast(x: Any, dtype: Any) -> Any:
    """x itself where it has that dtype: a leaf then stays one, and gets its gradient."""
    return x if dtypes.as_dtype(dtype) == x.dtype else core.astype(x, dtype, False)


def _moved(x: Any, device: Any) -> Any:
    """x itself where it is there already."""
    stays = isinstance(device, str) and device.removesuffix(":0") == x.device
    return x if stays else core.to_device(x, device)


def _whole(what: str, number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {number!r}") from None


def _is_one(number: Any) -> bool:
    return isinstance(number, (int, float)) and number == 1


class Hook:
    """Handle of a gradient hook: `remove()` takes it off again; usable as a context manager."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class _Keep:
    """The hook of `retain_grad`: the last one of its tensor."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = weakref.ref(tensor)

    def __call__(self, g: Any) -> None:
        tensor = self._tensor()
        if tensor is not None:
            tensor.grad = g if tensor.grad is None else tensor.grad + g


class Tensor(_core.TensorBase):
    """An n-dimensional array with an optional gradient.

    Tensor(data, dtype=None) copies `data` (numbers, nested lists, NumPy arrays, tensors); see also `ts.asarray`,
    `ts.zeros`, … NumPy's methods and operators apply, with NumPy's broadcasting and promotion; floats that come
    without a dtype are float32.
    """

    __slots__ = ()

    # NumPy leaves mixed expressions to us: `ndarray + tensor` is a tensor.
    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from tensorsmith import interop

        return interop.array_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        from tensorsmith import interop

        return interop.array_function(function, types, args, options)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's description of the memory; see `numpy`. AttributeError for bfloat16, which it cannot name."""
        if self.dtype == "bfloat16":
            raise AttributeError("bfloat16 has no array interface; NumPy takes __array__ instead")
        return self.numpy().__array_interface__

    # --- description ------------------------------------------------------------------------------

    @property
    def data(self) -> Tensor:
        """The same memory without gradient history; assigning replaces the memory."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"data: the new memory has shape {value.shape} and dtype {value.dtype}, "
                f"the tensor {self.shape} and {self.dtype}"
            )
        self._share(value)

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.size

    def __repr__(self) -> str:
        body = np.array2string(_numbers(self), separator=", ", prefix="tensor(")
        parts = [body]
        if self.dtype not in (_core.default_dtype(), dtypes.int64, dtypes.bool_) or self.size == 0:
            parts.append(f"dtype={self.dtype}")
        if self.device != "cpu":
            parts.append(f"device='{self.device}'")
        if self.size == 0 and self.shape != (0,):
            parts.insert(1, f"shape={self.shape}")
        if self.grad_fn is not None:
            parts.append(f"grad_fn={self.grad_fn}")
        elif self.requires_grad:
            parts.append("requires_grad=True")
        return f"tensor({', '.join(parts)})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else format(str(self), spec)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, x: Any) -> bool:
        return bool(core.any(core.equal(self, x)))

    # --- out to NumPy and Python ------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """A NumPy array over the same memory (a read-only one where the tensor is).

        RuntimeError if the tensor carries a gradient, which NumPy would lose: use `.detach().numpy()`. TypeError if
        it is on the GPU: use `.cpu().numpy()`.
        """
        if self.device != "cpu":
            raise TypeError(f"numpy: the tensor is on {self.device}; use .cpu().numpy()")
        if self.requires_grad and _core.is_grad_enabled():
            raise RuntimeError(
                "numpy: the tensor carries a gradient, which NumPy would lose; use .detach().numpy()"
            )
        return _plain(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"a tensor of dtype {self.dtype} becomes {np.dtype(dtype)} only by a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return _numbers(self).tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError(
                "deepcopy: only leaf tensors can be copied with their gradient state; use .detach()"
            )
        if id(self) not in memo:
            memo[id(self)] = core.copy(self.detach()).requires_grad_(self.requires_grad)
            if isinstance(self.grad, Tensor):
                memo[id(self)].grad = core.copy(self.grad.detach())
        return memo[id(self)]

    def __reduce__(self) -> Any:
        return _rebuild, (_plain(self), self.requires_grad and self.is_leaf, self.device)

    # --- the array standard -----------------------------------------------------------------------

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The namespace of this array: `tensorsmith`. ValueError for a version of the standard unknown here."""
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12", "2025.12"):
            raise ValueError(
                f"__array_namespace__: version {api_version!r} of the array standard is not known here"
            )
        import tensorsmith

        return tensorsmith

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """On another device; itself where it is there already."""
        return _moved(self, device)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's (device type, number): (1, 0) is the CPU, (2, 0) the GPU."""
        return (1, 0) if self.device == "cpu" else (2, 0)

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """A DLPack capsule over this memory: versioned if max_version allows 1.0, which read-only memory needs.

        copy: True copies first, False raises BufferError where that is needed. BufferError for a gradient that the
        other library would lose, and for a device that is neither this one nor the CPU."""
        here = self.__dlpack_device__()
        source, copied = self, False
        if dl_device is not None and tuple(int(n) for n in dl_device) != here:
            if int(dl_device[0]) != 1 or copy is False:
                raise BufferError(
                    f"__dlpack__: the memory is on device {here}, {tuple(dl_device)} was asked for"
                )
            source, copied = self.cpu(), True
        if copy and not copied:
            source, copied = core.copy(self), True
        if here[0] == 2 and stream != -1:
            from tensorsmith import cuda

            cuda.synchronize()
        versioned = max_version is not None and int(max_version[0]) >= 1
        return _core.to_dlpack(source, versioned, copied)

    @property
    def real(self) -> Tensor:
        """The real part, a view."""
        return core.real(self)

    @real.setter
    def real(self, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self) -> Tensor:
        """The imaginary part, a view; zeros where the tensor is real."""
        return core.imag(self)

    @imag.setter
    def imag(self, value: Any) -> None:
        if self.dtype.kind != "complex":
            raise TypeError(f"imag: a tensor of {self.dtype} has no imaginary part to set")
        self.imag[...] = value

    def conjugate(self) -> Tensor:
        """The imaginary part negated; itself where the tensor is real."""
        return core.conj(self)

    @property
    def flags(self) -> Any:
        """NumPy's flags of the memory: whether it is contiguous, aligned, writeable."""
        return _plain(self).flags

    def __complex__(self) -> complex:
        return complex(self.item())

    def __round__(self, ndigits: int | None = None) -> Any:
        """Of a 0-d tensor, as of NumPy's scalars: the nearest integer, or a tensor of so many decimals."""
        if self.ndim:
            raise TypeError(f"round: a tensor of shape {self.shape} is no number; use .round(decimals)")
        return round(self.item()) if ndigits is None else self.round(ndigits)

    # --- gradients --------------------------------------------------------------------------------

    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Adds this tensor's gradient to the `.grad` of the leaves that it was computed from.

        gradient: of this tensor's shape; may be left out if it has one element. See `ts.autograd.backward`.
        """
        autograd.backward(self, gradient, retain_graph, create_graph)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Marks a leaf as wanting its gradient, or not; returns it. TypeError for dtypes without gradients."""
        self.requires_grad = requires_grad
        return self

    def register_hook(self, hook: Callable[[Any], Any]) -> Hook:
        """Calls `hook(gradient)` in backward; a tensor that it returns takes the gradient's place.

        RuntimeError if this tensor carries no gradient.
        """
        hooks = self._register_hook(hook)
        if len(hooks) > 1 and isinstance(hooks[-2], _Keep):  # which sees what the others make of the gradient
            hooks[-2:] = hooks[:-3:-1]
        return Hook(hooks, hook)

    def retain_grad(self) -> None:
        """Keeps the gradient of this computed tensor in `.grad`, as leaves do. RuntimeError if it carries none."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: the tensor does not require a gradient")
        if self.is_leaf:
            return
        hooks = self._register_hook(_Keep(self))
        if any(isinstance(hook, _Keep) for hook in hooks[:-1]):
            hooks.pop()

    def detach_(self) -> Any:
        raise NotImplementedError("detach_: rebind the name instead: x = x.detach()")

    # --- shape ------------------------------------------------------------------------------------

    def view(self, *shape: Any, dtype: Any = None) -> Tensor:
        """The elements in another shape, never a copy: ValueError where that would take one.

        `x.view(dtype)`: the same bytes as elements of another dtype of that size, without a gradient. `x.view()`: x."""
        if dtype is None and len(shape) == 1 and isinstance(shape[0], (str, type, dtypes.DType, np.dtype)):
            (dtype,), shape = shape, ()
        if dtype is not None:
            return _reinterpreted(self, dtypes.as_dtype(dtype))
        return core.view(self, _shape(shape) if shape else self.shape)

    def permute(self, *axes: Any) -> Tensor:
        """The axes in another order."""
        return core.permute_dims(self, _shape(axes))

    def transpose(self, *axes: Any) -> Tensor:
        """NumPy's: the axes in the given order, or reversed. With two integers on a tensor of more than two axes,
        PyTorch's: those two swapped."""
        if not axes:
            return core.permute_dims(self)
        if len(axes) == 2 and all(isinstance(a, int) for a in axes):
            return core.swapaxes(self, *axes)
        return core.permute_dims(self, _shape(axes))

    def expand(self, *shape: Any) -> Tensor:
        """A view with extents of 1 (and new leading axes) repeated; -1 keeps an extent."""
        return core.expand(self, _shape(shape))

    def unsqueeze(self, dim: int) -> Tensor:
        """A new axis of extent 1 at `dim`."""
        return core.expand_dims(self, dim)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """PyTorch's: pieces of that many slices along `dim` (the last may be smaller), or of these sizes. NumPy's, into
        so many pieces, is `ts.split`.
        """
        if isinstance(split_size, (tuple, list)):
            return core.split(self, split_size, dim)
        size = _whole("split: the size of the pieces", split_size)
        if size < 1:
            raise ValueError(f"split: the size of the pieces must be >= 1, got {size}")
        return self._pieces("split", dim, size)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of one size along `dim`; the last may be smaller."""
        count = _whole("chunk: the number of chunks", chunks)
        if count < 1:
            raise ValueError(f"chunk: the number of chunks must be >= 1, got {count}")
        return self._pieces("chunk", dim, None, count)

    def _pieces(self, name: str, dim: int, size: int | None, count: int = 1) -> tuple[Tensor, ...]:
        """Pieces of `size`, or of the size that makes `count`."""
        from tensorsmith.ops.manipulate import _axis

        extent = self.shape[_axis(name, dim, self.ndim)]
        if not extent:
            return core.split(self, [0] * count, dim)
        size = size or -(-extent // count)
        return core.split(self, [min(size, extent - i) for i in range(0, extent, size)], dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along `dim`, which they lose, as `ts.unstack`."""
        from tensorsmith.ops.manipulate import unstack

        return unstack(self, axis=dim)

    def size_of(self, dim: int) -> int:
        """The extent of one axis."""
        return int(self.shape[dim])

    def __len__(self) -> int:
        return _core.TensorBase.__len__(self)

    def __reversed__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self) - 1, -1, -1))

    def ravel(self) -> Tensor:
        """The elements in one dimension, a view where possible."""
        return core.reshape(self, (-1,))

    # --- NumPy's and PyTorch's methods of functions that Python puts together ------------------------

    def var(self, *args: Any, **kwargs: Any) -> Tensor:
        """The variance, as `ts.var`."""
        from tensorsmith.ops.reduce import var

        return var(self, *args, **kwargs)

    def std(self, *args: Any, **kwargs: Any) -> Tensor:
        """The standard deviation, as `ts.std`."""
        from tensorsmith.ops.reduce import std

        return std(self, *args, **kwargs)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Tensor:
        """Limited to [min, max]; None leaves that side open."""
        from tensorsmith.ops.elementwise import clip

        return clip(self, min, max, out)

    clamp = clip

    def round(self, decimals: int = 0, out: Any = None) -> Tensor:
        """The nearest multiple of 10^-decimals, as `ts.round`."""
        from tensorsmith.ops.elementwise import round

        return round(self, decimals, out)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Every element `repeats` times in a row, as `ts.repeat`."""
        from tensorsmith.ops.manipulate import repeat

        return repeat(self, repeats, axis)

    def nonzero(self) -> tuple[Tensor, ...]:
        """The coordinates of the elements that are not 0, as `ts.nonzero`."""
        from tensorsmith.ops.index import nonzero

        return nonzero(self)

    def tobytes(self) -> bytes:
        """The elements in row-major order."""
        return _words(self).tobytes()

    # --- conversions ------------------------------------------------------------------------------

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Tensor:
        """Another dtype and/or device, or those of another tensor: `x.to(ts.float64)`, `x.to("cuda")`, `x.to(y)`;
        itself where nothing changes, unless `copy`. `non_blocking` is taken and changes nothing.
        """
        for a in args:
            if isinstance(a, str) and a.split(":")[0] in ("cpu", "cuda"):
                device = a
            elif isinstance(a, Tensor):
                dtype, device = a.dtype, a.device
            else:
                dtype = a
        x = self if device is None else _moved(self, device)
        x = x if dtype is None else _cast(x, dtype)
        return core.copy(x) if copy and x is self else x

    def cpu(self) -> Tensor:
        """On the CPU; itself where it is there already."""
        return _moved(self, "cpu")

    def cuda(self) -> Tensor:
        """On the GPU; itself where it is there already. RuntimeError with the reason where there is none."""
        return _moved(self, "cuda")

    def type_as(self, other: Tensor) -> Tensor:
        """In the dtype of `other`."""
        return _cast(self, other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return _cast(self, dtypes.float32)

    def double(self) -> Tensor:
        """As float64."""
        return _cast(self, dtypes.float64)

    def half(self) -> Tensor:
        """As float16."""
        return _cast(self, dtypes.float16)

    def bfloat16(self) -> Tensor:
        """As bfloat16."""
        return _cast(self, dtypes.bfloat16)

    def long(self) -> Tensor:
        """As int64."""
        return _cast(self, dtypes.int64)

    def int(self) -> Tensor:
        """As int32."""
        return _cast(self, dtypes.int32)

    def bool(self) -> Tensor:
        """As bool."""
        return _cast(self, dtypes.bool_)

    # --- in place ---------------------------------------------------------------------------------

    def fill_(self, value: Any) -> Tensor:
        """Every element becomes `value`."""
        return core.copy_(self, value)

    def zero_(self) -> Tensor:
        """Every element becomes 0."""
        return core.copy_(self, 0)

    def add_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Adds alpha times `other` in place."""
        return core.add_(self, other if _is_one(alpha) else core.multiply(other, alpha))

    def sub_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Subtracts alpha times `other` in place."""
        return core.subtract_(self, other if _is_one(alpha) else core.multiply(other, alpha))

    def addcmul_(self, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
        """Adds value * tensor1 * tensor2 in place."""
        return self.add_(core.multiply(tensor1, tensor2), alpha=value)

    def addcdiv_(self, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
        """Adds value * tensor1 / tensor2 in place."""
        return self.add_(core.divide(tensor1, tensor2), alpha=value)

    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        """`value` where mask, which broadcasts to this tensor, is True; in place."""
        return core.copy_(self, self.masked_fill(mask, value))

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """Limits the elements to [min, max] in place."""
        if min is None:
            return self if max is None else core.minimum_(self, max)
        return core.maximum_(self, min) if max is None else core.clip_(self, min, max)


def _reinterpreted(x: Tensor, dtype: dtypes.DType) -> Tensor:
    """`x.view(dtype)`. A gradient cannot go through, and only a bool's bytes are a bool's."""
    if x.dtype == dtype:
        return core.view(x, x.shape)
    if x.dtype.itemsize != dtype.itemsize or dtype == "bool":
        raise TypeError(f"view: {x.dtype} is not seen as {dtype}; other dtypes of its size are")
    if x.requires_grad and _core.is_grad_enabled():
        raise RuntimeError(f"view: {dtype} would lose the gradient of {x.dtype}; use .detach() first")
    return core.bitcast(x, dtype)


def _plain(x: Tensor) -> np.ndarray[Any, Any]:
    """NumPy's view of the memory, whatever the gradient."""
    words = _words(x)
    if x.dtype == "bfloat16":
        try:
            return words.view(x.dtype.dtype)
        except TypeError:
            raise TypeError(
                "NumPy has no bfloat16; install ml_dtypes, or convert with .astype(ts.float32) first"
            ) from None
    return words


def _words(x: Tensor) -> np.ndarray[Any, Any]:
    """`_plain`, bfloat16 as uint16."""
    x = x.detach().cpu()
    return np.asarray(memoryview(core.bitcast(x, "uint16") if x.dtype == "bfloat16" else x))


def _numbers(x: Tensor) -> np.ndarray[Any, Any]:
    """The values for Python to read and print: bfloat16 as float32, with ml_dtypes or without."""
    return _plain(core.astype(x.detach(), "float32") if x.dtype == "bfloat16" else x)


def _rebuild(array: np.ndarray[Any, Any], requires_grad: bool, device: str = "cpu") -> Tensor:
    tensor: Tensor = Tensor(array).to(device).requires_grad_(requires_grad)
    return tensor


_core.install(Tensor, dtypes.ALL, dtypes.as_dtype)

# Operations whose first argument is the tensor, under the same name.
for _name in dir(core):
    if _name.startswith("_"):
        continue
    _first = getattr(core, _name)._parameters[:1]
    if _first in (("x",), ("a",)) and not hasattr(Tensor, _name):
        setattr(Tensor, _name, getattr(core, _name))

# PyTorch's names for the same operations.
for _alias, _name in {
    "abs": "absolute", "neg": "negative", "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power",
    "mul_": "multiply_", "div_": "divide_", "pow_": "power_", "neg_": "negative_",
    "clone": "copy", "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal",
    "gt": "greater", "ge": "greater_equal",
}.items():  # fmt: skip
    if hasattr(core, _name):
        setattr(Tensor, _alias, getattr(core, _name))
del _name, _alias, _first
