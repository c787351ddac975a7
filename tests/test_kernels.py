"""Every kernel of kernels.def is run by a case of the table, whose values, gradients, layouts and bits other files
check, or by the test that is named here: docs/support.md says so of every row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tensorsmith as ts
import test_accuracy
import test_distributions
import test_nn
import test_optim
import test_random
import test_rnn_bf16
import test_unitary
from cases import load, make_inputs
from tensorsmith import _core
from tensorsmith._core import ops as core

ROOT = Path(__file__).parents[1]


def kernels() -> set[str]:
    text = (ROOT / "csrc/core/kernels.def").read_text()
    body = text[text.rindex("#endif") :]
    kinds = "UNARY|PREDICATE|BINARY|COMPARE|TERNARY|REDUCE|KERNEL"
    return set(re.findall(rf"^(?:{kinds})\((\w+),", body, re.MULTILINE))


def run_by(function: Callable[[], object]) -> set[str]:
    """The kernels that a call runs."""
    _core.start_profile()
    try:
        function()
    finally:
        rows = _core.stop_profile()
    return {str(row[0]) for row in rows}


def test_roofline_loops() -> None:
    x = ts.arange(100_003, dtype="float32")
    for streaming in (False, True):
        y = ts.zeros(100_003)
        core.copy_loop_(y, x, streaming)
        np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert core.fma_loop(2, ts.float32) is not None
    engine, reason = _core.bf16_engine()
    if engine == "float32":
        with pytest.raises(RuntimeError, match=f"bf16_loop: .*{re.escape(reason)}"):
            core.bf16_loop(2)
    else:
        assert core.bf16_loop(2) is not None


def optimizer(cls: type[ts.optim.Optimizer]) -> Callable[[], None]:
    reference = next(reference for c, reference, _ in test_optim.CASES if c is cls)
    return lambda: test_optim.test_recurrence(cls, reference, {}, ts.float32)


def test_fft_of_a_few_lengths() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 6, 17, 128):
        x = rng.standard_normal((3, n)) + 1j * rng.standard_normal((3, n))
        np.testing.assert_allclose(ts.fft.fft(ts.array(x)).numpy(), np.fft.fft(x), rtol=1e-12, atol=1e-12)


# What no case runs, because its result is random, a state that changes, a time, or a property of the number's bits.
ELSEWHERE: dict[str, Callable[[], object]] = {
    "nextafter": test_accuracy.test_nextafter,
    "dropout": lambda: test_nn.test_dropout(),
    "dropout_backward": lambda: test_nn.test_dropout(),
    "fft": test_fft_of_a_few_lengths,
    "eig": lambda: test_unitary.test_square((3, 3)),
    "random_bits": lambda: test_random.test_published_vectors(
        (0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"
    ),
    "random_uniform": lambda: test_random.test_distributions("float32", 1),
    "random_normal": lambda: test_random.test_distributions("float32", 1),
    "random_exponential": lambda: test_distributions.test_continuous("exponential", "float32"),
    "random_gamma": lambda: test_distributions.test_continuous("gamma 2.5", "float32"),
    "random_poisson": lambda: test_distributions.test_discrete("poisson 10"),
    "random_binomial": lambda: test_distributions.test_discrete("binomial 100 0.2"),
    "random_bernoulli": lambda: test_random.test_length_and_threads_do_not_matter("bernoulli"),
    "random_integers": test_random.test_integers_are_uniform,
    "random_permutation": test_random.test_permutations_are_uniform,
    "sgd": optimizer(ts.optim.SGD),
    "adam": optimizer(ts.optim.Adam),
    "adamax": optimizer(ts.optim.Adamax),
    "nadam": optimizer(ts.optim.NAdam),
    "radam": optimizer(ts.optim.RAdam),
    "lamb": optimizer(ts.optim.LAMB),
    "rprop": optimizer(ts.optim.Rprop),
    "asgd": optimizer(ts.optim.ASGD),
    "rmsprop": optimizer(ts.optim.RMSprop),
    "adagrad": optimizer(ts.optim.Adagrad),
    "adadelta": optimizer(ts.optim.Adadelta),
    "lion": optimizer(ts.optim.Lion),
    "gradient_norm": lambda: test_nn.test_clip_grad_norm(2.0),
    "recurrent_bf16": lambda: test_rnn_bf16.test_close_to_float64("lstm"),
    "recurrent_bf16_backward": lambda: test_rnn_bf16.test_close_to_float64("lstm"),
    "fma_loop": test_roofline_loops,
    "bf16_loop": test_roofline_loops,
    "copy_loop": test_roofline_loops,
}


# What csrc/ops never launches where bfloat16 is multiplied in float32.
ABSENT = {"gemm_bf16", "bf16_loop"} if _core.bf16_engine()[0] == "float32" else set()
# Of whose blocks another kernel's launch is made: test_halves_kernels.test_tables_have_the_bits_of_computing.
WITHIN = {"half_look_up"}


def test_the_cases_run_every_kernel_but_those() -> None:
    def walk() -> None:
        for case in load():
            inputs = []
            for a in make_inputs(case.inputs):
                x = ts.array(a, dtype=case.dtypes[0] if a.dtype == np.float64 else None)
                inputs.append(x.requires_grad_(case.gradient and x.dtype.kind == "floating"))
            ys = case.op(*inputs)
            for y in ys if isinstance(ys, (tuple, list)) else [ys]:
                if y.requires_grad:
                    y.backward(ts.ones_like(y.detach()), retain_graph=True)

    ran = run_by(walk)
    assert kernels() - ran - ABSENT - WITHIN == set(ELSEWHERE) - ABSENT, (
        "a kernel without a case needs one, or a test in ELSEWHERE"
    )


@pytest.mark.parametrize("kernel", ELSEWHERE)
def test_the_named_test_runs_it(kernel: str) -> None:
    if kernel in ABSENT:
        pytest.skip(f"bfloat16 is multiplied in float32: {_core.bf16_engine()[1]}")
    assert kernel in run_by(ELSEWHERE[kernel])
