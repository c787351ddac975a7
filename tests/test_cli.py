"""The command line as a user meets it: what it prints, what it keeps, and how it says no."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

import tensorsmith as ts
from tensorsmith import bench, cli, serialize, train
from tensorsmith.bench.measure import let_threads_rest

SHORT = ["train", "--model", "mlp", "--epochs", "4"]


def run(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tensorsmith.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
    )


def parameters(text):
    return re.search(r"parameters: sha256 ([0-9a-f]{64})", text).group(1)


# --- saying no ---

BAD = {
    "no command": ([], "the following arguments are required"),
    "unknown command": (["dance"], "invalid choice: 'dance'"),
    "unknown option": (["train", "--colour", "red"], "unrecognized arguments: --colour red"),
    "unknown dataset": (["train", "--dataset", "cifar"], "argument --dataset: invalid choice: 'cifar'"),
    "unknown model": (["train", "--model", "gpt"], "argument --model: invalid choice: 'gpt'"),
    "no epochs": (["train", "--epochs", "0"], "argument --epochs: must be a whole number >= 1, got 0"),
    "epochs in words": (
        ["train", "--epochs", "ten"],
        "argument --epochs: must be a whole number >= 1, got 'ten'",
    ),
    "negative rate": (["train", "--lr", "-1"], "argument --lr: must be a number > 0, got -1"),
    "rate that is no number": (["train", "--lr", "nan"], "argument --lr: must be a number > 0, got nan"),
    "infinite rate": (["train", "--lr", "inf"], "argument --lr: must be a number > 0, got inf"),
    "huge batch": (["train", "--batch-size", "100000"], "batch_size 100000 exceeds the 1317 training images"),
    "huge seed": (["train", "--seed", str(2**64)], "argument --seed: must be a whole number >= 0 and <= "),
    "no CUDA": (["train", "--device", "cuda"], "--device cuda is not available: "),
    "threads": (["train", "--threads", "0"], "argument --threads: must be a whole number >= 1"),
    "missing data": (["train", "--dataset", "mnist"], "mnist: train-images-idx3-ubyte.gz was not found in "),
    "missing folder": (
        ["train", "--checkpoint", "none/c"],
        "the folder of --checkpoint none/c does not exist",
    ),
    "folder for a checkpoint": (
        ["train", "--checkpoint", "."],
        "--checkpoint . is a folder; a file is needed",
    ),
    "unwritable folder": (
        ["train", "--checkpoint", "closed/c"],
        "the folder of --checkpoint closed/c cannot be written to",
    ),
    "missing checkpoint": (["train", "--resume", "none"], "none: No such file or directory"),
    "not a checkpoint": (["train", "--resume", "text"], "text: "),
    "unknown family": (["bench", "cooking"], "no family 'cooking'; there are gemm, "),
    "missing bench file": (["bench", "--compare", "a", "b"], "a: No such file or directory"),
    "not a bench file": (
        ["bench", "--compare", "text", "text"],
        "text is not a file of `tensorsmith bench --json`",
    ),
    "a bench file without times": (
        ["bench", "--compare", "rows", "rows"],
        "rows is not a file of `tensorsmith bench --json`",
    ),
    "nested too deeply": (
        ["bench", "--compare", "deep", "deep"],
        "deep is not a file of `tensorsmith bench --json`",
    ),
    "unwritable figures": (["bench", "gemm", "--json", "closed/c"], "--json closed/c cannot be written to"),
    "figures that stay": (["bench", "gemm", "--json", "stays"], "--json stays cannot be written to"),
    "folder for the figures": (["bench", "gemm", "--json", "."], "--json . is a folder; a file is needed"),
    "no such case": (["bench", "gemm", "--filter", "soup"], "no name of a case in gemm contains 'soup'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_get_one_sentence_and_code_2(name, tmp_path, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSORSMITH_DATA", str(tmp_path))
    (tmp_path / "text").write_text("no tensors here, only words\n")
    (tmp_path / "rows").write_text('{"rows": [{"family": "gemm", "name": "8x8x8"}]}')
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "closed").mkdir()
    access = os.access
    (tmp_path / "stays").touch()
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name not in ("closed", "stays") and access(path, mode)
    )
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("tensorsmith")
    assert len(said.splitlines()) == 1


def test_the_exit_code_and_streams_of_the_process(tmp_path):
    result = run("train", "--epochs", "0", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "tensorsmith train: argument --epochs: must be a whole number >= 1, got 0\n"


def test_the_choices_are_those_of_the_library():
    assert set(cli.DATASETS) == set(train.DATASETS)
    assert set(cli.MODELS) == set(train.MODELS)
    for dataset in train.DATASETS:
        for model in train.MODELS:
            assert train.Settings.default(dataset, model).dataset == dataset


def test_default_settings_name_what_there_is():
    with pytest.raises(ValueError, match=r"Settings: model must be .*'gpt'"):
        train.Settings.default("digits", "gpt")
    with pytest.raises(ValueError, match=r"Settings: dataset must be .*'cifar'"):
        train.Settings.default("cifar", "cnn")


# --- info ---


def test_info(tmp_path):
    text = run("info", cwd=tmp_path)
    assert text.returncode == 0
    for word in ("tensorsmith", "Python", "SIMD", "threads", "CUDA", "allocator"):
        assert re.search(rf"^{word} ", text.stdout, re.MULTILINE), word
    config = json.loads(run("info", "--json", TENSORSMITH_ISA="baseline").stdout)
    assert config["version"] == ts.__version__
    assert config["simd"]["level"] == "baseline" and "TENSORSMITH_ISA" in config["simd"]["reason"]
    assert config["environment"]["TENSORSMITH_ISA"] == "baseline"
    assert config.keys() == ts.config().keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("TENSORSMITH_ISA", "must be baseline, avx2 or avx512, got 'sse9'"),
        ("TENSORSMITH_NUM_THREADS", "must be an integer from 1 to 256, got 'sse9'"),
        ("TENSORSMITH_BF16", "must be float32, avx512_bf16 or amx, got 'sse9'"),
    ],
)
def test_settings_that_are_none_are_one_sentence(name, words, tmp_path):
    for arguments in (["info"], ["info", "--json"], ["bench", "gemm", "--filter", "32x32x32"], SHORT):
        result = run(*arguments, cwd=tmp_path, **{name: "sse9"})
        if result.returncode == 0:  # needs no product of bfloat16
            assert name == "TENSORSMITH_BF16" and "info" not in arguments
            continue
        assert result.returncode == 2, result.stderr
        assert result.stderr == f"tensorsmith {arguments[0]}: {name} {words}\n"


def test_version():
    assert run("--version").stdout == f"tensorsmith {ts.__version__}\n"


# --- train ---


def test_train_on_the_shipped_digits(tmp_path):
    result = run("train", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = result.stdout
    accuracy = float(re.search(r"^test accuracy: (0\.\d+|1\.0+)$", text, re.MULTILINE).group(1))
    assert accuracy >= 0.985
    assert (
        len(re.findall(r"^epoch +\d+/20  train loss [\d.]+  validation loss [\d.]+ .* images/s", text, re.M))
        == 20
    )
    confusion = re.findall(r"^(\d)((?: +[\d.]+){10})$", text, re.MULTILINE)
    assert sum(int(n) for _, row in confusion for n in row.replace(".", "0").split()) == 360
    saved = ts.load(tmp_path / "digits-cnn.safetensors")
    assert any(name.startswith("model.") for name in saved)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    assert (tmp_path / "digits-cnn.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_bits_with_one_and_two_threads_and_every_fma_level(tmp_path):
    level = ts.config()["simd"]["level"]
    runs = {("--threads", "1"): {}, ("--threads", "2"): {}}
    hashes = {
        parameters(run("train", "--epochs", "2", *arguments, cwd=tmp_path, **environment).stdout)
        for arguments, environment in runs.items()
    }
    if level == "avx512":
        hashes.add(parameters(run("train", "--epochs", "2", cwd=tmp_path, TENSORSMITH_ISA="avx2").stdout))
    assert len(hashes) == 1


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    settings = train.Settings.default("digits", "cnn").replace(epochs=3)
    through = train.run(settings)
    train.run(settings, checkpoint=tmp_path / "c", stop_after=2)
    resumed = train.run(settings, resume=tmp_path / "c")
    assert resumed.parameters_hash == through.parameters_hash
    assert [e.number for e in resumed.curve] == [1, 2, 3]
    assert [e.train_loss for e in resumed.curve] == [e.train_loss for e in through.curve]


def test_steps_through_python_end_with_the_same_bits(tmp_path):
    settings = train.Settings.default("digits", "cnn").replace(epochs=1)
    replayed, eager = train.run(settings), train.run(settings, jit=False)
    assert replayed.parameters_hash == eager.parameters_hash and replayed.accuracy == eager.accuracy
    result = run(
        "train", "--epochs", "1", "--no-jit", "--checkpoint", str(tmp_path / "c.safetensors"), cwd=tmp_path
    )
    assert result.returncode == 0 and eager.parameters_hash in result.stdout


def test_a_killed_run_resumes_with_the_same_bits(tmp_path):
    through = parameters(run(*SHORT, "--checkpoint", tmp_path / "through").stdout)
    victim = subprocess.Popen(
        [sys.executable, "-m", "tensorsmith.cli", *SHORT, "--checkpoint", str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in victim.stdout:
        if line.startswith("epoch 2/"):
            break
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    resumed = run("train", "--resume", tmp_path / "killed", "--threads", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert parameters(resumed.stdout) == through
    again = run("train", "--resume", tmp_path / "killed")  # nothing is left to do
    assert (
        parameters(again.stdout) == through
        and "epoch" not in again.stdout.split("test accuracy")[0].split("\n", 2)[2]
    )


def test_resume_refuses_other_settings(tmp_path, capsys):
    assert cli.main([*SHORT, "--checkpoint", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(tmp_path / "c"), "--lr", "0.5"]) == 2
    said = capsys.readouterr().err
    assert "--lr 0.5 differs from the 0.004" in said and len(said.splitlines()) == 1
    ts.save({"x": ts.asarray([1.0])}, tmp_path / "plain")
    assert cli.main(["train", "--resume", str(tmp_path / "plain")]) == 2
    assert "is no checkpoint of `tensorsmith train`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset", "letters"), ("dataset", [1]), ("model", "rnn"), ("epochs", "many"), ("epochs", 0),
        ("batch_size", 2.5), ("lr", "fast"), ("lr", -1.0), ("dropout", 3.0), ("shift", -1), ("seed", 2**70),
        ("epochs", 10**400), ("lr", float("inf")), ("weight_decay", 10**400), ("device", "tpu"), ("flip", "yes"),
    ],
)  # fmt: skip
def test_resume_refuses_settings_that_no_run_has(tmp_path, capsys, key, value):
    config = {**dataclasses.asdict(train.Settings.default("digits", "mlp")), key: value}
    ts.save_checkpoint(tmp_path / "c", config=config)
    assert cli.main(["train", "--resume", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert "is no checkpoint of `tensorsmith train`" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("shift", [8, 10**7, 10**30])
def test_resume_refuses_shifts_past_the_image(tmp_path, capsys, shift):
    config = {**dataclasses.asdict(train.Settings.default("digits", "mlp")), "shift": shift}
    ts.save_checkpoint(tmp_path / "c", config=config)
    assert cli.main(["train", "--resume", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert f"shift must be less than the 8 pixels of an image's side, got {shift}" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("curve", 0, "number"), []), (("scheduler", "_step_count"), None), (("scheduler", "_phases"), [1]),
        (("optimizer", "param_groups", 0, "betas"), "x"), (("optimizer", "param_groups", 0, "max_momentum"), None),
        (("loader", "epoch"), -3), (("model",), {}),
    ],
)  # fmt: skip
def test_resume_refuses_states_that_no_run_leaves(tmp_path, capsys, place, value):
    settings = train.Settings.default("digits", "mlp").replace(epochs=2, batch_size=512)
    train.run(settings, checkpoint=tmp_path / "c", stop_after=1)
    arrays, metadata = serialize._read(str(tmp_path / "c"))
    tree = json.loads(metadata["tree"])
    part = tree["parts"]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    serialize._write(str(tmp_path / "c"), arrays, {**metadata, "tree": json.dumps(tree)})
    assert cli.main(["train", "--resume", str(tmp_path / "c"), "--checkpoint", str(tmp_path / "d")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tensorsmith train: {tmp_path / 'c'}: holds no state of this run: ")
    assert len(said.splitlines()) == 1


def test_a_learning_curve_that_cannot_be_drawn_is_one_sentence(monkeypatch, tmp_path, capsys):
    def plot(curve, path):
        raise IsADirectoryError(21, "Is a directory", str(path))

    monkeypatch.setattr(train, "plot_curve", plot)
    path = tmp_path / "c.safetensors"
    assert cli.main([*SHORT, "--epochs", "1", "--checkpoint", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err == f"tensorsmith train: the learning curve, {path.with_suffix('.png')}: Is a directory\n"
    assert "parameters: sha256" in said.out and path.exists()


def test_memory_that_is_not_there_is_one_sentence(monkeypatch, tmp_path, capsys):
    def run(*args, **options):
        raise MemoryError("no 5 GiB")

    monkeypatch.setattr(train, "run", run)
    assert cli.main(["train", "--checkpoint", str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err == "tensorsmith train: no 5 GiB\n"


def test_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorsmith.cli", "train", "--epochs", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted"


def test_confusion_table():
    import numpy as np

    table = cli.confusion_table(np.array([[10, 0], [3, 7]]), ("cat", "hippopotamus"))
    assert table.splitlines()[1].split() == ["cat", "10", "."]
    assert table.splitlines()[2].split() == ["hippopotamus", "3", "7"]


# --- bench ---


def test_bench_measures_and_keeps(tmp_path, capsys):
    rows = bench.run(["overhead", "gemm"], contains="8 ", seconds=0.01, json_file=tmp_path / "a.json")
    said = capsys.readouterr().out
    assert "FMA peak float32" in said and "GB/s" in said
    assert {row.family for row in rows} == {"overhead", "gemm"}
    assert all(row.seconds["tensorsmith"] > 0 for row in rows)
    kept = json.loads((tmp_path / "a.json").read_text())
    assert [row["name"] for row in kept["rows"]] == [row.name for row in rows]
    text = bench.compare(tmp_path / "a.json", tmp_path / "a.json")
    assert text.splitlines()[1].endswith("1.00")


def test_bench_without_memory_is_one_sentence(monkeypatch, capsys):
    def run(*args, **options):
        raise MemoryError("no 5 GiB")

    monkeypatch.setattr(bench, "run", run)
    assert cli.main(["bench"]) == 2
    assert capsys.readouterr().err == "tensorsmith bench: no 5 GiB\n"


def test_a_turn_begins_when_other_threads_have_come_to_rest():
    def work():  # for a second or so, without the interpreter's lock
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)
        ended.append(time.perf_counter())

    ended = []
    worker = threading.Thread(target=work)
    began = time.perf_counter()
    worker.start()
    let_threads_rest(0.01)
    assert not ended and time.perf_counter() - began > 0.01  # however long it runs
    let_threads_rest(100)
    rested = time.perf_counter()
    worker.join()
    assert ended[0] < rested + 0.1 and rested - began < 100


def test_ctrl_c_beside_peers(tmp_path):
    """A terminal sends it to the peers' processes too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorsmith.cli", "bench", "overhead", "--peers", "--seconds", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("overhead"):
            break
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors == "interrupted\n"


def test_the_busy_neighbour_ends_with_its_process():
    script = (
        "import os, signal, subprocess\n"
        "from tensorsmith.bench.measure import busy_neighbour\n"
        "started, Popen = [], subprocess.Popen\n"
        "subprocess.Popen = lambda *a, **o: started.append(Popen(*a, **o)) or started[-1]\n"
        "with busy_neighbour():\n"
        "    print(started[-1].pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    made = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
    neighbour = int(made.stdout)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with open(f"/proc/{neighbour}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    os.kill(neighbour, signal.SIGKILL)
    pytest.fail("it spins on")


@pytest.mark.parametrize("family", bench.FAMILIES)
def test_every_family_runs(family, monkeypatch):
    monkeypatch.setattr(bench, "STREAM_SIZE", 1 << 20)
    monkeypatch.setattr(import_module("tensorsmith.bench.cases.stream"), "SIZE", 1 << 20)
    small = {
        "gemm": "32x32x32",
        "pointwise": "16 KB",
        "reduce": "64x64",
        "rows": "128x10",
        "pool": "64x64",
        "linalg": "64",
        "recurrent": "RNN T50",
        "steps": "64-32-10",
        "jit": "64-32-10",
    }
    small |= {"memory": " 10^3", "conv": "8x64x28x28", "neighbour": "b32", "overhead": "elements"}
    small |= {"attention": "T64", "bf16": ("64x64x64", "conv 64x1x28x28", "B12 T64", "MLP 64-32-10")}
    filters = small.get(family)
    for contains in filters if isinstance(filters, tuple) else (filters,):
        assert bench.run([family], contains=contains, seconds=0.001)
