"""The GPU: whether there is one, what it is, its memory, streams, graphs, and waiting for it.

`ts.zeros(3, device="cuda")`, `x.cuda()` and `module.to("cuda")` put data there; operations run where their operands
are, one after the other, while Python goes on. Reading a value (`item`, `cpu`, printing) waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, cast

from tensorsmith import _core
from tensorsmith._core import cuda as _cuda

__all__ = [
    "Event",
    "Graph",
    "Stream",
    "copy_async",
    "current_stream",
    "default_stream",
    "empty_cache",
    "get_device_name",
    "get_device_properties",
    "get_matmul_precision",
    "graph",
    "is_available",
    "is_pinned",
    "memory_stats",
    "pin_memory",
    "reset_peak_memory_stats",
    "set_matmul_precision",
    "stream",
    "synchronize",
    "why_not",
]

Precision = Literal["ieee", "split", "tf32", "bfloat16"]
_PRECISIONS = ("ieee", "split", "tf32", "bfloat16")  # in the order of MatmulPrecision


def is_available() -> bool:
    """Whether this build has CUDA kernels and this machine a GPU that runs them."""
    return bool(_cuda.state()[0])


def why_not() -> str | None:
    """The reason why the GPU is not available, or None."""
    available, reason = _cuda.state()
    return None if available else str(reason)


def synchronize() -> None:
    """Waits until the GPU has done all that it was given, on every stream. RuntimeError where a kernel failed."""
    _cuda.synchronize()


def memory_stats() -> dict[str, int]:
    """Bytes live, at most live, cached for reuse and taken from the system; blocks live; allocations so far; bytes of
    page-locked memory."""
    stats: dict[str, int] = _cuda.memory_stats()
    return stats


def reset_peak_memory_stats() -> None:
    """Counts `peak_bytes` from what is live now."""
    _cuda.reset_peak()


def empty_cache() -> None:
    """Returns cached memory to the system."""
    _cuda.empty_cache()


def get_device_properties() -> dict[str, Any]:
    """name, capability (major, minor), multiprocessors, memory, l2_cache and shared_memory in bytes; the CUDA
    versions of driver and runtime (1000 major + 10 minor)."""
    properties: dict[str, Any] = _cuda.properties()
    return properties


def get_device_name() -> str:
    """The GPU's name."""
    return str(_cuda.properties()["name"])


def set_matmul_precision(precision: Precision) -> None:
    """How float32 matrix products and convolutions are computed on the GPU from now on, in every thread.

    "ieee" (the default): in float32, every product and sum rounded once. "split": on the tensor cores, each operand
    as a sum of three bfloat16 numbers, with an error no larger than float32's; parts below 1e-38 are lost, and an
    infinity gives NaN. "tf32": operands rounded to 11 significant bits, as PyTorch's `allow_tf32`. "bfloat16":
    operands rounded to 8 bits, sums and results in float32; the fastest. GPUs before compute capability 8.0 compute
    all of them as "ieee". Convolutions of fewer than 8 channels a group, in or out, stay "ieee" where there are groups.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"set_matmul_precision: precision must be one of {_PRECISIONS}, got {precision!r}")
    _cuda.set_matmul_precision(_PRECISIONS.index(precision))


def get_matmul_precision() -> Precision:
    """What `set_matmul_precision` chose."""
    return cast(Precision, _PRECISIONS[_cuda.matmul_precision()])


class Event:
    """A point in a stream's work, to wait for or to measure from. enable_timing: `elapsed_time` is wanted."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._event = _cuda.Event(enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Marks what the stream (the current one by default) has been given so far."""
        self._event.record((stream or current_stream())._stream)

    def wait(self, stream: Stream | None = None) -> None:
        """What the stream is given later waits for the event; this thread does not."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether the GPU has passed it."""
        return bool(self._event.done())

    def synchronize(self) -> None:
        """Waits until the GPU has passed it."""
        self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another; both with enable_timing, and the later one passed."""
        return float(self._event.elapsed(end_event._event))


class Stream:
    """A queue of work: what one stream is given runs in order, different streams run beside each other.

    Tensors may be used on any stream; an order between streams is made by events (`wait_stream`). Memory is safe
    without: it is handed out again when every stream that may have used it has passed the point where it was freed.
    priority: negative for one whose kernels start first.
    """

    _stream: Any

    def __init__(self, priority: int = 0) -> None:
        self._stream = _cuda.Stream(priority < 0)

    @classmethod
    def _of(cls, handle: Any) -> Stream:
        stream = cls.__new__(cls)
        stream._stream = handle
        return stream

    def synchronize(self) -> None:
        """Waits until the stream is empty."""
        self._stream.synchronize()

    def query(self) -> bool:
        """Whether the stream is empty."""
        return bool(self._stream.done())

    def wait_event(self, event: Event) -> None:
        """What is given to this stream later waits for the event."""
        self._stream.wait(event._event)

    def wait_stream(self, stream: Stream) -> None:
        """What is given to this stream later waits for what the other has been given so far."""
        event = Event()
        event.record(stream)
        self.wait_event(event)

    def record_event(self, event: Event | None = None) -> Event:
        """Records an event (a fresh one by default) here, and returns it."""
        event = event or Event()
        event.record(self)
        return event

    @property
    def cuda_stream(self) -> int:
        """The driver's handle."""
        return int(self._stream.handle())

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.cuda_stream

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and bool(self._stream.same(other._stream))

    def __hash__(self) -> int:
        return hash(self.cuda_stream)


def current_stream() -> Stream:
    """The stream that this thread's work goes to."""
    return Stream._of(_cuda.current_stream())


def default_stream() -> Stream:
    """The stream that every thread begins with."""
    return Stream._of(_cuda.first_stream())


@contextlib.contextmanager
def stream(stream: Stream) -> Iterator[Stream]:
    """Within it, this thread's work goes to `stream`."""
    before = current_stream()
    stream._stream.set()
    try:
        yield stream
    finally:
        before._stream.set()


class Graph:
    """Work that was captured (see `graph`) and can be launched as one. Its memory is its own until it is deleted."""

    def __init__(self) -> None:
        self._graph = _cuda.Graph()

    def replay(self) -> None:
        """Launches it on the current stream: the same kernels on the same memory, whatever that holds now."""
        self._graph.launch()


@contextlib.contextmanager
def graph(graph: Graph) -> Iterator[Graph]:
    """Within it, what this thread gives its current stream is captured, and not run until `graph.replay()`.

    Tensors that are read or written must stay alive as long as the graph; change inputs in place. Reading a value
    within raises RuntimeError, and the capture is given up, as after any error.
    """
    graph._graph.begin()
    try:
        yield graph
    except BaseException:
        graph._graph.abandon()
        raise
    graph._graph.end()


def pin_memory(x: Any) -> Any:
    """x in page-locked memory of the host, which the GPU can copy from and to while Python goes on; x itself where it
    lies there already. ValueError for a tensor on the GPU."""
    return _core.ops.pin_memory(x)


def is_pinned(x: Any) -> bool:
    """Whether x lies in page-locked memory."""
    return bool(_cuda.is_pinned(x))


def copy_async(target: Any, x: Any) -> Any:
    """target[...] = x between page-locked memory and the GPU, on the current stream, without waiting.

    One is on "cpu" and pinned, the other on "cuda"; shapes, dtypes and memory orders agree. Until the stream is there
    (`Event.synchronize`), leave both alone on the host. Returns target. ValueError or TypeError where they do not fit.
    """
    return _core.ops.copy_async_(target, x)
