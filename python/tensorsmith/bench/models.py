"""Whole training steps (forward, backward, AdamW) of the models that the project's targets name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tensorsmith.bench.libraries import Thunk

BYTES = 256


@dataclass(frozen=True)
class Step:
    """One training step, for ours and for PyTorch, which share their layers' names."""

    name: str
    batch: tuple[int, ...]  # of the input
    model: Callable[[Any], Any]  # from the nn module
    flops: float  # of forward and backward
    classes: int = 10
    tokens: bool = False  # the input are class numbers, and each is to be answered by one
    jax: tuple[str, tuple[int, ...]] = ("", ())  # the same of jax_models.py, and its sizes


def _mlp(*widths: int) -> Callable[[Any], Any]:
    def model(nn: Any) -> Any:
        out: list[Any] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            out += [nn.ReLU()] * (i > 0) + [nn.Linear(a, b)]
        return nn.Sequential(*out)

    return model


def _cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 14 * 14, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def _resnet(blocks: int) -> Callable[[Any], Any]:
    """Three stages of so many blocks, for images of 32 x 32, as He et al. 2016; 3 blocks are the ResNet-20."""

    def model(nn: Any) -> Any:
        relu = nn.functional.relu

        class Block(nn.Module):  # type: ignore[misc]
            def __init__(self, inputs: int, width: int, stride: int) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
                self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
                self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
                self.shortcut = nn.Sequential()
                if stride > 1:
                    self.shortcut = nn.Sequential(
                        nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                    )

            def forward(self, x: Any) -> Any:
                y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
                return relu(y + self.shortcut(x))

        stages = [Block(16, 16, 1) for _ in range(blocks)]
        for width in (32, 64):
            stages += [Block(width // 2, width, 2), *(Block(width, width, 1) for _ in range(blocks - 1))]
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    return model


def gpt(layers: int, heads: int, width: int, length: int, vocabulary: int = BYTES) -> Callable[[Any], Any]:
    """A causal transformer, as Radford et al. 2019: norm first, GELU, the attention fused."""

    def model(nn: Any) -> Any:
        attend = nn.functional.scaled_dot_product_attention

        class Block(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
                self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
                self.join = nn.Linear(width, width)
                self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
                self.gelu = nn.GELU(approximate="tanh")

            def forward(self, x: Any) -> Any:
                h = self.norm1(x)
                q, k, v = (
                    w(h).reshape(-1, length, heads, width // heads).swapaxes(1, 2)
                    for w in (self.q, self.k, self.v)
                )
                y = attend(q, k, v, is_causal=True).swapaxes(1, 2).reshape(-1, length, width)
                x = x + self.join(y)
                return x + self.down(self.gelu(self.up(self.norm2(x))))

        class Gpt(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
                self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
                self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

            def forward(self, x: Any) -> Any:
                x = self.blocks(self.token(x) + self.position.weight)
                return self.head(self.norm(x)).reshape(-1, vocabulary)

        return Gpt()

    return model


def _lstm(inputs: int, units: int) -> Callable[[Any], Any]:
    def model(nn: Any) -> Any:
        class Lstm(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.token, self.lstm = nn.Embedding(BYTES, inputs), nn.LSTM(inputs, units, batch_first=True)
                self.head = nn.Linear(units, BYTES)

            def forward(self, x: Any) -> Any:
                return self.head(self.lstm(self.token(x))[0]).reshape(-1, BYTES)

        return Lstm()

    return model


def _gpt_flops(batch: int, layers: int, width: int, length: int) -> float:
    tokens = batch * length
    block = 2.0 * tokens * 12 * width * width
    attention = 2.0 * tokens * length * width  # of the half that is seen
    return 3 * (layers * block + 2.0 * tokens * width * BYTES) + 3.5 * layers * attention


def _mlp_flops(batch: int, *widths: int) -> float:
    products = [2.0 * batch * a * b for a, b in pairwise(widths)]
    return 3 * sum(products) - products[0]  # the input needs no gradient


_CNN_FLOPS = 64 * (2 * 2 * 784 * 32 * 9 + 3 * 2 * 784 * 64 * 288 + 3 * 2 * 12544 * 128 + 3 * 2 * 1280)
# Of one image: the first convolution, then stages at 32, 16 and 8 pixels. Backward is twice as much, except for
# the first convolution, whose input needs no gradient.
_RESNET_FORWARD = [
    2 * 1024 * 16 * 27,
    6 * 2 * 1024 * 16 * 144,
    2 * 256 * 32 * (144 + 16) + 5 * 2 * 256 * 32 * 288,
    2 * 64 * 64 * (288 + 32) + 5 * 2 * 64 * 64 * 576,
    2 * 640,
]
_RESNET_FLOPS = 32 * (3 * sum(_RESNET_FORWARD) - _RESNET_FORWARD[0])
STEPS = (
    Step(
        "MLP 784-512-256-10 b128",
        (128, 784),
        _mlp(784, 512, 256, 10),
        _mlp_flops(128, 784, 512, 256, 10),
        jax=("mlp", (784, 512, 256, 10)),
    ),
    Step(
        "MLP 64-32-10 b32", (32, 64), _mlp(64, 32, 10), _mlp_flops(32, 64, 32, 10), jax=("mlp", (64, 32, 10))
    ),
    Step("CNN conv32-conv64-pool-fc128-fc10 b64", (64, 1, 28, 28), _cnn, float(_CNN_FLOPS), jax=("cnn", ())),
    Step("ResNet-20 b32", (32, 3, 32, 32), _resnet(3), float(_RESNET_FLOPS), jax=("resnet", (3,))),
    Step(
        "GPT 4 layers, 4 heads, width 128, 12x64",
        (12, 64),
        gpt(4, 4, 128, 64),
        _gpt_flops(12, 4, 128, 64),
        BYTES,
        True,
        ("gpt", (4, 4, 128, 64)),
    ),
    Step(
        "GPT 6 layers, 6 heads, width 384, 8x256",
        (8, 256),
        gpt(6, 6, 384, 256),
        _gpt_flops(8, 6, 384, 256),
        BYTES,
        True,
        ("gpt", (6, 6, 384, 256)),
    ),
    Step(
        "LSTM 128->256, 32x64",
        (32, 64),
        _lstm(128, 256),
        3 * 2.0 * 32 * 64 * (4 * 256 * (128 + 256) + 256 * BYTES),
        BYTES,
        True,
        ("lstm", (128, 256)),
    ),
)


def data(step: Step) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if step.tokens:
        text = rng.integers(0, step.classes, (step.batch[0], step.batch[1] + 1))
        return text[:, :-1].copy(), text[:, 1:].reshape(-1)
    return rng.standard_normal(step.batch, np.float32), rng.integers(0, step.classes, step.batch[0])


def ours(step: Step, autocast: bool = False, device: str = "cpu", recorded: bool = False) -> Thunk:
    import tensorsmith as ts
    from tensorsmith import nn, optim
    from tensorsmith.nn import functional as F

    ts.manual_seed(0)
    model = step.model(nn).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    x, t = (ts.asarray(a, device=device) for a in data(step))

    def forward() -> Any:
        return F.cross_entropy(model(x), t)

    loss = ts.autocast()(forward) if autocast else forward

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return ts.jit(run) if recorded else run


def torch_step(step: Step, compiled: bool = False, autocast: bool = False, device: str = "cpu") -> Thunk:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model: Any = step.model(nn).to(device)
    x, t = (torch.from_numpy(a).to(device) for a in data(step))
    if x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    if compiled:
        model = torch.compile(model)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            loss: Any = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()

    return run
