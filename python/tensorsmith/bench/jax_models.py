"""The training steps of models.py for JAX, by hand: parameters are a tree, a step is one jitted function that gives the
tree of the next, its memory donated. Images are channels last, as XLA likes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from tensorsmith.bench.libraries import Thunk
from tensorsmith.bench.models import BYTES, Step, data

# forward(parameters, state, x) -> logits, state; `state` are running statistics.
Forward = Callable[[Any, Any, Any], tuple[Any, Any]]
Made = tuple[Any, Any, Forward]  # parameters, state, forward


class _Maker:
    """Layers: their initial parameters, uniform within 1 / sqrt(fan in), and what they compute."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def uniform(self, fan_in: int, *shape: int) -> Any:
        import jax.numpy as jnp

        bound = 1 / math.sqrt(fan_in)
        return jnp.asarray(self._rng.uniform(-bound, bound, shape).astype(np.float32))

    def linear(self, a: int, b: int) -> Any:
        return {"w": self.uniform(a, a, b), "b": self.uniform(a, b)}

    def conv(self, size: int, inputs: int, outputs: int, bias: bool = False) -> Any:
        fan_in = size * size * inputs
        p = {"w": self.uniform(fan_in, size, size, inputs, outputs)}
        return p | {"b": self.uniform(fan_in, outputs)} if bias else p

    def norm(self, width: int) -> Any:
        import jax.numpy as jnp

        return {"w": jnp.ones(width), "b": jnp.zeros(width)}


def _linear(p: Any, x: Any) -> Any:
    return x @ p["w"] + p["b"]


def _conv(p: Any, x: Any, stride: int = 1) -> Any:
    from jax import lax

    pad = p["w"].shape[0] // 2
    y = lax.conv_general_dilated(
        x, p["w"], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + p["b"] if "b" in p else y


def _layer_norm(p: Any, x: Any) -> Any:
    from jax import lax

    mean = x.mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * p["w"] + p["b"]


def _batch_norm(p: Any, running: Any, x: Any) -> tuple[Any, Any]:
    from jax import lax

    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    unbiased = x.size / x.shape[-1] / (x.size / x.shape[-1] - 1)
    running = {"mean": 0.9 * running["mean"] + 0.1 * mean, "var": 0.9 * running["var"] + 0.1 * var * unbiased}
    return (x - mean) * lax.rsqrt(var + 1e-5) * p["w"] + p["b"], running


def mlp(*widths: int) -> Made:
    import jax

    make = _Maker()
    layers = [make.linear(a, b) for a, b in pairwise(widths)]

    def forward(p: Any, state: Any, x: Any) -> tuple[Any, Any]:
        for i, layer in enumerate(p):
            x = _linear(layer, jax.nn.relu(x) if i else x)
        return x, state

    return layers, (), forward


def cnn() -> Made:
    import jax
    from jax import lax

    make = _Maker()
    p = {
        "conv1": make.conv(3, 1, 32, True),
        "conv2": make.conv(3, 32, 64, True),
        "fc1": make.linear(64 * 14 * 14, 128),
        "fc2": make.linear(128, 10),
    }

    def forward(p: Any, state: Any, x: Any) -> tuple[Any, Any]:
        x = jax.nn.relu(_conv(p["conv2"], jax.nn.relu(_conv(p["conv1"], x))))
        x = lax.reduce_window(x, -math.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return _linear(p["fc2"], jax.nn.relu(_linear(p["fc1"], x.reshape(len(x), -1)))), state

    return p, (), forward


def resnet(blocks: int) -> Made:
    import jax
    import jax.numpy as jnp

    make = _Maker()

    def running(width: int) -> Any:
        return {"mean": jnp.zeros(width), "var": jnp.ones(width)}

    shapes = [(16, 16, 1)] * blocks
    for width in (32, 64):
        shapes += [(width // 2, width, 2)] + [(width, width, 1)] * (blocks - 1)
    p: dict[str, Any] = {"conv": make.conv(3, 3, 16), "norm": make.norm(16), "blocks": []}
    state: dict[str, Any] = {"norm": running(16), "blocks": []}
    for a, b, stride in shapes:
        block = {
            "conv1": make.conv(3, a, b),
            "conv2": make.conv(3, b, b),
            "n1": make.norm(b),
            "n2": make.norm(b),
        }
        if stride > 1:
            block |= {"short": make.conv(1, a, b), "n3": make.norm(b)}
        p["blocks"].append(block)
        state["blocks"].append({name: running(b) for name in block if name.startswith("n")})
    p["fc"] = make.linear(64, 10)

    def forward(p: Any, state: Any, x: Any) -> tuple[Any, Any]:
        x, first = _batch_norm(p["norm"], state["norm"], _conv(p["conv"], x))
        x, seen = jax.nn.relu(x), []
        for (_, _, stride), q, s in zip(shapes, p["blocks"], state["blocks"], strict=True):
            new = {}
            y, new["n1"] = _batch_norm(q["n1"], s["n1"], _conv(q["conv1"], x, stride))
            y, new["n2"] = _batch_norm(q["n2"], s["n2"], _conv(q["conv2"], jax.nn.relu(y)))
            if stride > 1:
                x, new["n3"] = _batch_norm(q["n3"], s["n3"], _conv(q["short"], x, stride))
            x = jax.nn.relu(x + y)
            seen.append(new)
        return _linear(p["fc"], x.mean((1, 2))), {"norm": first, "blocks": seen}

    return p, state, forward


def gpt(layers: int, heads: int, width: int, length: int) -> Made:
    import jax

    make = _Maker()

    def block() -> Any:
        names = {name: make.linear(width, width) for name in ("q", "k", "v", "join")}
        ends = {"up": make.linear(width, 4 * width), "down": make.linear(4 * width, width)}
        return names | ends | {"n1": make.norm(width), "n2": make.norm(width)}

    p = {
        "token": make.uniform(1, BYTES, width),
        "position": make.uniform(1, length, width),
        "blocks": [block() for _ in range(layers)],
        "norm": make.norm(width),
        "head": make.linear(width, BYTES),
    }

    def forward(p: Any, state: Any, x: Any) -> tuple[Any, Any]:
        x = p["token"][x] + p["position"]
        for q in p["blocks"]:
            h = _layer_norm(q["n1"], x)
            parts = (_linear(q[name], h).reshape(-1, length, heads, width // heads) for name in "qkv")
            y = jax.nn.dot_product_attention(*parts, is_causal=True)
            x = x + _linear(q["join"], y.reshape(-1, length, width))
            x = x + _linear(
                q["down"], jax.nn.gelu(_linear(q["up"], _layer_norm(q["n2"], x)), approximate=True)
            )
        return _linear(p["head"], _layer_norm(p["norm"], x)).reshape(-1, BYTES), state

    return p, (), forward


def lstm(inputs: int, units: int) -> Made:
    import jax
    import jax.numpy as jnp
    from jax import lax

    make = _Maker()
    p = {
        "token": make.uniform(1, BYTES, inputs),
        "input": make.linear(inputs, 4 * units),
        "hidden": make.linear(units, 4 * units),
        "head": make.linear(units, BYTES),
    }

    def forward(p: Any, state: Any, x: Any) -> tuple[Any, Any]:
        gates = _linear(p["input"], p["token"][x]).swapaxes(0, 1)  # of all steps at once

        def advance(carry: Any, part: Any) -> tuple[Any, Any]:
            h, c = carry
            i, f, g, o = jnp.split(part + _linear(p["hidden"], h), 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[0], units))
        y = lax.scan(advance, (zeros, zeros), gates)[1].swapaxes(0, 1)
        return _linear(p["head"], y).reshape(-1, BYTES), state

    return p, (), forward


def jax_step(step: Step) -> Thunk:
    import jax
    import jax.numpy as jnp

    make, sizes = step.jax
    parameters, running, forward = globals()[make](*sizes)
    x, t = data(step)
    if x.ndim == 4:
        x = x.transpose(0, 2, 3, 1).copy()
    inputs, targets = jnp.asarray(x), jnp.asarray(t)

    def loss(p: Any, state: Any) -> tuple[Any, Any]:
        logits, state = forward(p, state, inputs)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], 1).mean(), state

    def adamw(p: Any, g: Any, m: Any, v: Any, count: Any) -> tuple[Any, Any, Any]:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        root = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
        return p * (1 - 1e-3 * 0.01) - 1e-3 * (m / (1 - 0.9**count)) / root, m, v

    def advance(p: Any, m: Any, v: Any, count: Any, state: Any) -> tuple[Any, ...]:
        (value, state), g = jax.value_and_grad(loss, has_aux=True)(p, state)
        count = count + 1
        leaves, tree = jax.tree.flatten(p)
        gs, ms, vs = (jax.tree.leaves(part) for part in (g, m, v))
        new = [adamw(a, b, c, d, count) for a, b, c, d in zip(leaves, gs, ms, vs, strict=True)]
        p, m, v = (jax.tree.unflatten(tree, part) for part in zip(*new, strict=True))
        return value, p, m, v, count, state

    compiled = jax.jit(advance, donate_argnums=(0, 1, 2, 3, 4))
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    held = [(parameters, *zeros, jnp.zeros(()), running)]

    def run() -> None:
        _, *rest = jax.block_until_ready(compiled(*held[0]))
        held[0] = tuple(rest)

    return run
