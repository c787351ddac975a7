"""The tables of csrc/math/decay.h, and tanh's: polynomials around the middles of 16 intervals.

    python bench/segments.py [NAME ...] [--error]      # needs mpmath and NumPy

Each middle is a float at which the function is a float to 2^-8 of its last place, near the interval's own, so that the
constant term has no error. The other coefficients are the best ones (Lawson's iteration), each rounded before the rest
are fitted. --error prints, in units of 2^-24 of the function, the largest error of each interval instead.
`bench/minimax.py` and tests/test_coefficients.py hold what is committed against the functions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

Function = Callable[[Any], Any]
DIGITS = 34
Wide = np.longdouble


def logistic(a: Any) -> Any:
    return 1 / (1 + mpmath.exp(-a))


def normal(a: Any) -> Any:
    """P(N > a)."""
    return mpmath.erfc(a / mpmath.sqrt(2)) / 2


def density(a: Any) -> Any:
    return mpmath.exp(-a * a / 2) / mpmath.sqrt(2 * mpmath.pi)


def argument(a: Any) -> Any:
    """gelu_tanh(x) = x logistic(argument(x))."""
    return 2 * mpmath.sqrt(2 / mpmath.pi) * (a + mpf("0.044715") * a**3)


def argument_slope(a: Any) -> Any:
    return 2 * mpmath.sqrt(2 / mpmath.pi) * (1 + 3 * mpf("0.044715") * a**2)


def mish_factor(x: Any) -> Any:
    """tanh(log(1 + e^x))."""
    w = mpmath.exp(x) * (mpmath.exp(x) + 2)
    return w / (w + 2)


def mish_rest(x: Any) -> Any:
    """x times the slope of mish_factor."""
    return x * logistic(x) * (1 - mish_factor(x) ** 2)


@dataclass
class Segmented:
    """A sum of terms, of which an error counts beside the largest; 16 intervals of length 1 / steps, or, where there
    is an offset, the quarter octaves of a + offset.
    """

    terms: tuple[Function, ...]
    steps: float
    order: int = 7
    signed: bool = False  # both sides of 0, and not |x|
    offset: float = 0.0
    end: float = np.inf

    def value(self, a: Any) -> Any:
        return sum(term(a) for term in self.terms)

    def size(self, a: Any) -> Any:
        return max(abs(term(a)) for term in self.terms)

    def interval(self, row: int) -> tuple[Any, Any]:
        if self.offset:
            first = int(np.float32(self.offset).view(np.int32)) >> 21
            ends = np.array([first + (row - first) % 16 + i for i in (0, 1)], np.int32) << 21
            low, high = (mpf(float(x)) - self.offset for x in ends.view(np.float32))
            return low, min(high, mpf(self.end))
        place = row - 16 if self.signed and row >= 8 else row
        low, high = (mpf(place) - mpf(1) / 2) / self.steps, (mpf(place) + mpf(1) / 2) / self.steps
        return (low if self.signed else max(low, mpf(0))), high


FUNCTIONS: dict[str, Segmented] = {
    "tanh": Segmented((mpmath.tanh,), 0, offset=0.625, end=9.1),
    "gelu": Segmented((lambda a: a * normal(a),), 3.5),
    "gelu_slope": Segmented((normal, lambda a: -a * density(a)), 3.25),
    "gelu_tanh": Segmented((lambda a: a * logistic(-argument(a)),), 3.75),
    "gelu_tanh_slope": Segmented(
        (
            lambda a: logistic(-argument(a)),
            lambda a: -a * argument_slope(a) * logistic(argument(a)) * logistic(-argument(a)),
        ),
        3.5,
    ),
    "sigmoid": Segmented((lambda a: logistic(-a),), 1.125),
    "silu": Segmented((lambda a: a * logistic(-a),), 1.375),
    "silu_slope": Segmented((lambda a: logistic(-a), lambda a: -a * logistic(a) * logistic(-a)), 1.375),
    "softplus": Segmented((lambda a: mpmath.log1p(mpmath.exp(-a)),), 1.0),
    "mish": Segmented((mish_factor,), 1.375, 8, True),
    "mish_slope": Segmented((mish_factor, mish_rest), 1.375, 8, True),
}


def wide(x: Any) -> Any:
    high = float(x)
    return Wide(high) + Wide(float(x - mpf(high)))


def best(r: Any, y: Any, weight: Any, first: int, count: int) -> Any:
    """c of the least largest weight |y - (c[0] r^first + c[1] r^(first + 1) + ...)|: Lawson's iteration."""
    scale = np.max(np.abs(r))
    powers = np.stack([(r / scale) ** (first + k) for k in range(count)], 1) * weight[:, None]
    target, share, found, least = y * weight, np.full(len(r), 1 / len(r)), None, np.inf
    for _ in range(150):
        root = np.sqrt(share)
        c = np.linalg.lstsq(
            (powers * root[:, None]).astype(float), (target * root).astype(float), rcond=None
        )[0]
        error = np.abs(powers @ c.astype(Wide) - target)
        worst = error.max()
        if worst < least:
            least, found = worst, c
        if worst == 0:
            break
        share = share * (error / worst).astype(float)
        share /= share.sum()
    return found.astype(Wide) / scale ** np.arange(first, first + count)


def middle_of(f: Segmented, low: Any, high: Any) -> np.float32:
    """0 where the function is 0; else see above."""
    if low <= 0 < high and f.value(mpf(0)) == 0:
        return np.float32(0)
    start = np.float32((low + high) / 2)
    if abs(start) < (high - low) / 64:
        start = np.float32((high - low) / 32)
    places = (float(start) + (-1) ** i * i * float(high - low) / 2**15 for i in range(8000))
    found, least = start, np.inf
    for m in map(np.float32, places):
        value = f.value(mpf(float(m)))
        error = abs(float((value - mpf(float(np.float32(float(value))))) / value)) * 2**24
        if error < least:
            found, least = m, error
        if error < 2**-8:
            break
    return found


def fit(f: Segmented, row: int) -> tuple[np.float32, list[np.float32], float]:
    """The middle, the coefficients and the largest error in units of 2^-24."""
    low, high = f.interval(row)
    middle = middle_of(f, low, high)
    count = 24 * (f.order + 1)
    angles = [mpmath.pi * (2 * i + 1) / (2 * count) for i in range(count)]
    points = [(low + high) / 2 + (high - low) / 2 * mpmath.cos(angle) for angle in angles]
    c = [np.float32(float(f.value(mpf(float(middle)))))]
    r = np.array([wide(x - mpf(float(middle))) for x in points])
    y = np.array([wide(f.value(x) - mpf(float(c[0]))) for x in points])
    weight = np.array([wide(1 / f.size(x)) for x in points])
    for k in range(1, f.order):
        c.append(np.float32(best(r, y, weight, k, f.order - k)[0]))
        y = y - Wide(c[-1]) * r**k
    return middle, c, float(np.max(np.abs(y * weight)) * 2**24)


def literal(x: np.float32) -> str:
    text = f"{x:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=", ".join(FUNCTIONS))
    parser.add_argument("--error", action="store_true", help="the errors instead of the tables")
    arguments = parser.parse_args()
    mpmath.mp.dps = DIGITS
    for name in arguments.name or FUNCTIONS:
        rows = [fit(FUNCTIONS[name], row) for row in range(16)]
        if arguments.error:
            print(f"{name:16}", " ".join(f"{error:.2f}" for _, _, error in rows), flush=True)
            continue
        print(f"// {name}")
        print(f"static constexpr float kMiddle[16] = {{{', '.join(literal(m) for m, _, _ in rows)}}};")
        terms = (", ".join(literal(c[k]) for _, c, _ in rows) for k in range(FUNCTIONS[name].order))
        print(f"static constexpr float kCoefficients[{FUNCTIONS[name].order}][16] = {{")
        print(",\n".join(f"{{{text}}}" for text in terms) + "};", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
