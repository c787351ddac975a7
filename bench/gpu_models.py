"""Whole training steps on the GPU (forward, backward, AdamW), ours beside PyTorch's, in one process.

python bench/gpu_models.py [--compile] [--only NAMES] [--json FILE] [--profile FILE]; sizes over --scale for a check on
the host. A mode is how products of float32 are computed: ieee, tf32, or bfloat16 by autocast. Best of 5 batches of
calls; `jit` is ts.jit, whose recording is a CUDA graph. --only takes several beginnings of names, separated by commas.
--compile adds torch.compile, which takes most of a minute for each; --profile lists each step's kernels by time.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpu import best_seconds

import tensorsmith as ts
from tensorsmith.bench.models import STEPS, Step, gpt, ours, torch_step

try:
    import torch
except ImportError:
    torch = None


def resnet50(nn: Any) -> Any:
    """He et al. 2016, for 224 x 224, with the stride in the 3 x 3 convolution."""

    class Bottleneck(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(n) for n in (width, width, 4 * width))
            self.shortcut = nn.Sequential()
            if inputs != 4 * width:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
                )

        def forward(self, x: Any) -> Any:
            relu = nn.functional.relu
            y = relu(self.norm1(self.conv1(x)))
            y = self.norm3(self.conv3(relu(self.norm2(self.conv2(y)))))
            return relu(y + self.shortcut(x))

    blocks, inputs = [], 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(count):
            blocks.append(Bottleneck(inputs, width, 2 if i == 0 and width > 64 else 1))
            inputs = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2048, 1000),
    )


def steps(scale: int) -> Iterator[tuple[Step, float]]:
    """Each with what it gets through: tokens or images."""
    length, width, vocabulary = 1024 // scale, 768 // scale, 50304 // scale
    layers, batch, size = max(1, 12 // scale), max(1, 8 // scale), 224 // min(scale, 7)
    yield (
        Step("GPT-2 124M", (batch, length), gpt(layers, 12, width, length, vocabulary), 0, vocabulary, True),
        batch * length,
    )
    yield Step("ResNet-50", (max(2, 64 // scale), 3, size, size), resnet50, 0, 1000), max(2, 64 // scale)
    for step in STEPS:
        if step.name.startswith(("MLP 64", "CNN", "GPT 6")):
            yield step, step.batch[0] * (step.batch[1] if step.tokens else 1)


def ours_in(mode: Any, step: Step, jit: bool) -> Callable[[], Any]:
    run = ours(step, mode == "bfloat16", "cuda")
    call = ts.jit(run) if jit else run

    def timed() -> None:
        ts.cuda.set_matmul_precision(mode)
        call()
        ts.cuda.set_matmul_precision("ieee")

    return timed


def theirs_in(mode: str, step: Step, compiled: bool) -> Callable[[], Any]:
    run = torch_step(step, compiled, mode == "bfloat16", "cuda")

    def timed() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = mode == "tf32"
        run()

    return timed


def listing(call: Callable[[], Any], wait: Callable[[], None], most: int = 40) -> list[str]:
    """The kernels of a call by their time, as PyTorch's profiler sees them: microseconds, launches, name."""
    from torch.profiler import ProfilerActivity, profile

    call()
    wait()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
        wait()
    times: dict[str, list[float]] = {}
    for event in found.events():
        if event.device_type.name == "CUDA":
            times.setdefault(event.name, []).append(event.time_range.elapsed_us())
    rows = sorted(times.items(), key=lambda row: -sum(row[1]))
    whole = sum(sum(each) for each in times.values())
    lines = [f"{whole:>10.1f} us in {sum(map(len, times.values()))} launches"]
    return lines + [f"{sum(each):>10.1f} {len(each):>5}  {name[:300]}" for name, each in rows[:most]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="steps whose name begins so")
    parser.add_argument("--modes", default="ieee,tf32,bfloat16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="where each step's kernels and their times are listed")
    options = parser.parse_args()
    rows = []
    for step, work in steps(options.scale):
        if not step.name.startswith(tuple(options.only.split(","))):
            continue
        for mode in options.modes.split(","):
            calls = {
                "tensorsmith": (lambda s=step, m=mode: ours_in(m, s, False), ts.cuda.synchronize),
                "tensorsmith jit": (lambda s=step, m=mode: ours_in(m, s, True), ts.cuda.synchronize),
            }
            if torch is not None and torch.cuda.is_available():
                calls["torch"] = lambda s=step, m=mode: theirs_in(m, s, False), torch.cuda.synchronize
                if options.compile:
                    calls["torch.compile"] = (
                        lambda s=step, m=mode: theirs_in(m, s, True),
                        torch.cuda.synchronize,
                    )
            for who, (make, wait) in calls.items():
                try:
                    call = make()
                    call()
                    seconds = best_seconds(call, wait)
                    if options.profile and not who.endswith(("jit", "compile")):
                        with options.profile.open("a") as kept:
                            kept.write("\n".join([f"# {step.name}, {mode}, {who}", *listing(call, wait), ""]))
                except Exception as error:  # one that fails must not cost the others
                    print(f"{step.name:<42}{mode:<10}{who:<16}{type(error).__name__}: {error}", flush=True)
                    continue
                finally:
                    call = None
                    gc.collect()
                    ts.cuda.empty_cache()
                    if torch is not None and torch.cuda.is_available():
                        torch.cuda.empty_cache()
                unit = "tokens/s" if step.tokens else "images/s"
                print(
                    f"{step.name:<42}{mode:<10}{who:<16}{seconds * 1e3:>10.3f} ms {work / seconds:>12.0f} {unit}",
                    flush=True,
                )
                rows.append({"step": step.name, "mode": mode, "library": who, "ms": seconds * 1e3,
                             "rate": work / seconds, "unit": unit})  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
