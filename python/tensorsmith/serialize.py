"""Checkpoints as safetensors files: a strict reader, an atomic and durable writer, exact resume.

A file is eight bytes (the header's length, little-endian), a JSON header, and the tensors' bytes. Format:
https://huggingface.co/docs/safetensors. Pickle is never read.

What this writer adds stays within the format: `__metadata__` carries the CRC-32 (zlib's) of every tensor and
of the header itself, and the reader checks them. Files of other writers, which have none, load as well.
"""

from __future__ import annotations

import json
import math
import operator
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np

from tensorsmith.durable import replacing
from tensorsmith.errors import FileFormatError

__all__ = ["Checkpoint", "load", "load_checkpoint", "load_metadata", "save", "save_checkpoint"]

MAX_HEADER = 100_000_000
_DTYPES: dict[str, Any] = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4",
    "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
    "BF16": [("bfloat16", "<u2")],  # NumPy has none: its bits
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_BFLOAT16 = np.dtype(_DTYPES["BF16"])
_CRC = "crc32:"  # + tensor name, in __metadata__
# A header of ours begins with this; the eight digits are the CRC-32 of the header with them set to 0.
_SEAL = b'{"__metadata__":{"header_crc32":"'
_SEAL_END = len(_SEAL) + 8


# --- reading ---


@dataclass
class _Entry:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def load(path: str | os.PathLike[str]) -> Any:
    """Reads a safetensors file (or NumPy's .npz) into a dict of name to tensor, a .npy file into a tensor.

    Raises FileFormatError, which names the file, the tensor and the numbers, for anything but a whole and
    consistent file; a pickle (`.pt`, `.pth`, `.pkl`) is refused unread.
    """
    from tensorsmith import npy

    path = os.fspath(path)  # to `open`, a number is a file that is open already
    with open(path, "rb") as file:
        start = file.read(len(npy.MAGIC))
    if start == npy.MAGIC or start[:4] in (npy.ZIP, npy.EMPTY_ZIP):
        return npy.load(path)
    arrays, _ = _read(path)
    return {name: _to_tensor(array) for name, array in arrays.items()}


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Reads the metadata that `save` was given, without reading the tensors."""
    path = os.fspath(path)
    with open(path, "rb") as file:
        _, metadata, _ = _read_header(path, file)
    return _user_metadata(metadata)


def _user_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in metadata.items() if k != "header_crc32" and not k.startswith(_CRC)}


def _read(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = {}
    with open(path, "rb") as file:
        entries, metadata, sealed = _read_header(path, file)
        for entry in entries:  # in the order of their bytes
            array = np.empty(entry.shape, entry.dtype)
            raw = array.reshape(-1).view(np.uint8)
            if file.readinto(raw.data) != raw.nbytes:
                raise FileFormatError(f"{path}: tensor {entry.name!r}: the file ended while it was read")
            crc = metadata.get(_CRC + entry.name)
            if crc is None and sealed:
                raise FileFormatError(f"{path}: tensor {entry.name!r} has no checksum")
            if crc is not None and crc != _crc_text(raw):
                raise FileFormatError(
                    f"{path}: tensor {entry.name!r} is damaged: CRC-32 {_crc_text(raw)}, written as {crc}"
                )
            if entry.dtype == np.bool_ and raw.size and raw.max() > 1:
                raise FileFormatError(
                    f"{path}: tensor {entry.name!r}: byte {raw.max()} is not a bool (0 or 1)"
                )
            arrays[entry.name] = array
    return arrays, _user_metadata(metadata)


def _read_header(path: str, file: BinaryIO) -> tuple[list[_Entry], dict[str, str], bool]:
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    if start[8:] != b"{":
        _refuse_other_formats(path, start)
    if len(start) < 8:
        raise FileFormatError(f"{path}: {size} bytes are too few for a safetensors file")
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER:
        raise FileFormatError(f"{path}: header of {length} bytes; at most {MAX_HEADER} are allowed")
    if length > size - 8:
        raise FileFormatError(f"{path}: header of {length} bytes in a file of {size}")
    raw = start[8:] + file.read(max(length - 1, 0))
    if length == 0 or raw[:1] != b"{" or len(raw) != length:
        raise FileFormatError(f"{path}: the header does not begin with '{{'; this is not a safetensors file")

    sealed = raw.startswith(_SEAL)
    if sealed:
        written = raw[len(_SEAL) : _SEAL_END].decode("latin-1")
        actual = _crc_text(raw[: len(_SEAL)] + b"00000000" + raw[_SEAL_END:])
        if written != actual:
            raise FileFormatError(f"{path}: the header is damaged: CRC-32 {actual}, written as {written!r}")
    header = _parse_json(path, raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(f"{path}: __metadata__ must map strings to strings")
    if not sealed and any(key == "header_crc32" or key.startswith(_CRC) for key in metadata):
        raise FileFormatError(f"{path}: the header's checksum is not where it was written")

    entries = sorted((_entry(path, k, v) for k, v in header.items()), key=lambda e: (e.begin, e.end))
    position, previous = 0, None
    for entry in entries:
        if entry.begin < position:
            raise FileFormatError(
                f"{path}: tensors {previous!r} and {entry.name!r} overlap: "
                f"the first ends at {position}, the second begins at {entry.begin}"
            )
        if entry.begin > position:
            raise FileFormatError(
                f"{path}: hole of {entry.begin - position} bytes before tensor {entry.name!r}, at {position}"
            )
        position, previous = entry.end, entry.name
    if position != size - 8 - length:
        raise FileFormatError(
            f"{path}: the tensors take {position} bytes, the file holds {size - 8 - length}"
        )
    return entries, metadata, sealed


def _refuse_other_formats(path: str, start: bytes) -> None:
    if (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05") or start[:4] == b"PK\x03\x04":
        raise FileFormatError(
            f"{path}: pickle is not supported (loading one runs whatever code it holds); "
            "convert it to safetensors where it was made"
        )


def _parse_json(path: str, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise FileFormatError(f"{path}: the key {twice!r} appears twice in the header")
        return table

    def reject(text: str) -> Any:
        raise FileFormatError(f"{path}: {text!r} in the header, where only whole numbers may be")

    def whole(text: str) -> int:
        if text.startswith("-") or len(text) > 20:
            reject(text[:24])
        return int(text)

    try:
        text = raw.decode("utf-8")
        header: dict[str, Any] = json.loads(
            text, object_pairs_hook=unique, parse_int=whole, parse_float=reject, parse_constant=reject
        )
        if "\\u" in text:  # an escaped half of a surrogate pair is no character
            json.dumps(header, ensure_ascii=False).encode("utf-8")
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: the header is not valid JSON: {error}") from None
    return header


def _entry(path: str, name: str, info: Any) -> _Entry:
    where = f"{path}: tensor {name!r}"
    if not isinstance(info, dict) or info.keys() != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{where}: the entry must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileFormatError(f"{where}: dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
    for key, value in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(value, list) or not all(type(n) is int for n in value):
            raise FileFormatError(f"{where}: {key} must be a list of whole numbers, got {value!r}")
    if len(shape) > 64:
        raise FileFormatError(f"{where}: {len(shape)} dimensions; at most 64 are allowed")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FileFormatError(f"{where}: data_offsets must be [begin, end] with begin <= end, got {offsets}")
    # A product of huge sizes overflows even where another size is 0.
    item = np.dtype(_DTYPES[dtype]).itemsize
    if math.prod(n for n in shape if n) * item >= 2**63 or max(shape, default=0) >= 2**63:
        raise FileFormatError(f"{where}: size overflow: shape {shape} of {dtype}")
    needed = math.prod(shape) * item
    if needed != offsets[1] - offsets[0]:
        raise FileFormatError(
            f"{where}: shape {shape} of {dtype} takes {needed} bytes, data_offsets {offsets} hold "
            f"{offsets[1] - offsets[0]}"
        )
    return _Entry(name, np.dtype(_DTYPES[dtype]), tuple(shape), offsets[0], offsets[1])


def _crc_text(data: Any) -> str:
    return f"{zlib.crc32(data):08x}"


# --- writing ---


def save(
    obj: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a dict of tensors (or NumPy arrays; nested dicts are flattened with '.') as a safetensors file.

    The file appears whole or not at all: it is written beside its final place, flushed to the disk and
    renamed. A process killed in between leaves the old file, and at most one hidden `.<name>.tmp`, which the
    next save to the same place takes over. A tensor alone goes to a path that ends in .npy, as NumPy's file.
    """
    if _is_tensor(obj):
        from tensorsmith import npy

        if not os.fspath(path).endswith(".npy"):
            raise TypeError(
                f"save: a tensor alone is written as .npy, not {os.fspath(path)!r}; or pass a dict"
            )
        return npy.write(path, obj)
    arrays: dict[str, np.ndarray] = {}
    for name, value in _flatten(obj):
        if name in arrays:
            raise ValueError(f"save: two tensors are named {name!r} once nested dicts are flattened with '.'")
        arrays[name] = _to_numpy(name, value)
    _write(os.fspath(path), arrays, dict(metadata or {}))


def _flatten(obj: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(obj, Mapping):
        raise TypeError(f"save: expected a dict of tensors, got {type(obj).__name__}")
    for key, value in obj.items():
        if not isinstance(key, str):
            raise TypeError(f"save: names must be str, got {key!r}")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) or callable(getattr(value, "numpy", None))


def _to_numpy(name: str, value: Any) -> np.ndarray:
    if not _is_tensor(value):
        raise TypeError(
            f"save: {name!r} is {type(value).__name__}; a safetensors file holds tensors, "
            "other values belong in metadata (as str) or in save_checkpoint"
        )
    tensor = not isinstance(value, (np.ndarray, np.generic))
    if tensor:
        value = value.detach().cpu()
    if str(value.dtype) == "bfloat16":  # the upper half of a float32
        wide = np.asarray(value.astype("float32").numpy() if tensor else value.astype(np.float32), order="C")
        return np.asarray(wide.view(np.uint32) >> 16, dtype="<u2").view(_BFLOAT16)
    array = np.asarray(value.numpy() if tensor else value)
    dtype = array.dtype.newbyteorder("=")  # little-endian: the kernels are for x86-64
    if dtype not in _NAMES:
        raise TypeError(f"save: {name!r} has dtype {array.dtype}, which safetensors cannot hold")
    return np.asarray(array, dtype=dtype, order="C")


def _to_tensor(array: np.ndarray) -> Any:
    import tensorsmith as ts

    if array.dtype != _BFLOAT16:
        return ts.asarray(array)
    bits = np.asarray(array.view("<u2").astype(np.uint32) << 16, np.uint32)
    return ts.asarray(bits.view(np.float32)).astype(ts.bfloat16)


def _write(path: str, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata must map str to str, got {key!r}: {text!r}")
        if key == "header_crc32" or key.startswith(_CRC):
            raise ValueError(f"save: the metadata key {key!r} is kept for checksums")
    if "__metadata__" in arrays:
        raise ValueError("save: a tensor cannot be named '__metadata__'")
    # Widest elements first, so that every tensor is aligned to its element size.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    table: dict[str, Any] = {"__metadata__": {"header_crc32": "00000000", **metadata}}
    position = 0
    for name in order:
        array = arrays[name]
        table["__metadata__"][_CRC + name] = _crc_text(_bytes(array))
        end = position + array.nbytes
        table[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    try:
        header = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"save: a name or metadata is not valid text: {error}") from None
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ValueError(f"save: the header would take {len(header)} bytes; at most {MAX_HEADER} are allowed")
    header = _SEAL + _crc_text(header).encode() + header[_SEAL_END:]

    with replacing(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in order:
            file.write(_bytes(arrays[name]))


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


# --- checkpoints ---


class Stateful(Protocol):
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


@dataclass
class Checkpoint:
    """What `load_checkpoint` found besides the states that it restored."""

    epoch: int
    config: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    epoch: int = 0,
    config: Mapping[str, Any] | None = None,
    **parts: Stateful,
) -> None:
    """Saves all that a run needs to go on with the same bits, in one safetensors file.

    `parts` are the objects with a `state_dict`, by name: `save_checkpoint(path, epoch=3, model=model,
    optimizer=optimizer, scheduler=scheduler, loader=loader)`. The state of `ts.random` is always included.
    Tensors are stored under `<part>.<key>`, so `ts.load(path)` finds a model's weights as `model.<name>`.
    """
    import tensorsmith as ts

    arrays: dict[str, np.ndarray] = {}
    state = {name: part.state_dict() for name, part in parts.items()}
    try:
        epoch = operator.index(epoch)
    except TypeError:
        raise TypeError(f"save_checkpoint: epoch must be an integer, got {epoch!r}") from None
    try:
        json.dumps(dict(config or {}))
    except (TypeError, ValueError) as error:
        raise TypeError(f"save_checkpoint: config must hold what JSON can: {error}") from None
    tree = {
        "epoch": epoch,
        "config": dict(config or {}),
        "random": _encode("random", ts.random.get_state(), arrays),
        "parts": {name: _encode(name, value, arrays) for name, value in state.items()},
    }
    _write(os.fspath(path), arrays, {"format": "tensorsmith checkpoint 1", "tree": json.dumps(tree)})


def load_checkpoint(path: str | os.PathLike[str], **parts: Stateful) -> Checkpoint:
    """Restores the named parts and the state of `ts.random` from a checkpoint; either all of them or, after
    any error, none. Parts that the file holds and that are not asked for are left alone.
    """
    import tensorsmith as ts

    path = os.fspath(path)
    arrays, metadata = _read(path)
    if metadata.get("format") != "tensorsmith checkpoint 1":
        raise FileFormatError(f"{path}: holds tensors but is no checkpoint of a training run")
    try:
        tree = json.loads(metadata["tree"])
        states = {name: _decode(value, arrays) for name, value in tree["parts"].items()}
        random_state = _decode(tree["random"], arrays)
        found = Checkpoint(int(tree["epoch"]), dict(tree["config"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path}: the checkpoint's tree is not whole: {error!r}") from None
    for name in parts:
        if name not in states:
            raise FileFormatError(f"{path}: holds no state of {name!r}; it has {', '.join(states) or 'none'}")

    before = {name: _copied(part.state_dict()) for name, part in parts.items()}
    try:
        for name, part in parts.items():
            part.load_state_dict(states[name])
        ts.random.set_state(random_state)
    except BaseException:
        for name, part in parts.items():
            part.load_state_dict(before[name])
        raise
    return found


# A state is a tree of dicts, lists, tuples, plain values and tensors. In JSON, a tensor becomes {"$tensor":
# name, ...}, a tuple {"$tuple": [...]} and a dict whose keys are not all plain str {"$items": [[key, value],
# ...]}.


def _encode(name: str, value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if _is_tensor(value):
        if name in arrays:
            raise ValueError(f"save_checkpoint: two tensors are named {name!r}")
        arrays[name] = _to_numpy(name, value)
        return {"$tensor": name, "numpy": isinstance(value, (np.ndarray, np.generic))}
    if isinstance(value, (list, tuple)):
        items = [_encode(f"{name}.{i}", v, arrays) for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        encoded = [(k, _encode(f"{name}.{k}", v, arrays)) for k, v in value.items()]
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return dict(encoded)
        if all(isinstance(k, (str, int)) for k in value):
            return {"$items": [[k, v] for k, v in encoded]}
    raise TypeError(f"save_checkpoint: {name!r} is {type(value).__name__}, which a checkpoint cannot hold")


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        array = arrays[value["$tensor"]]
        if value["numpy"]:
            return array if array.dtype != _BFLOAT16 else _to_tensor(array).numpy()
        return _to_tensor(array)
    if "$tuple" in value:
        return tuple(_decode(v, arrays) for v in value["$tuple"])
    if "$items" in value:
        return {k: _decode(v, arrays) for k, v in value["$items"]}
    return {k: _decode(v, arrays) for k, v in value.items()}


def _copied(state: Any) -> Any:
    arrays: dict[str, np.ndarray] = {}
    tree = _encode("state", state, arrays)
    return _decode(tree, {name: array.copy() for name, array in arrays.items()})
