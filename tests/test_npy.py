"""NumPy's files: what NumPy writes is read, what is written NumPy reads, and everything else is refused."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

DTYPES = [d for d in ts.dtypes.ALL if d.name != "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_ways(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    array = np.arange(6).reshape(2, 3).astype(dtype.dtype)
    for layout in (
        array,
        np.asfortranarray(array),
        array[:, ::2],
        array.astype(array.dtype.newbyteorder(">")),
    ):
        np.save(path, layout)
        x = ts.load(path)
        assert x.dtype == dtype
        np.testing.assert_array_equal(x.numpy(), layout)
    ts.save(ts.asarray(array), path)
    np.testing.assert_array_equal(np.load(path), array)


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for save in (ts.savez, ts.savez_compressed):
        save(path, ts.arange(3), b=ts.ones((2, 2)))
        with np.load(path) as archive:
            assert sorted(archive) == ["arr_0", "b"] and archive["arr_0"].tolist() == [0, 1, 2]
        loaded = ts.load(path)
        assert loaded["b"].tolist() == [[1, 1], [1, 1]] and loaded["arr_0"].dtype == "int64"


def test_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    buffer = io.BytesIO()
    np.save(buffer, np.arange(4.0))
    whole = buffer.getvalue()
    for cut in range(len(whole)):  # every truncation
        path.write_bytes(whole[:cut])
        with pytest.raises(ts.FileFormatError):
            ts.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ts.FileFormatError, match="takes 32 bytes, the file has 33"):
        ts.load(path)
    rng = np.random.default_rng(0)
    for _ in range(2000):  # a byte changed
        mutant = bytearray(whole)
        mutant[int(rng.integers(len(mutant)))] = int(rng.integers(256))
        path.write_bytes(bytes(mutant))
        with contextlib.suppress(ts.FileFormatError):
            assert ts.load(path).size == 4
    np.save(path, np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(ts.FileFormatError, match="objects"):
        ts.load(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4194305, 4194305, 211106198978564), }"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(32))
    with pytest.raises(ts.FileFormatError, match="shape"):
        ts.load(path)
    np.save(path, np.array([True, False]))
    path.write_bytes(path.read_bytes()[:-1] + b"\x02")
    with pytest.raises(ts.FileFormatError, match="bool"):
        ts.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(ts.FileFormatError, match="pickle"):
        ts.load(path)
    ts.savez(tmp_path / "y.npz", ts.ones(1000))
    damaged = bytearray((tmp_path / "y.npz").read_bytes())
    damaged[300] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(ts.FileFormatError):
        ts.load(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_mutated_archives(tmp_path: Path, compressed: bool) -> None:
    """Bytes changed, cut out and repeated: an archive is read as it was written, or refused."""
    path = tmp_path / "x.npz"
    (ts.savez_compressed if compressed else ts.savez)(
        path, a=ts.arange(20.0), b=ts.ones((2, 3), dtype="int32")
    )
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(int(os.environ.get("TENSORSMITH_MUTANTS", "1500"))):
        path.write_bytes(mutated(whole, rng))
        with contextlib.suppress(ts.FileFormatError):
            for x in ts.load(path).values():
                assert isinstance(x, ts.Tensor) and np.isfinite(x.numpy()).size == x.size


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    mutant = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(mutant)))
        match int(rng.integers(4)):
            case 0:
                mutant[at] = int(rng.integers(256))
            case 1:
                mutant[at] ^= 1 << int(rng.integers(8))
            case 2:
                del mutant[at : at + int(rng.integers(1, 9))]
            case 3:
                mutant[at:at] = mutant[at : at + int(rng.integers(1, 9))]
    return bytes(mutant)


def test_what_is_refused_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    ts.save(ts.arange(3), path)
    with pytest.raises(TypeError, match="bfloat16"):
        ts.save(ts.ones(2, dtype="bfloat16"), path)
    assert ts.load(path).tolist() == [0, 1, 2]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="not a regular file"):
        ts.save({"x": ts.arange(3)}, pipe)
    assert not pipe.is_file()
    with pytest.raises(FileNotFoundError, match=r"'.*/missing/x\.npy'"):
        ts.save(ts.arange(3), tmp_path / "missing" / "x.npy")


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    for name in ("x.npy", "x.safetensors"):
        path = tmp_path / name
        path.touch(mode=0o600)
        ts.save(ts.arange(3) if name.endswith("y") else {"x": ts.arange(3)}, path)
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("save", [ts.savez, ts.savez_compressed])
def test_any_keyword_names_an_array(save: Any, tmp_path: Path) -> None:
    names = ("allow_pickle", "file", "path", "x")
    save(tmp_path / "z", ts.arange(2), **{name: ts.arange(3) for name in names})
    kept = ts.load(tmp_path / "z.npz")
    assert sorted(kept) == sorted((*names, "arr_0"))
    assert sorted(np.load(tmp_path / "z.npz")) == sorted(kept)


def test_headers_that_are_nearly_right(tmp_path: Path) -> None:
    def file(header: bytes) -> Path:
        path = tmp_path / "x.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        return path

    with pytest.raises(ts.FileFormatError, match="not a Python dictionary"):
        ts.load(file(b"{{}: 1}"))
    with pytest.raises(ts.FileFormatError, match="too large"):
        ts.load(file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, %d, %d)}" % (2**62, 2**62)))


def test_an_archive_is_used_as_numpys(tmp_path: Path) -> None:
    ts.savez(tmp_path / "x.npz", ts.ones(2), b=ts.zeros(3))
    with ts.load(tmp_path / "x.npz") as archive:
        assert archive.files == list(archive) == ["arr_0", "b"]
        assert archive["b"].shape == (3,) and "arr_0" in archive
    archive.close()
