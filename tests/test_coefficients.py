"""The polynomials of csrc/math, as they are written there, are near the functions that they stand for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

mpmath = pytest.importorskip("mpmath")


@pytest.fixture(scope="module")
def minimax() -> Any:
    path = Path(__file__).parents[1] / "bench" / "minimax.py"
    spec = importlib.util.spec_from_file_location("minimax", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "minimax", module)  # dataclasses look it up
        spec.loader.exec_module(module)
        with mpmath.workdps(module.DIGITS):
            yield module


def test_no_polynomial_is_off_by_a_unit(minimax: Any) -> None:
    """Committed coefficients, in exact arithmetic: below 3/4 of a unit of the last place of the function."""
    polynomials = [*minimax.of_the_kernels(), *minimax.by_segments()]
    assert len(polynomials) == 226
    errors = {p.name: float(p.committed(p.points(8 * (len(p.coefficients) + 1)))) for p in polynomials}
    assert {name: error for name, error in errors.items() if error > 0.75} == {}


def test_the_exchange_finds_a_known_best_polynomial(minimax: Any) -> None:
    """x^4 by a cubic on [-1, 1] is x^2 - 1/8, 1/8 off everywhere: a Chebyshev polynomial remains."""
    p = minimax.Polynomial("x^4", mpmath.mpf(1), [0, 0, 0, 0], lambda x: x**4, lambda x: mpmath.mpf(1), -1, 1)
    error, coefficients = p.best(p.points(400))
    assert float(error) == pytest.approx(1 / 8, rel=1e-3)
    assert [float(c) for c in coefficients] == pytest.approx([-1 / 8, 0, 1, 0], abs=1e-3)
