"""The command line: `tensorsmith train | info | bench`.

A bad argument or missing data is one sentence on stderr and exit code 2. Heavy imports wait until they are
needed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from tensorsmith.train import Epoch, Reporter, Result, Settings

# Kept here as well as in train.py, so that parsing arguments imports nothing; a test compares the two.
DATASETS = ("digits", "mnist", "fashion-mnist")
MODELS = ("cnn", "mlp")


class UsageError(Exception):
    """What the user asked for cannot be done; the text is the one sentence to say."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")


def _number(
    kind: type[int] | type[float], low: float, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], Any]:
    noun = "a whole number" if kind is int else "a number"
    bounds = f"{'>' if open_low else '>='} {low}" + (f" and <= {high}" if high < math.inf else "")

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {noun} {bounds}, got {text!r}") from None
        if not (low < value if open_low else low <= value) or not value <= high or value == math.inf:
            raise argparse.ArgumentTypeError(f"must be {noun} {bounds}, got {text}")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    from tensorsmith import __version__

    parser = _Parser(prog="tensorsmith", description="A tensor engine forged by hand.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tensorsmith {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,info,bench}")

    train = commands.add_parser(
        "train",
        help="train an image classifier",
        description="Train an image classifier.",
        allow_abbrev=False,
    )
    train.add_argument(
        "--dataset", choices=DATASETS, help="what to learn from (default: digits, which come along)"
    )
    train.add_argument("--model", choices=MODELS, help="the network (default: cnn)")
    train.add_argument("--epochs", type=_number(int, 1), help="rounds over the training images")
    train.add_argument("--lr", type=_number(float, 0, open_low=True), help="highest learning rate")
    train.add_argument("--batch-size", type=_number(int, 1), help="images per step")
    train.add_argument("--weight-decay", type=_number(float, 0), help="AdamW's weight decay")
    train.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: cpu)")
    train.add_argument("--seed", type=_number(int, 0, 2**64 - 1), help="of everything random (default: 0)")
    train.add_argument(
        "--threads", type=_number(int, 1, 256), help="CPU threads (default: all that this process has)"
    )
    train.add_argument("--checkpoint", type=Path, metavar="PATH", help="where to save after every epoch")
    train.add_argument(
        "--resume", type=Path, metavar="PATH", help="a checkpoint to go on from, with its settings"
    )
    train.add_argument(
        "--no-jit", action="store_true", help="run every step through Python instead of replaying a recording"
    )
    train.set_defaults(run=_train)

    info = commands.add_parser(
        "info",
        help="what this build is and how it runs here",
        description="Describe this build.",
        allow_abbrev=False,
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info)

    bench = commands.add_parser(
        "bench",
        help="measure the kernels against this machine's limits",
        description="Time kernels and training steps: share of the machine's limit, ratio to each peer.",
        allow_abbrev=False,
    )
    bench.add_argument("family", nargs="*", help="which families of cases (default: all)")
    bench.add_argument(
        "--peers", action="store_true", help="also time NumPy, PyTorch and JAX where installed"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    bench.add_argument("--threads", type=_number(int, 1, 256), help="CPU threads, ours and the peers'")
    bench.add_argument("--filter", metavar="TEXT", help="only cases whose name contains this")
    bench.add_argument(
        "--seconds", type=_number(float, 0, 60, open_low=True), default=0.3, help="per case and library"
    )
    bench.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="two files of --json, side by side"
    )
    bench.set_defaults(run=_bench)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tensorsmith ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


# --- train ---


def _train(options: argparse.Namespace) -> None:
    import tensorsmith as ts
    from tensorsmith import train
    from tensorsmith.data import MissingDataError
    from tensorsmith.durable import check_target

    if options.threads:
        ts.set_num_threads(options.threads)
    try:
        settings = _settings(options)
        if settings.device == "cuda" and not ts.cuda.is_available():
            raise UsageError(f"tensorsmith train: --device cuda is not available: {ts.cuda.why_not()}")
        checkpoint = (
            options.checkpoint or options.resume or Path(f"{settings.dataset}-{settings.model}.safetensors")
        )
        check_target("--checkpoint", checkpoint)
        result = train.run(
            settings,
            checkpoint=checkpoint,
            resume=options.resume,
            reporter=_reporter(settings),
            jit=not options.no_jit,
        )
    except (MissingDataError, ts.FileFormatError, ValueError) as error:
        raise UsageError(f"tensorsmith train: {error}") from None
    except MemoryError as error:
        raise UsageError(f"tensorsmith train: {error or 'out of memory'}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UsageError(f"tensorsmith train: {where}{error.strerror}") from None
    _report(result)
    print(f"checkpoint: {checkpoint}")
    picture = checkpoint.with_suffix(".png")
    try:
        if picture != checkpoint and train.plot_curve(result.curve, picture):
            print(f"learning curve: {picture}")
    except OSError as error:
        raise UsageError(f"tensorsmith train: the learning curve, {picture}: {error.strerror}") from None


_OPTIONS = ("dataset", "model", "epochs", "lr", "batch_size", "weight_decay", "device", "seed")


def _settings(options: argparse.Namespace) -> Settings:
    import json

    from tensorsmith.serialize import load_metadata
    from tensorsmith.train import Settings

    given = {name: getattr(options, name) for name in _OPTIONS if getattr(options, name) is not None}
    if options.resume is None:
        settings = Settings.default(given.pop("dataset", "digits"), given.pop("model", "cnn"))
        return settings.replace(**given)

    metadata = load_metadata(options.resume)
    try:
        settings = Settings(**json.loads(metadata["tree"])["config"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UsageError(
            f"tensorsmith train: --resume {options.resume} is no checkpoint of `tensorsmith train`"
        ) from None
    for name, value in given.items():
        if value != getattr(settings, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"tensorsmith train: {option} {value} differs from the {getattr(settings, name)} that "
                f"--resume {options.resume} was started with; leave it out to go on with that run"
            )
    return settings


def _reporter(settings: Settings) -> Reporter:
    import tensorsmith as ts
    from tensorsmith.train import Reporter

    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    bars: dict[str, Any] = {}

    def started(settings: Settings, parts: Any, model: Any) -> None:
        height, width = parts.size
        print(
            f"{settings.dataset}: {len(parts.train)} training, {len(parts.validation)} validation and "
            f"{len(parts.test)} held-out test images, {height}x{width}, {len(parts.dataset.classes)} classes"
        )
        count = sum(p.size for p in model.parameters())
        level, threads = ts.config()["simd"]["level"], ts.get_num_threads()
        print(
            f"{settings.model}: {count:,} parameters; AdamW, one cycle up to lr {settings.lr:g}, batches of "
            f"{settings.batch_size}; {settings.device}, {level}, {threads} thread{'s' * (threads > 1)}",
            flush=True,
        )

    def batch(epoch: int, step: int, steps: int) -> None:
        if tqdm is None:
            return
        if step == 1:
            # disable=None: no bar where stderr is not a terminal.
            bars["now"] = tqdm(
                total=steps, desc=f"epoch {epoch}/{settings.epochs}", leave=False, disable=None, unit="batch"
            )
        bars["now"].update()
        if step == steps:
            bars.pop("now").close()

    def epoch(e: Epoch) -> None:
        number = f"{e.number:>{len(str(settings.epochs))}}/{settings.epochs}"
        print(
            f"epoch {number}  train loss {e.train_loss:.4f}  "
            f"validation loss {e.validation_loss:.4f}  accuracy {e.validation_accuracy:.4f}  "
            f"{e.images_per_second:,.0f} images/s  {e.seconds:.1f} s",
            flush=True,
        )

    return Reporter(started, batch, epoch)


def _report(result: Result) -> None:
    print(f"test accuracy: {result.accuracy:.4f}")
    print("confusion (rows: true class, columns: predicted):")
    print(confusion_table(result.confusion, result.classes))
    print(f"parameters: sha256 {result.parameters_hash}")


def confusion_table(confusion: np.ndarray, classes: Sequence[str]) -> str:
    """The counts under the classes' names, wide names cut to their column's width in the head line."""
    left = max(len(name) for name in classes)
    width = max(len(str(confusion.max())), min(left, 8)) + 1
    lines = [" " * left + "".join(f"{name[: width - 1]:>{width}}" for name in classes)]
    for name, row in zip(classes, confusion, strict=True):
        lines.append(f"{name:>{left}}" + "".join(f"{n or '.':>{width}}" for n in row))
    return "\n".join(lines)


# --- info, bench ---


def _info(options: argparse.Namespace) -> None:
    import json

    from tensorsmith.environment import config, describe

    try:
        print(json.dumps(config(), indent=2) if options.json else describe())
    except ValueError as error:  # a setting in the environment
        raise UsageError(f"tensorsmith info: {error}") from None


def _confine(threads: int) -> None:
    """Starts this process anew on so many processors. The peers read them, or the environment, when they are
    first imported, and some cannot change their mind afterwards."""
    processors = sorted(os.sched_getaffinity(0))
    if threads < len(processors):
        os.sched_setaffinity(0, processors[:threads])
        count = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
        os.execve(
            sys.executable, [sys.executable, "-m", "tensorsmith.cli", *sys.argv[1:]], {**os.environ, **count}
        )


def _bench(options: argparse.Namespace) -> None:
    from tensorsmith import bench

    if options.threads and options.peers:
        _confine(options.threads)
    try:
        if options.compare:
            print(bench.compare(*options.compare))
            return
        bench.run(
            options.family,
            peers=options.peers,
            threads=options.threads,
            contains=options.filter,
            seconds=options.seconds,
            json_file=options.json,
        )
    except ValueError as error:
        raise UsageError(f"tensorsmith bench: {error}") from None
    except MemoryError as error:
        raise UsageError(f"tensorsmith bench: {error or 'out of memory'}") from None
    except OSError as error:
        raise UsageError(f"tensorsmith bench: {error.filename}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
