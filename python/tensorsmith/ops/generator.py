"""The source of random numbers: Philox4x32-10 (Salmon et al. 2011), counted by element.

A generator is three 64-bit integers, {seed, counter, stream}. Element i of a draw is a function of these and
of i, so it does not depend on threads, SIMD level or device; a draw moves the counter behind the numbers
that it used.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorsmith import _core
from tensorsmith.ops.creation import asarray

__all__: list[str] = []  # `tensorsmith.random` names what is public

_WORD = 2**64


def _integer(operation: str, name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{operation}: {name} must be an integer, got {type(value).__name__}")
    return int(value.__index__())


def _word(operation: str, name: str, value: Any) -> int:
    """An integer in [0, 2**64); negative seeds down to -2**63 are taken modulo 2**64, as in PyTorch."""
    number = _integer(operation, name, value)
    if not -(2**63) <= number < _WORD:
        raise ValueError(f"{operation}: {name} must be in [-2**63, 2**64), got {number}")
    return number % _WORD


class Generator:
    """A source of random numbers: `Generator(seed)`; without a seed, one from the operating system.

    Pass it as `generator=` to whatever draws. Two generators of one seed and different `stream` are
    independent.
    """

    __slots__ = ("_device", "_drawing", "_host", "_state")

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        number = None if seed is None else _word("Generator", "seed", seed)
        words = (number, 0, _word("Generator", "stream", stream))
        self._host = np.zeros(3, np.uint64)
        # The kernels' view of the same memory: a draw advances the counter there.
        self._state = asarray(self._host, device="cpu")
        # While the GPU draws, the state is there instead. Either memory stays where it is: recordings know it.
        self._device: Any = None
        self._drawing = False
        self._restart(words)

    def _restart(self, words: Sequence[int | None]) -> None:
        """Write {seed, counter, stream}; None: a seed from the operating system. A replay does so again."""
        if _core.capturing():
            _core.at_replay(functools.partial(self._restart, words))
        drawing = self._drawing
        number = int.from_bytes(os.urandom(8), "little") if words[0] is None else words[0]
        self._words[: len(words)] = number, *words[1:]
        if drawing and not _core.capturing():  # a replay's kernels draw where they did
            self._to_device()

    @property
    def _words(self) -> Any:
        self._to_host()
        return self._host

    def _to_host(self) -> None:
        if self._drawing:
            capture = _core.put_capture_aside()
            try:
                self._host[:] = self._device.cpu().numpy()
            finally:
                _core.take_capture_up(capture)
            self._drawing = False

    def _to_device(self) -> None:
        if self._drawing:
            return
        capture = _core.put_capture_aside()
        try:
            if self._device is None:
                self._device = self._state.to("cuda")
                # Recordings that draw on the CPU do not look for the state here: they are made anew.
                self._host = self._host.copy()
                self._state = asarray(self._host, device="cpu")
            else:
                self._device.copy_(self._host)
        finally:
            _core.take_capture_up(capture)
        self._drawing = True

    def on(self, device: str) -> Any:
        """The state where `device` can draw from it: the numbers are the same on every device."""
        there = device != "cpu"
        if there or self._device is not None:
            move, back = (self._to_device, self._to_host) if there else (self._to_host, self._to_device)
            if _core.capturing() and not _core.before_replay(move, back):
                raise RuntimeError(
                    "jit: random numbers are drawn on the CPU and on the GPU from one generator, which a recording "
                    "cannot follow; use two"
                )
            move()
        return self._device if there else self._state

    @property
    def state(self) -> Any:
        """The state on the CPU: uint64 {seed, counter, stream}."""
        return self.on("cpu")

    @property
    def seed(self) -> int:
        """The seed that it started from."""
        return int(self._read()[0])

    def manual_seed(self, seed: int) -> Generator:
        """Start again from this seed."""
        self._restart((_word("manual_seed", "seed", seed), 0))
        return self

    def _read(self) -> Any:
        # In a recording, an error: its replays would go on with the numbers of this step.
        return self._state.numpy() if _core.capturing() else self._words

    def get_state(self) -> dict[str, Any]:
        """What set_state needs to draw the same numbers again: {"algorithm", "seed", "counter", "stream"}."""
        seed, counter, stream = (int(word) for word in self._read())
        return {"algorithm": "philox4x32-10", "seed": seed, "counter": counter, "stream": stream}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of get_state. TypeError or ValueError for anything else; then nothing has
        changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"set_state: state must be a dict from get_state, got {type(state).__name__}")
        names = {"algorithm", "seed", "counter", "stream"}
        if set(state) != names:
            raise ValueError(
                f"set_state: state must have the keys {sorted(names)}, got {sorted(map(str, state))}"
            )
        if state["algorithm"] != "philox4x32-10":
            raise ValueError(f"set_state: algorithm must be 'philox4x32-10', got {state['algorithm']!r}")
        words = [_word("set_state", name, state[name]) for name in ("seed", "counter", "stream")]
        self._restart(words)

    if TYPE_CHECKING:  # the draws, which ops/variates.py adds

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        seed, counter, stream = (int(word) for word in self._words)
        return f"Generator(seed={seed}, counter={counter}, stream={stream})"


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Restart the default generator from this seed; returns it."""
    return default_generator.manual_seed(seed)


def get_state() -> dict[str, Any]:
    """The default generator's state: a dict of integers."""
    return default_generator.get_state()


def set_state(state: Mapping[str, Any]) -> None:
    """Give the default generator a state of get_state."""
    default_generator.set_state(state)


def _state(operation: str, generator: Generator | None, like: Any = None) -> Any:
    device = _core.device() if like is None else like.device
    if generator is None:
        return default_generator.on(device)
    if not isinstance(generator, Generator):
        raise TypeError(
            f"{operation}: generator must be a ts.random.Generator, got {type(generator).__name__}"
        )
    return generator.on(device)
