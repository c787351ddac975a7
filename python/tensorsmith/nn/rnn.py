"""`RNN`, `LSTM`, `GRU` and their cells, with PyTorch's parameter names, gate order and shapes.

T steps, N sequences, I inputs, H units, G gates, L layers, D directions: weight_ih_l0 (G H, I), weight_hh_l0 (G H, H),
bias_ih_l0 and bias_hh_l0 (G H), the next layers l1 ... with D H inputs, the backward direction's with "_reverse".
"""

from __future__ import annotations

import math
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks, init
from tensorsmith.nn.module import Module
from tensorsmith.nn.parameter import Parameter
from tensorsmith.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from tensorsmith.tensor import Tensor

_GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}


class RNNBase(Module):
    """What the three share. `mode`: "tanh", "relu", "lstm" or "gru"."""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.mode = mode
        self.input_size = _checks.integer(name, "input_size", input_size)
        self.hidden_size = _checks.integer(name, "hidden_size", hidden_size)
        self.num_layers = _checks.integer(name, "num_layers", num_layers)
        _checks.only(name, "proj_size", proj_size, 0)
        self.proj_size = 0
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = _checks.probability(name, "dropout", dropout)
        self.bidirectional = bidirectional
        rows = _GATES[mode] * self.hidden_size
        directions = 2 if bidirectional else 1
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else directions * self.hidden_size
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, width), "weight_hh": (rows, self.hidden_size)
                }  # fmt: skip
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for key, shape in shapes.items():
                    self.register_parameter(key + suffix, Parameter(ts.empty(shape, dtype=dtype)))
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}"] + [f"_l{layer}_reverse"] * self.bidirectional

    def reset_parameters(self) -> None:
        """Draw new parameters: uniform in +-1/sqrt(hidden_size), as in PyTorch."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: the weights are packed at every call. It is here for code that calls PyTorch's."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """input (T, N, I), (N, T, I) with batch_first, (T, I), or a PackedSequence; hx: h_0 (D L, N, H), zeros unless
        given. Returns the output (T, N, D H) of the last layer, arranged as the input, and h_n."""
        name = type(self).__name__
        lengths = None
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None:
            x, lengths = pad_packed_sequence(packed._replace(sorted_indices=None, unsorted_indices=None))
        else:
            _checks.tensor_rank(name, tuple(input.shape), (2, 3), "(T, I) or batched")
            x = input
        batched = x.ndim == 3
        if not batched:
            x = ops.expand_dims(x, 1)
        elif self.batch_first and packed is None:
            x = ops.swapaxes(x, 0, 1)
        if x.shape[2] != self.input_size:
            raise ValueError(f"{name}: input has {x.shape[2]} features, but input_size is {self.input_size}")
        states = self._states(hx, x, batched, packed)
        y: Any
        y, ends = self._layers(x, states, None if lengths is None else lengths.to(device=x.device))
        ends = [ops.stack(e, 0) for e in ends]
        if packed is not None:
            if packed.unsorted_indices is not None:
                ends = [ops.take(e, packed.unsorted_indices, 1) for e in ends]
            assert lengths is not None
            data = pack_padded_sequence(y, lengths).data
            y = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        elif not batched:
            y, ends = ops.squeeze(y, 1), [ops.squeeze(e, 1) for e in ends]
        elif self.batch_first:
            y = ops.swapaxes(y, 0, 1)
        return y, tuple(ends) if self.mode == "lstm" else ends[0]

    def _states(self, hx: Any, x: Tensor, batched: bool, packed: PackedSequence | None) -> list[Tensor]:
        """h_0 and, for LSTM, c_0: (D L, N, H)."""
        name, count = type(self).__name__, 2 if self.mode == "lstm" else 1
        directions = 2 if self.bidirectional else 1
        shape = (directions * self.num_layers, x.shape[1], self.hidden_size)
        if hx is None:
            return [ops.zeros(shape, dtype=x.dtype, device=x.device)] * count
        given = list(hx) if self.mode == "lstm" else [hx]
        if len(given) != count:
            raise ValueError(f"{name}: hx must be a pair (h_0, c_0), got {len(given)} tensors")
        if not batched:
            given = [ops.expand_dims(h, 1) if getattr(h, "ndim", 0) == 2 else h for h in given]
        for h in given:
            if _checks.tensor(name, h, "hx") != shape:
                raise ValueError(f"{name}: hx must have shape {shape}, got {tuple(h.shape)}")
        if packed is not None and packed.sorted_indices is not None:
            given = [ops.take(h, packed.sorted_indices, 1) for h in given]
        return given

    def _layers(
        self, x: Tensor, states: list[Tensor], lengths: Tensor | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        ends: list[list[Tensor]] = [[] for _ in states]
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = ops.dropout(x, self.dropout)
            ys = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                weights = [
                    getattr(self, key + suffix) if self.bias or key[0] == "w" else None
                    for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                ]
                starts = [s[len(ends[0])] for s in states]
                y, *last = ops.recurrent(
                    x,
                    *weights,
                    *(starts if len(starts) == 2 else [starts[0], None]),
                    lengths,
                    self.mode,
                    direction == 1,
                )
                ys.append(y)
                for end, value in zip(ends, last):
                    end.append(value)
            x = ys[0] if len(ys) == 1 else ops.concat(ys, 2)
        return x, ends

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        return text + "".join(
            f", {k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v
        )


class RNN(RNNBase):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) (Elman 1990), or relu instead of tanh."""

    def __init__(self, *args: Any, nonlinearity: str = "tanh", **kwargs: Any) -> None:
        if len(args) > 3:  # PyTorch takes it as the fourth by position
            nonlinearity, args = args[3], args[:3] + args[4:]
        self.nonlinearity = _checks.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(nonlinearity, *args, **kwargs)


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber 1997): gates i, f, g, o; hx is (h_0, c_0), and so is the second
    result."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("lstm", *args, **kwargs)


class GRU(RNNBase):
    """The gated recurrent unit (Cho et al. 2014): gates r, z, n, the reset applied behind the product."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("gru", *args, **kwargs)


class _Cell(Module):
    """One step. weight_ih (G H, I), weight_hh (G H, H), bias_ih and bias_hh (G H)."""

    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.mode = mode
        self.input_size = _checks.integer(name, "input_size", input_size)
        self.hidden_size = _checks.integer(name, "hidden_size", hidden_size)
        self.bias = bias
        rows = _GATES[mode] * self.hidden_size
        self.weight_ih = Parameter(ts.empty((rows, self.input_size), dtype=dtype))
        self.weight_hh = Parameter(ts.empty((rows, self.hidden_size), dtype=dtype))
        for key in ("bias_ih", "bias_hh"):
            self.register_parameter(key, Parameter(ts.empty((rows,), dtype=dtype)) if bias else None)
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw new parameters: uniform in +-1/sqrt(hidden_size), as in PyTorch."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """input (N, I) or (I); hx (N, H), for LSTMCell the pair (h, c), zeros unless given. The next state."""
        name, shape = type(self).__name__, (*input.shape[:-1], self.hidden_size)
        _checks.tensor_rank(name, tuple(input.shape), (1, 2), "(I) or (N, I)")
        count = 2 if self.mode == "lstm" else 1
        states = (
            [ops.zeros(shape, dtype=input.dtype, device=input.device)] * count
            if hx is None
            else list(hx)
            if count == 2
            else [hx]
        )
        if len(states) != count:
            raise ValueError(f"{name}: hx must be a pair (h, c), got {len(states)} tensors")
        for state in states:
            if _checks.tensor(name, state, "hx") != shape:
                raise ValueError(f"{name}: hx must have shape {shape}, got {tuple(state.shape)}")
        rows = [ops.reshape(s, (-1, self.hidden_size)) for s in states]
        x = ops.reshape(input, (1, -1, input.shape[-1]))
        _, *ends = ops.recurrent(
            x, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, *(rows if count == 2 else [rows[0], None]),
            None, self.mode,
        )  # fmt: skip
        ends = [ops.reshape(e, shape) for e in ends[:count]]
        return tuple(ends) if count == 2 else ends[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.nonlinearity = _checks.choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(nonlinearity, input_size, hidden_size, bias, device, dtype)


class LSTMCell(_Cell):
    """One step of LSTM: (h', c') from x and (h, c)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """One step of GRU: h' from x and h."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)
