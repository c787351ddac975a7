"""Calls with bad input: each gives its error, in a process of its own under a memory limit, and leaves the inputs and
the next call as they were."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

PREAMBLE = """
import resource, numpy as np
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import tensorsmith as ts
import tensorsmith.nn.functional as F
x = ts.arange(12.).reshape(3, 4)
before = x.numpy().copy()
def X(*shape): return ts.ones(shape)
"""

EPILOGUE = """
assert np.array_equal(x.numpy(), before), "an input changed"
assert (ts.arange(5.) * 2).tolist() == [0, 2, 4, 6, 8], "the next call is wrong"
"""


@dataclass(frozen=True)
class Bad:
    call: str
    error: str  # the exception's name, or "" for a call that must work
    words: tuple[str, ...] = ()  # what the message must hold
    setup: str = ""
    after: str = ""  # what must hold then


CALLS = [
    Bad("ts.embedding([0, 5], X(5, 3))", "IndexError", ("embedding", "5", "0", "4")),
    Bad("ts.gather(x, 1, [[4]])", "IndexError", ("gather", "4")),
    Bad("x.scatter_(0, [[3, 0, 0, 0]], 1.)", "IndexError", ("scatter_", "3")),
    Bad("x.index_select(0, [-1])", "IndexError", ("index_select", "-1")),
    Bad("ts.nll_loss(ts.log_softmax(X(2, 3), 1), [0, 3])", "IndexError", ("3",)),
    Bad("ts.conv2d(X(1, 1, 8, 8), X(1, 1, 3, 3), stride=0)", "ValueError", ("conv2d", "stride", "0")),
    Bad("ts.max_pool2d(X(1, 1, 4, 4), 5)", "ValueError", ("max_pool2d", "5", "4")),
    Bad("ts.avg_pool2d(X(1, 1, 4, 4), 2, stride=(0, 0))", "ValueError", ("avg_pool2d", "stride", "0")),
    Bad("ts.conv2d(X(1, 4, 8, 8), X(4, 2, 3, 3), groups=0)", "ValueError", ("conv2d", "groups", "0")),
    Bad("ts.zeros(3, -1)", "ValueError", ("zeros", "dimension 1", "-1")),
    Bad("ts.zeros(2**31, 2**31, 2**31)", "MemoryError", ("zeros", "2147483648")),
    Bad("ts.empty(2**40)", "MemoryError", ("439804",)),
    Bad("ts.ones(2, 3).reshape(-1, -1)", "ValueError", ("reshape", "only one", "-1")),
    Bad("ts.ones(0, 3).reshape(0, -1)", "ValueError", ("reshape", "ambiguous")),
    Bad("ts.ones(4).as_strided((4, 4), (4, 1))", "ValueError", ("as_strided", "64 bytes", "16")),
    Bad("ts.ones(1).expand(3).add_(ts.arange(3.))", "RuntimeError", ("add", "overlaps itself")),
    Bad("b[1:].add_(b[:-1])", "", setup="b = ts.arange(8.)", after="b.tolist() == [0, 1, 3, 5, 7, 9, 11, 13]"),
    Bad("y.sum().backward()", "RuntimeError", ("exp", "version"), setup="a = ts.ones(3).requires_grad_(); y = a.exp(); y.add_(1)"),
    Bad("leaf.add_(1)", "RuntimeError", ("add_", "leaf"), setup="leaf = ts.ones(3).requires_grad_()"),
    Bad("s.backward()", "RuntimeError", ("freed", "retain_graph"), setup="a = ts.ones(3).requires_grad_(); s = (a * a).sum(); s.backward()"),
    Bad("(a * a).backward()", "RuntimeError", ("gradient", "(3,)"), setup="a = ts.ones(3).requires_grad_()"),
    Bad("ts.ones(0).max()", "ValueError", ("max", "empty")),
    Bad("ts.from_numpy(np.arange(6.)[::-1])", "", after="result.tolist() == [5, 4, 3, 2, 1, 0]"),
    Bad("ts.from_numpy(source).fill_(7)", "ValueError", ("read-only",), setup="raw = b'\\0' * 8; source = np.frombuffer(raw, np.uint8)", after="raw == b'\\0' * 8"),
    Bad("ts.load(path)", "FileFormatError", ("1000", "80"), setup="path = '/tmp/ts_bad_header.safetensors'; open(path, 'wb').write((1000).to_bytes(8, 'little') + b' ' * 72)"),
    Bad("ts.load(path)", "FileFormatError", ("overflow",), setup="""
import json
path = '/tmp/ts_bad_shape.safetensors'
head = json.dumps({"w": {"dtype": "F32", "shape": [4194305, 4194305, 211106198978564], "data_offsets": [0, 16]}}).encode()
open(path, 'wb').write(len(head).to_bytes(8, 'little') + head + bytes(16))"""),
    Bad("ts.load(path)", "FileFormatError", ("first", "second"), setup="""
import json
path = '/tmp/ts_bad_overlap.safetensors'
entry = lambda b, e: {"dtype": "F32", "shape": [2], "data_offsets": [b, e]}
head = json.dumps({"first": entry(0, 8), "second": entry(4, 12)}).encode()
open(path, 'wb').write(len(head).to_bytes(8, 'little') + head + bytes(12))"""),
    Bad("ts.load(path)", "FileFormatError", ("pickle",), setup="""
import os, pickle
path = '/tmp/ts_evil.pt'
class Evil:
    def __reduce__(self): return os.system, ('touch /tmp/ts_evil_ran',)
open(path, 'wb').write(pickle.dumps(Evil()))""", after="not os.path.exists('/tmp/ts_evil_ran')"),
    Bad("ts.set_num_threads(0)", "ValueError", ("1", "0")),
    # The same classes of mistake elsewhere.
    Bad("ts.conv2d(X(1, 3, 8, 8), X(4, 2, 3, 3))", "ValueError", ("conv2d", "channels")),
    Bad("ts.conv2d(X(1, 1, 2, 2), X(1, 1, 3, 3))", "ValueError", ("conv2d", "3", "2")),
    Bad("x @ X(3, 4)", "ValueError", ("matmul", "(3, 4)")),
    Bad("x + X(3)", "ValueError", ("add", "(3, 4)", "(3,)")),
    Bad("ts.sum(x, axis=2)", "AxisError", ("sum", "2")),
    Bad("x[3]", "IndexError", ("3", "axis 0")),
    Bad("x[[0, 3]]", "IndexError", ("3", "axis 0")),
    Bad("ts.arange(3) // 0", "ZeroDivisionError", ("floor_divide",)),
    Bad("ts.array(300, dtype='uint8') if False else ts.zeros(3, dtype='uint8') + 300", "OverflowError", ("300", "uint8")),
    Bad("ts.logical_and(None, x)", "TypeError", ("logical_and",)),
    Bad("ts.array([[1., 2.], [3.]])", "ValueError", ("rows",)),
    Bad("F.mse_loss(X(3), X(3, 1))", "ValueError", ("mse_loss", "(3,)", "(3, 1)")),
    Bad("F.cross_entropy(X(2, 3), ts.array([0, 5]))", "IndexError", ("5",)),
    Bad("F.dropout(x, 1.5)", "ValueError", ("dropout", "1.5")),
    Bad("ts.nn.Linear(3, 2)(X(4, 5))", "ValueError", ("5", "3")),
]  # fmt: skip


@pytest.mark.parametrize("bad", CALLS, ids=lambda b: b.call[:60])
def test_call(bad: Bad) -> None:
    if bad.error:
        expectation = f"""
try:
    {bad.call}
except Exception as e:
    names = [c.__name__ for c in type(e).__mro__]
    assert {bad.error!r} in names, (type(e).__name__, str(e))
    message = str(e) + "".join(getattr(e, "__notes__", []))
    for word in {bad.words!r}:
        assert word in message, (word, message)
else:
    raise SystemExit("no error")
"""
    else:
        expectation = f"result = {bad.call}"
    program = "\n".join([PREAMBLE, bad.setup, expectation, f"assert {bad.after or True}", EPILOGUE])
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-1500:]
