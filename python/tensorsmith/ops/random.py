"""Random numbers: Philox4x32-10 (Salmon et al. 2011), counted by element.

A generator is three 64-bit integers, {seed, counter, stream}. Element i of a draw is a function of these and
of i, so it does not depend on threads, SIMD level or device; a draw moves the counter behind the numbers
that it used. `tensorsmith.random` is this module's public face.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.autograd import define
from tensorsmith.ops.creation import asarray
from tensorsmith.tensor import Tensor

__all__: list[str] = []  # `tensorsmith.random` names what is public

_WORD = 2**64


def _word(operation: str, name: str, value: Any) -> int:
    """An integer in [0, 2**64); negative seeds down to -2**63 are taken modulo 2**64, as in PyTorch."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{operation}: {name} must be an integer, got {type(value).__name__}")
    number = value.__index__()
    if not -(2**63) <= number < _WORD:
        raise ValueError(f"{operation}: {name} must be in [-2**63, 2**64), got {number}")
    return int(number % _WORD)


class Generator:
    """A source of random numbers: `Generator(seed)`; without a seed, one from the operating system.

    Pass it as `generator=` to whatever draws. Two generators of one seed and different `stream` are
    independent.
    """

    __slots__ = ("_device", "_host", "_state")

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        number = secrets.randbits(64) if seed is None else _word("Generator", "seed", seed)
        self._host = np.array([number, 0, _word("Generator", "stream", stream)], np.uint64)
        # The kernels' view of the same memory: a draw advances the counter there.
        self._state = asarray(self._host, device="cpu")
        # While the GPU draws, the state is there instead.
        self._device: Any = None

    @property
    def _words(self) -> Any:
        if self._device is not None:
            self._host[:] = self._device.cpu().numpy()
            self._device = None
        return self._host

    def on(self, device: str) -> Any:
        """The state where `device` can draw from it: the numbers are the same on every device."""
        if device == "cpu":
            _ = self._words
            return self._state
        if self._device is None:
            self._device = self._state.to(device)
        return self._device

    @property
    def state(self) -> Any:
        """The state on the CPU: uint64 {seed, counter, stream}."""
        return self.on("cpu")

    @property
    def seed(self) -> int:
        """The seed that it started from."""
        return int(self._words[0])

    def manual_seed(self, seed: int) -> Generator:
        """Start again from this seed."""
        self._words[:2] = _word("manual_seed", "seed", seed), 0
        return self

    def get_state(self) -> dict[str, Any]:
        """What set_state needs to draw the same numbers again: {"algorithm", "seed", "counter", "stream"}."""
        seed, counter, stream = (int(word) for word in self._words)
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
        self._words[:] = words

    def __repr__(self) -> str:
        seed, counter, stream = (int(word) for word in self._words)
        return f"Generator(seed={seed}, counter={counter}, stream={stream})"


def _state(operation: str, generator: Generator | None, like: Any = None) -> Any:
    device = _core.device() if like is None else like.device
    if generator is None:
        return default_generator.on(device)
    if not isinstance(generator, Generator):
        raise TypeError(
            f"{operation}: generator must be a ts.random.Generator, got {type(generator).__name__}"
        )
    return generator.on(device)


def _shape(size: Any) -> Any:
    return () if size is None else size


# --- the default generator ------------------------------------------------------------------------

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


# --- draws ----------------------------------------------------------------------------------------

for _op, _doc in (
    (core.random_bits, "uint32: the generator's words themselves."),
    (core.random_uniform, "Uniform in [low, high), with 24 (float32) or 53 (float64) random bits."),
    (core.random_normal, "Normal by Box and Muller's transform."),
    (core.random_bernoulli, "True with probability p, to 2**-33."),
    (core.random_integers, "Integers in [low, high); bias below 2**-32."),
    (core.random_permutation, "0 ... n - 1 in random order (Fisher and Yates)."),
):
    define(_op, _doc + " `state` is a generator's uint64 {seed, counter, stream}.")
for _op in (core.uniform_, core.normal_, core.bernoulli_):
    define(_op, "The draw of the same name into x.", x=lambda dy: core.zeros_like(dy))


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Any = None,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Any:
    """Floats from [low, high), never `high`; shape `size` (None: 0-d), float32 by default.

    ValueError where low > high or a bound is not finite.
    """
    return core.random_uniform(_state("uniform", generator), _shape(size), low, high, dtype)


def random(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Floats from [0, 1)."""
    return core.random_uniform(_state("random", generator), _shape(size), 0.0, 1.0, dtype)


def normal(
    loc: float = 0.0,
    scale: float = 1.0,
    size: Any = None,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Any:
    """Normal numbers with mean `loc` and standard deviation `scale` >= 0."""
    return core.random_normal(_state("normal", generator), _shape(size), loc, scale, dtype)


def standard_normal(size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Normal numbers with mean 0 and standard deviation 1."""
    return core.random_normal(_state("standard_normal", generator), _shape(size), 0.0, 1.0, dtype)


def bernoulli(p: Any = 0.5, size: Any = None, generator: Generator | None = None) -> Any:
    """bool: True with probability p. p may be a tensor of probabilities, which then gives the shape."""
    state = _state("bernoulli", generator, p if isinstance(p, Tensor) else None)
    if isinstance(p, Tensor):
        if size is not None and tuple(np.atleast_1d(size)) != p.shape:
            raise ValueError(f"bernoulli: size {size} does not agree with p of shape {p.shape}")
        if p.size and not bool(core.all(core.logical_and(core.greater_equal(p, 0), core.less_equal(p, 1)))):
            raise ValueError("bernoulli: every p must be in [0, 1]")
        return core.less(core.random_uniform(state, p.shape, 0.0, 1.0, p.dtype), p)
    return core.random_bernoulli(state, _shape(size), p)


def integers(
    low: int,
    high: int | None = None,
    size: Any = None,
    endpoint: bool = False,
    generator: Generator | None = None,
) -> Any:
    """int64 from [low, high), or [low, high] with `endpoint`; one bound given is `high`, and `low` 0.

    ValueError where there is nothing to draw from.
    """
    if high is None:
        low, high = 0, low
    return core.random_integers(_state("integers", generator), _shape(size), low, high + bool(endpoint))


def permutation(x: Any, axis: int = 0, generator: Generator | None = None) -> Any:
    """0 ... x - 1 in random order, or for a tensor its slices along `axis` in random order."""
    state = _state("permutation", generator, x if isinstance(x, Tensor) else None)
    if isinstance(x, Tensor):
        return core.take(x, core.random_permutation(state, x.shape[axis]), axis)
    return core.random_permutation(state, x)


def uniform_(x: Any, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill x from [low, high); returns x."""
    return core.uniform_(x, _state("uniform_", generator, x), low, high)


def normal_(x: Any, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Any:
    """Fill x with normal numbers; returns x."""
    return core.normal_(x, _state("normal_", generator, x), mean, std)


def bernoulli_(x: Any, p: float = 0.5, *, generator: Generator | None = None) -> Any:
    """Fill x with 1 where a draw of probability p succeeds, 0 elsewhere; returns x."""
    return core.bernoulli_(x, _state("bernoulli_", generator, x), p)


for _method in (uniform_, normal_, bernoulli_):
    setattr(Tensor, _method.__name__, _method)
