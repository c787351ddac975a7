"""Checkpoint files: what is written comes back, what is damaged is refused, what is interrupted is whole."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

import tensorsmith as ts
from tensorsmith import nn, optim
from tensorsmith.serialize import MAX_HEADER, load_metadata


def make_file(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# --- there and back ---

ARRAYS = {
    "float32": np.array([[1.5, -0.0], [np.inf, np.nan]], np.float32),
    "float64": np.linspace(0, 1, 7),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "int32": np.arange(6, dtype=np.int32).reshape(1, 2, 3),
    "uint8": np.arange(256, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "scalar": np.array(3.25, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def test_every_dtype_returns_with_its_bits(tmp_path):
    path = tmp_path / "all.safetensors"
    ts.save({k: ts.asarray(v) for k, v in ARRAYS.items()}, path)
    loaded = ts.load(path)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        got = loaded[name].numpy()
        assert got.dtype == array.dtype and got.shape == array.shape
        assert got.tobytes() == array.tobytes()


def test_strided_views_are_written_in_order(tmp_path):
    x = ts.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    ts.save({"t": x.T, "reversed": x[::-1], "column": x[:, 1]}, tmp_path / "f")
    loaded = ts.load(tmp_path / "f")
    for name, want in (("t", x.T), ("reversed", x[::-1]), ("column", x[:, 1])):
        np.testing.assert_array_equal(loaded[name].numpy(), want.numpy())


def test_nested_dicts_are_flattened(tmp_path):
    ts.save({"model": {"layer": {"weight": np.ones(2, np.float32)}}, "step": np.array(3)}, tmp_path / "f")
    assert set(ts.load(tmp_path / "f")) == {"model.layer.weight", "step"}
    with pytest.raises(ValueError, match=r"two tensors are named 'a\.b'"):
        ts.save({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, tmp_path / "f")


def test_metadata(tmp_path):
    ts.save({"x": np.ones(1, np.float32)}, tmp_path / "f", {"author": "Ærø ✓"})
    assert load_metadata(tmp_path / "f") == {"author": "Ærø ✓"}
    with pytest.raises(TypeError, match="metadata must map str to str, got 'n': 3"):
        ts.save({}, tmp_path / "f", {"n": 3})


def test_reads_and_is_read_by_the_reference_implementation(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    ts.save({k: ts.asarray(v) for k, v in ARRAYS.items()}, tmp_path / "ours")
    theirs = reference.load_file(tmp_path / "ours")
    assert {k: v.tobytes() for k, v in theirs.items()} == {k: v.tobytes() for k, v in ARRAYS.items()}
    reference.save_file(ARRAYS, tmp_path / "theirs", {"k": "v"})
    ours = ts.load(tmp_path / "theirs")
    assert {k: v.numpy().tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in ARRAYS.items()}
    assert load_metadata(tmp_path / "theirs") == {"k": "v"}


def test_bfloat16(tmp_path):
    """Every number, without ml_dtypes; and as PyTorch writes and reads it."""
    bits = np.arange(1 << 16, dtype=np.uint32)
    wide = (bits << 16).view(np.float32)
    x = ts.asarray(wide.reshape(16, -1)).astype("bfloat16")
    ts.save({"x": x.T, "one": x[0, 1], "none": x[:0]}, tmp_path / "ours")
    loaded = ts.load(tmp_path / "ours")
    assert {k: (str(v.dtype), v.shape) for k, v in loaded.items()} == {
        "x": ("bfloat16", (4096, 16)),
        "one": ("bfloat16", ()),
        "none": ("bfloat16", (0, 4096)),
    }
    back = np.ascontiguousarray(loaded["x"].T.astype("float32").numpy()).view(np.uint32).reshape(-1) >> 16
    number = ~np.isnan(wide)
    np.testing.assert_array_equal(back[number], bits[number])
    assert np.isnan(loaded["x"].T.astype("float32").numpy().reshape(-1)[~number]).all()

    reference = pytest.importorskip("safetensors.torch")
    theirs = reference.load_file(tmp_path / "ours")["x"].float().numpy().T.reshape(-1)
    np.testing.assert_array_equal(theirs, wide)
    torch = pytest.importorskip("torch")
    reference.save_file({"x": torch.arange(7, dtype=torch.bfloat16) / 3}, tmp_path / "theirs")
    expected = (np.arange(7, dtype=np.float32) / np.float32(3)).tolist()
    np.testing.assert_allclose(ts.load(tmp_path / "theirs")["x"].tolist(), expected, rtol=2**-8)


@pytest.mark.parametrize("value", [3, "text", [1, 2], None])
def test_only_tensors_are_saved(tmp_path, value):
    with pytest.raises(TypeError, match=r"save: 'x' is .* holds tensors"):
        ts.save({"x": value}, tmp_path / "f")
    assert not (tmp_path / "f").exists()


# --- hostile files ---

BAD_HEADERS = {
    "header longer than the file": (
        lambda p: make_file(p, b"{" + b" " * 71, length=1000),
        "header of 1000 bytes in a file of 80",
    ),
    "header over the limit": (
        lambda p: make_file(p, b"{}", length=MAX_HEADER + 1),
        f"header of {MAX_HEADER + 1} bytes; at most {MAX_HEADER}",
    ),
    "empty header": (lambda p: make_file(p, b""), "does not begin with"),
    "too short": (lambda p: p.write_bytes(b"abc") and p, "3 bytes are too few"),
    "not JSON": (lambda p: make_file(p, b"{nonsense}"), "not valid JSON"),
    "not UTF-8": (lambda p: make_file(p, b'{"\xff": 1}'), "not valid JSON"),
    "half a surrogate pair": (lambda p: make_file(p, b'{"\\ud800": {}}'), "not valid JSON"),
    "deep nesting": (lambda p: make_file(p, b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "a list": (lambda p: make_file(p, b"[]"), "does not begin with"),
    "duplicate tensor": (
        lambda p: make_file(p, b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(16)),
        "the key 'a' appears twice",
    ),
    "duplicate field": (
        lambda p: make_file(
            p, b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4)
        ),
        "the key 'dtype' appears twice",
    ),
    "size overflow": (
        lambda p: make_file(p, {"big": entry(shape=(4194305, 4194305, 211106198978564))}, bytes(16)),
        r"tensor 'big': size overflow: shape \[4194305, 4194305, 211106198978564\]",
    ),
    "size overflow beside a zero": (
        lambda p: make_file(p, {"big": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}),
        "tensor 'big': size overflow",
    ),
    "overlap": (
        lambda p: make_file(p, {"a": entry(), "b": entry(offsets=(8, 24))}, bytes(24)),
        "tensors 'a' and 'b' overlap: the first ends at 16, the second begins at 8",
    ),
    "hole": (
        lambda p: make_file(p, {"a": entry(), "b": entry(offsets=(20, 36))}, bytes(36)),
        "hole of 4 bytes before tensor 'b', at 16",
    ),
    "bytes left over": (
        lambda p: make_file(p, {"a": entry()}, bytes(17)),
        "take 16 bytes, the file holds 17",
    ),
    "bytes missing": (lambda p: make_file(p, {"a": entry()}, bytes(15)), "take 16 bytes, the file holds 15"),
    "shape and offsets differ": (
        lambda p: make_file(p, {"a": entry(shape=(5,))}, bytes(16)),
        r"tensor 'a': shape \[5\] of F32 takes 20 bytes, data_offsets \[0, 16\] hold 16",
    ),
    "negative size": (lambda p: make_file(p, {"a": entry(shape=(-4,))}, bytes(16)), "'-4' in the header"),
    "fractional size": (
        lambda p: make_file(p, b'{"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}', bytes(16)),
        "'4.0' in the header",
    ),
    "bool as a size": (
        lambda p: make_file(p, {"a": entry(shape=(True,))}, bytes(16)),
        "shape must be a list",
    ),
    "offsets reversed": (lambda p: make_file(p, {"a": entry(offsets=(16, 0))}, bytes(16)), "begin <= end"),
    "unknown dtype": (
        lambda p: make_file(p, {"a": entry(dtype="F99")}, bytes(16)),
        "dtype 'F99' is not one of",
    ),
    "unknown field": (lambda p: make_file(p, {"a": {**entry(), "x": 1}}, bytes(16)), "must have exactly"),
    "missing field": (lambda p: make_file(p, {"a": {"dtype": "F32"}}, bytes(16)), "must have exactly"),
    "entry is a list": (lambda p: make_file(p, {"a": []}), "must have exactly"),
    "too many dimensions": (
        lambda p: make_file(p, {"a": entry(shape=(1,) * 65)}, bytes(16)),
        "65 dimensions",
    ),
    "metadata of numbers": (
        lambda p: make_file(p, b'{"__metadata__":{"a":1}}'),
        "must map strings to strings",
    ),
    "a bool that is 2": (
        lambda p: make_file(p, {"a": entry("BOOL", (2,), (0, 2))}, b"\x01\x02"),
        "byte 2 is not a bool",
    ),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_malformed_files_are_refused(tmp_path, name):
    make, message = BAD_HEADERS[name]
    path = make(tmp_path / "bad.safetensors")
    with pytest.raises(ts.FileFormatError, match=message) as error:
        ts.load(path)
    assert str(path) in str(error.value)


class Evil:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def test_pickle_is_refused_and_not_run(tmp_path):
    evil, witness = tmp_path / "evil.pt", tmp_path / "ran"
    for protocol in range(2, 6):
        evil.write_bytes(pickle.dumps(Evil(witness), protocol))
        with pytest.raises(ts.FileFormatError, match="pickle is not supported"):
            ts.load(evil)
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(witness)))
    with pytest.raises(ts.FileFormatError, match="pickle is not supported"):
        ts.load(evil)
    assert not witness.exists()


def test_a_number_is_no_path(tmp_path):
    with open(tmp_path / "open", "wb+") as file:
        for read in (ts.load, load_metadata, ts.load_checkpoint):
            with pytest.raises(TypeError, match="PathLike object, not int"):
                read(file.fileno())
        assert not file.closed and file.read() == b""


def test_a_header_length_that_looks_like_pickle_is_read(tmp_path):
    header = json.dumps({"a": entry()}).encode().ljust(0x280)  # 80 02: the first bytes of pickle protocol 2
    path = make_file(tmp_path / "f", header, bytes(16))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert ts.load(path)["a"].shape == (4,)


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "whole"
    ts.save({"weight": np.arange(30, dtype=np.float32), "mask": np.ones(5, bool)}, path, {"note": "kept"})
    whole, broken = path.read_bytes(), tmp_path / "broken"
    for length in range(len(whole)):
        broken.write_bytes(whole[:length])
        with pytest.raises(ts.FileFormatError):
            ts.load(broken)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        broken.write_bytes(damaged)
        with pytest.raises(ts.FileFormatError):
            ts.load(broken)


def test_mutants_that_we_accept_the_reference_accepts_with_equal_bytes(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    seeds = [
        json.dumps({"a": entry(), "b": entry("U8", (2, 4), (16, 24)), "__metadata__": {"k": "v"}}).encode(),
        json.dumps({"s": entry("F64", (), (0, 8)), "e": entry("I32", (0, 7), (8, 8))}).encode(),
    ]
    alphabet = b'{}[]",:0123456789-+.eE \\utrnFIUab\x00\xff'
    path, accepted = tmp_path / "mutant", 0
    for round in range(3000):
        raw = bytearray(seeds[round % 2])
        for _ in range(int(rng.integers(0, 3))):
            at = int(rng.integers(len(raw)))
            kind = rng.integers(3)
            if kind == 0:
                raw[at] = alphabet[rng.integers(len(alphabet))]
            elif kind == 1:
                del raw[at]
            else:
                raw.insert(at, alphabet[rng.integers(len(alphabet))])
        make_file(path, bytes(raw), bytes(range(24 if round % 2 == 0 else 8)))
        try:
            ours = ts.load(path)
        except ts.FileFormatError:
            continue
        except TypeError:
            continue  # a dtype that this engine cannot hold
        accepted += 1
        theirs = reference.load(path.read_bytes())
        assert {k: v.numpy().tobytes() for k, v in ours.items()} == {
            k: v.tobytes() for k, v in theirs.items()
        }
    assert accepted > 100


# --- interrupted saves ---

KILLED_SAVES = """
import os, random, signal, sys, time
import numpy as np, tensorsmith as ts
path, rounds = sys.argv[1], int(sys.argv[2])
def payload(n):
    return {"n": np.full(1, n), "data": np.full(200_000, n % 251, np.uint8)}
ts.save(payload(0), path)
random.seed(0)
for round in range(rounds):
    child = os.fork()
    if child == 0:
        n = 1 + round * 1000
        while True:
            ts.save(payload(n), path)
            n += 1
    time.sleep(random.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = ts.load(path)
    n = int(loaded["n"].numpy()[0])
    assert (loaded["data"].numpy() == n % 251).all(), round
    assert len(os.listdir(os.path.dirname(path))) <= 2, os.listdir(os.path.dirname(path))
ts.save(payload(0), path)
assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
print("whole", rounds)
"""


def test_kill_9_during_a_save_leaves_the_old_or_the_new_file(tmp_path):
    command = [sys.executable, "-c", KILLED_SAVES, str(tmp_path / "checkpoint"), "100"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout == "whole 100\n", result.stderr


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "f"
    ts.save({"x": np.zeros(4, np.float32)}, path)
    script = (
        "import resource, signal, sys, numpy as np, tensorsmith as ts\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    ts.save({'x': np.ones(1 << 20, np.float32)}, sys.argv[1])\n"
        "except OSError as error:\n    print('refused')\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert run.stdout == "refused\n", run.stderr
    assert os.listdir(tmp_path) == ["f"]
    assert ts.load(path)["x"].numpy().tolist() == [0, 0, 0, 0]


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "f")
    ts.save({"x": np.ones(1, np.float32)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "f").is_file()


def test_threads_that_save_to_one_place_take_turns(tmp_path):
    path, errors = tmp_path / "f", []

    def save(n):
        try:
            for _ in range(10):
                ts.save({"x": np.full(5000, n)}, path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(ts.load(path)["x"].numpy().tolist())) == 1
    assert os.listdir(tmp_path) == ["f"]


def test_the_order_of_system_calls(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    ts.save({"x": np.ones(1)}, tmp_path / "f")
    assert calls == ["fsync", "replace", "fsync"]


# --- checkpoints ---


def parts(seed):
    ts.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def advance(parts, steps):
    x = ts.asarray(np.arange(15, dtype=np.float32).reshape(5, 3) / 10)
    for _ in range(steps):
        parts["optimizer"].zero_grad()
        (parts["model"](x) ** 2).sum().backward()
        parts["optimizer"].step()
        parts["scheduler"].step()


def bits(parts):
    model = {k: v.numpy().tobytes() for k, v in parts["model"].state_dict().items()}
    return model, json.dumps(parts["scheduler"].state_dict(), default=str)


def test_a_checkpoint_resumes_with_the_same_bits(tmp_path):
    through = parts(1)
    advance(through, 7)

    first = parts(1)
    advance(first, 3)
    ts.save_checkpoint(tmp_path / "c", epoch=3, config={"name": "test", "rate": 0.1}, **first)
    second = parts(99)
    found = ts.load_checkpoint(tmp_path / "c", **second)
    assert (found.epoch, found.config) == (3, {"name": "test", "rate": 0.1})
    advance(second, 4)
    assert bits(second) == bits(through)


def test_a_checkpoint_is_all_or_nothing(tmp_path):
    saved = parts(1)
    advance(saved, 2)
    ts.save_checkpoint(tmp_path / "c", **saved)

    class Refuses:
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            if state:
                raise ValueError("refused")

    class Saves:
        def state_dict(self):
            return {"a": 1}

    ts.save_checkpoint(tmp_path / "c2", **saved, last=Saves())
    other = parts(2)
    advance(other, 1)
    before, random = bits(other), ts.random.get_state()
    with pytest.raises(ValueError, match="refused"):
        ts.load_checkpoint(tmp_path / "c2", **other, last=Refuses())
    with pytest.raises(ts.FileFormatError, match="holds no state of 'missing'"):
        ts.load_checkpoint(tmp_path / "c", **other, missing=Refuses())
    assert bits(other) == before
    assert str(ts.random.get_state()) == str(random)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "c"
    for epoch in ("x", 1.5, None):
        with pytest.raises(TypeError, match=f"epoch must be an integer, got {epoch!r}"):
            ts.save_checkpoint(path, epoch=epoch)
    with pytest.raises(TypeError, match="config must hold what JSON can: Object of type object"):
        ts.save_checkpoint(path, config={"a": object()})
    assert not path.exists()
    ts.save_checkpoint(path, epoch=np.int64(3))
    assert ts.load_checkpoint(path).epoch == 3


def test_plain_tensors_are_no_checkpoint(tmp_path):
    ts.save({"x": np.ones(1)}, tmp_path / "f")
    with pytest.raises(ts.FileFormatError, match="is no checkpoint"):
        ts.load_checkpoint(tmp_path / "f")


def test_states_of_every_shape_return(tmp_path):
    class Holder:
        def __init__(self, state):
            self.state = state

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    state = {
        "none": None, "true": True, "int": 2**70, "float": 0.1, "inf": float("inf"), "text": "é",
        "list": [1, [2.5]],
        "tuple": (1, ("a",)), "ints": {0: {"step": 3}, 1: {}}, "$tensor": "not one",
    }  # fmt: skip
    ts.save_checkpoint(tmp_path / "c", part=Holder({**state, "array": np.arange(3)}))
    back = Holder({})
    ts.load_checkpoint(tmp_path / "c", part=back)
    array = back.state.pop("array")
    assert back.state == state and array.tolist() == [0, 1, 2]


def test_mutated_files(tmp_path):
    """Bytes changed, cut out and repeated: a file is read with the shapes that it states, or refused."""
    path = tmp_path / "f.safetensors"
    ts.save(
        {"weight": ts.arange(12.0).reshape(3, 4), "steps": ts.asarray([1, 2]), "flag": ts.asarray(True)}, path
    )
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(int(os.environ.get("TENSORSMITH_MUTANTS", "3000"))):
        mutant = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(mutant)))
            if rng.integers(3) == 0:
                mutant[at] ^= 1 << int(rng.integers(8))
            elif rng.integers(2) == 0:
                mutant[at : at + 1] = bytes([int(rng.integers(32, 127))])
            else:
                del mutant[at : at + int(rng.integers(1, 9))]
        path.write_bytes(bytes(mutant))
        try:
            loaded = ts.load(path)
        except ts.FileFormatError:
            continue
        assert all(
            x.nbytes == x.size * x.itemsize and len(x.numpy().tobytes()) == x.nbytes for x in loaded.values()
        )
