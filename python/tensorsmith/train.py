"""Training an image classifier from start to finish: what `tensorsmith train` runs.

    >>> result = run(Settings.default("digits", "cnn"))
    >>> result.accuracy
    0.99...

N images of H×W pixels with one channel, C classes, B images in a batch. Everything random is a function of
(seed, epoch, image), so a run that is stopped and resumed ends with the same bits as one that is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import nn
from tensorsmith.data.datasets import MNIST, Digits, FashionMNIST, IdxImages
from tensorsmith.errors import FileFormatError
from tensorsmith.nn import _checks
from tensorsmith.nn import functional as F
from tensorsmith.optim import AdamW
from tensorsmith.optim.lr_scheduler import OneCycleLR
from tensorsmith.serialize import load_checkpoint, save_checkpoint
from tensorsmith.utils.data import DataLoader, Dataset

__all__ = ["DATASETS", "MODELS", "Epoch", "Result", "Settings", "build", "run"]

DATASETS: dict[str, type[IdxImages]] = {d.name: d for d in (Digits, MNIST, FashionMNIST)}
VALIDATION = 12  # one training image in so many is kept for the validation loss
EVALUATION_BATCH = 500


# --- models ---


def mlp(size: tuple[int, int], classes: int, dropout: float) -> nn.Module:
    """Two hidden layers: 512 and 256 wide for 28×28 images, 64 and 32 for the small digits."""
    inputs = size[0] * size[1]
    wide, narrow = (512, 256) if inputs >= 256 else (64, 32)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, wide),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(wide, narrow),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(narrow, classes),
    )


def cnn(size: tuple[int, int], classes: int, dropout: float) -> nn.Module:
    """Two 3×3 convolutions with batch norm, each followed by pooling (the small digits pool once), and two
    linear layers.
    """
    pool_twice = min(size) >= 16
    shrink = 4 if pool_twice else 2
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        *([nn.MaxPool2d(2)] if pool_twice else []),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (size[0] // shrink) * (size[1] // shrink), 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, classes),
    )


MODELS: dict[str, Callable[[tuple[int, int], int, float], nn.Module]] = {"mlp": mlp, "cnn": cnn}


# --- settings ---


@dataclass(frozen=True)
class Settings:
    """What decides the outcome of a run, to the bit."""

    dataset: str
    model: str
    epochs: int
    batch_size: int
    lr: float  # the peak of a one-cycle schedule
    weight_decay: float
    dropout: float
    label_smoothing: float
    shift: int  # training images are moved by up to so many pixels
    flip: bool  # and mirrored, half of them
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for key, allowed in (("dataset", DATASETS), ("model", MODELS), ("device", ("cpu", "cuda"))):
            _checks.choice("Settings", key, getattr(self, key), tuple(allowed))
        for key, least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("seed", 0)):
            _checks.integer("Settings", key, getattr(self, key), least)
        for key in ("lr", "weight_decay"):
            if not _checks.at_least("Settings", key, getattr(self, key)) <= sys.float_info.max:
                raise ValueError(f"Settings: {key} must be a finite float, got {getattr(self, key)}")
        for key in ("dropout", "label_smoothing"):
            _checks.probability("Settings", key, getattr(self, key))
        _checks.choice("Settings", "flip", self.flip, (False, True))
        for key, bound in (("seed", 64), ("epochs", 31)):
            if getattr(self, key) >= 2**bound:
                raise ValueError(f"Settings: {key} must be less than 2^{bound}, got {getattr(self, key)}")

    @staticmethod
    def default(dataset: str, model: str) -> Settings:
        """What `tensorsmith train` runs where nothing else is asked for. ValueError for another dataset or model."""
        _checks.choice("Settings", "dataset", dataset, tuple(DATASETS))
        _checks.choice("Settings", "model", model, tuple(MODELS))
        return _DEFAULTS[dataset, model]

    def replace(self, **changes: Any) -> Settings:
        """These settings with some others, which are checked."""
        return dataclasses.replace(self, **changes)


_DEFAULTS = {
    (s.dataset, s.model): s
    for s in (
        #        dataset          model  epochs  batch  lr     decay  drop  smooth  shift  flip
        Settings("digits",        "cnn",     20,    32, 3e-3,  0.05,  0.3,  0.05,   1, False),
        Settings("digits",        "mlp",     40,    32, 4e-3,  0.05,  0.0,  0.05,   1, False),
        Settings("mnist",         "cnn",      6,   128, 3e-3,  0.05,  0.3,  0.05,   2, False),
        Settings("mnist",         "mlp",     10,   128, 2e-3,  0.05,  0.2,  0.05,   1, False),
        Settings("fashion-mnist", "cnn",     12,   128, 3e-3,  0.05,  0.5,  0.05,   0, True),
        Settings("fashion-mnist", "mlp",     12,   128, 1e-3,  0.05,  0.2,  0.05,   0, True),
    )
}  # fmt: skip


# --- data ---


class Images(Dataset[tuple[ts.Tensor, int]]):
    """A part of a dataset, normalised, that answers a whole batch at once.

    `batch(indices)` gives images (B, 1, H, W) float32 and labels (B,) int64. With `shift` or `flip`,
    the image at index i is moved as (seed, epoch, i) say, whatever batch it is in.
    """

    def __init__(
        self, data: np.ndarray, targets: np.ndarray, mean: float, std: float, settings: Settings | None = None
    ) -> None:
        # One lookup turns a byte into its normalised value; outside the picture it is 0, the background.
        self._value = ((np.arange(256) - mean) / std).astype(np.float32)
        self._targets = targets
        self._shift = settings.shift if settings else 0
        self._flip = bool(settings and settings.flip)
        self._seed = settings.seed if settings else 0
        edge = self._shift
        padded = np.pad(data, ((0, 0), (edge, edge), (edge, edge)))
        self._windows = np.lib.stride_tricks.sliding_window_view(
            padded,
            data.shape[1:],
            axis=(1, 2),
        )
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws this epoch's moves."""
        n, span = len(self._targets), 2 * self._shift + 1
        # The upper half of the keys; the lower half orders the images (utils/data/sampler.py).
        key = np.array([self._seed, epoch + (1 << 63)], np.uint64)
        bits = np.random.Philox(key=key).random_raw(n)
        self._mirrored = (bits & 1).astype(bool) & self._flip
        self._dy = ((bits >> 1) & 0xFFFF) % span
        self._dx = ((bits >> 17) & 0xFFFF) % span

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, indices: Any) -> tuple[ts.Tensor, ts.Tensor]:
        i = np.asarray(indices)
        pixels = self._windows[i, self._dy[i], self._dx[i]]
        mirrored = self._mirrored[i]
        if mirrored.any():
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return ts.asarray(self._value[pixels][:, None]), ts.asarray(self._targets[i])

    __getbatch__ = batch

    def __getitem__(self, index: int) -> tuple[ts.Tensor, int]:
        image, label = self.batch([index])
        return image[0], int(label)


@dataclass
class Parts:
    """A dataset cut into training, validation and held-out test images."""

    dataset: type[IdxImages]
    train: Images
    validation: Images
    test: Images
    size: tuple[int, int]


def load_parts(settings: Settings) -> Parts:
    dataset = DATASETS[settings.dataset]
    learn, held_out = dataset(train=True), dataset(train=False)
    keep = np.arange(len(learn)) % VALIDATION == 0
    data, targets = learn.data[~keep], learn.targets[~keep]
    side = min(data.shape[1:])
    if settings.shift >= side:
        raise ValueError(
            f"train: shift must be less than the {side} pixels of an image's side, got {settings.shift}"
        )
    mean, std = float(data.mean()), float(data.std())
    return Parts(
        dataset,
        Images(data, targets, mean, std, settings),
        Images(learn.data[keep], learn.targets[keep], mean, std),
        Images(held_out.data, held_out.targets, mean, std),
        (data.shape[1], data.shape[2]),
    )


# --- the run ---


@dataclass
class Epoch:
    """One line of the learning curve."""

    number: int  # from 1
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    images_per_second: float


@dataclass
class Result:
    settings: Settings
    model: nn.Module
    curve: list[Epoch]
    accuracy: float  # on the held-out images
    confusion: np.ndarray  # (C, C): images of class [row] taken for [column]
    classes: tuple[str, ...]
    parameters_hash: str


@dataclass
class Reporter:
    """Who wants to know; the command line prints, a notebook may plot. Every hook does nothing by default."""

    started: Callable[[Settings, Parts, nn.Module], None] = lambda settings, parts, model: None
    batch: Callable[[int, int, int], None] = lambda epoch, step, steps: None
    epoch: Callable[[Epoch], None] = lambda epoch: None


def build(settings: Settings, size: tuple[int, int], classes: int) -> nn.Module:
    """The model of a run, with its initial parameters: the same ones on every device."""
    ts.manual_seed(settings.seed)
    return MODELS[settings.model](size, classes, settings.dropout).to(settings.device)


@dataclass
class _Curve:
    """The learning curve as a part of a checkpoint."""

    epochs: list[Epoch] = field(default_factory=list)

    def state_dict(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(e) for e in self.epochs]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        epochs = [Epoch(**e) for e in state]
        if any(_form(dataclasses.asdict(e)) != dict.fromkeys(e.__dict__, "number") for e in epochs):
            raise ValueError(f"curve: every entry must be a number, got {state}")
        self.epochs = epochs


def run(
    settings: Settings,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    stop_after: int | None = None,
    reporter: Reporter | None = None,
    jit: bool = True,
) -> Result:
    """Trains, validates after every epoch and tests at the end.

    checkpoint: where to save after every epoch.
    resume: a checkpoint of a run with the same settings, to go on from.
    stop_after: ends the run after so many epochs of the settings' (to go on later).
    jit: replay the training step from a recording (`ts.jit`); the bits are the same either way.
    """
    reporter = reporter or Reporter()
    parts = load_parts(settings)
    model = build(settings, parts.size, len(parts.dataset.classes))
    loader = DataLoader(
        parts.train,
        settings.batch_size,
        shuffle=True,
        drop_last=True,
        seed=settings.seed,
    )
    steps = len(loader)
    if steps == 0:
        raise ValueError(
            f"train: batch_size {settings.batch_size} exceeds the {len(parts.train)} training images"
        )
    optimizer = AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = OneCycleLR(optimizer, settings.lr, total_steps=settings.epochs * steps, pct_start=0.2)
    curve = _Curve()
    state: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "loader": loader,
        "curve": curve,
    }
    done = 0
    if resume is not None:
        done = _resumed(resume, state)
    reporter.started(settings, parts, model)

    def step(images: ts.Tensor, labels: ts.Tensor) -> ts.Tensor:
        loss = F.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    update = ts.jit(step) if jit else step
    for epoch in range(done, min(settings.epochs, settings.epochs if stop_after is None else stop_after)):
        parts.train.set_epoch(epoch)
        model.train()
        began, total = time.perf_counter(), 0.0
        for number, (images, labels) in enumerate(loader, 1):
            loss = update(images.to(settings.device), labels.to(settings.device))
            scheduler.step()
            total += loss.item()
            reporter.batch(epoch + 1, number, steps)
        seconds = time.perf_counter() - began
        validation_loss, confusion = evaluate(model, parts.validation)
        curve.epochs.append(
            Epoch(
                epoch + 1,
                total / steps,
                validation_loss,
                _accuracy(confusion),
                seconds,
                steps * settings.batch_size / seconds,
            )
        )
        if checkpoint is not None:
            save_checkpoint(checkpoint, epoch=epoch + 1, config=dataclasses.asdict(settings), **state)
        reporter.epoch(curve.epochs[-1])

    _, confusion = evaluate(model, parts.test)
    return Result(
        settings,
        model,
        curve.epochs,
        _accuracy(confusion),
        confusion,
        tuple(parts.dataset.classes),
        parameters_hash(model),
    )


def _form(state: Any) -> Any:
    """What stays of a state from the first step to the last: all but its numbers."""
    if isinstance(state, dict):
        return {key: _form(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_form(value) for value in state]
    return "number" if isinstance(state, (int, float)) and not isinstance(state, bool) else state


def _resumed(path: str | os.PathLike[str], state: dict[str, Any]) -> int:
    """Loads a checkpoint; the epochs that it has behind it. FileFormatError for states that no run leaves."""

    def form() -> Any:
        return _form([state["scheduler"].state_dict(), state["optimizer"].state_dict()["param_groups"]])

    expected = form()
    try:
        done = load_checkpoint(path, **state).epoch
    except FileFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{os.fspath(path)}: holds no state of this run: {reason}") from error
    if form() != expected:
        raise FileFormatError(f"{os.fspath(path)}: holds no state of this run: its schedule is another")
    if done < 0:
        raise FileFormatError(f"{os.fspath(path)}: epoch must be >= 0, got {done}")
    return done


def evaluate(model: nn.Module, images: Images) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of a model, where it lies, and its confusion table (C, C)."""
    model.eval()
    device = next(model.parameters()).device
    total, tables = 0.0, None
    with ts.no_grad():
        for begin in range(0, len(images), EVALUATION_BATCH):
            batch, labels = images.batch(range(begin, min(begin + EVALUATION_BATCH, len(images))))
            scores = model(batch.to(device))
            total += F.cross_entropy(scores, labels.to(device), reduction="sum").item()
            classes = scores.shape[1]
            pairs = labels.numpy() * classes + scores.argmax(axis=1).cpu().numpy()
            counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
            tables = counts if tables is None else tables + counts
    assert tables is not None
    return total / len(images), tables


def _accuracy(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def parameters_hash(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def plot_curve(curve: list[Epoch], path: str | os.PathLike[str]) -> bool:
    """Draws the learning curve; False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    numbers = [e.number for e in curve]
    axes.plot(numbers, [e.train_loss for e in curve], label="training loss")
    axes.plot(numbers, [e.validation_loss for e in curve], label="validation loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    figure.savefig(path, dpi=120)
    return True
