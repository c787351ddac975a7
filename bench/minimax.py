"""Every polynomial of csrc/math beside the best one of its degree.

    python bench/minimax.py [NAME ...]          # needs mpmath
    python bench/minimax.py --fit NAME          # and the coefficients of the best one, before rounding

A line a polynomial: how far the committed coefficients are from the function, in exact arithmetic, as a share of the
function's value in units of 2^-24 (float) or 2^-53 (double), and the least possible error by Remez exchange. Where the
first is far above the second, the coefficients' own rounding is the limit, or they can be fitted better. Whatever an
evaluation in registers adds is measured by accuracy.cpp.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
from mpmath import mpf

sys.path.insert(0, str(Path(__file__).resolve().parent))
from segments import FUNCTIONS, Segmented

SOURCE = Path(__file__).resolve().parent.parent / "csrc" / "math"
DIGITS = 50

Function = Callable[[Any], Any]


@dataclass
class Polynomial:
    """c[0] + c[1] v + c[2] v^2 + ... ~ target(x), v = variable(x), for low <= x <= high; the error counts times
    weight(x).
    """

    name: str
    unit: Any  # 2^-24 or 2^-53
    coefficients: list[Any]
    target: Function
    weight: Function
    low: Any
    high: Any
    variable: Function = lambda x: x

    def points(self, count: int) -> list[Any]:
        """Denser towards the ends, where the extremes are close together."""
        middle, half = (mpf(self.low) + self.high) / 2, (mpf(self.high) - self.low) / 2
        angles = (mpmath.pi * (2 * i + 1) / (2 * count) for i in range(count))
        return [middle + half * mpmath.cos(a) for a in angles]

    def committed(self, grid: list[Any]) -> Any:
        """The largest weighted error of the committed coefficients, in units."""
        reversed_ = self.coefficients[::-1]
        errors = (
            self.weight(x) * (mpmath.polyval(reversed_, self.variable(x)) - self.target(x)) for x in grid
        )
        return max(map(abs, errors)) / self.unit

    def best(self, grid: list[Any]) -> tuple[Any, list[Any]]:
        """The least largest error on the grid, in units, and the coefficients that have it: Remez's exchange."""
        order = len(self.coefficients)
        rows = [(self.variable(x), abs(self.weight(x)), self.target(x)) for x in grid]
        step = len(grid) / (order + 1)
        chosen = [min(int(step * (i + 0.5)), len(grid) - 1) for i in range(order + 1)]
        for _ in range(60):
            system, right = mpmath.matrix(order + 1), mpmath.matrix(order + 1, 1)
            for i, j in enumerate(chosen):
                v, w, y = rows[j]
                for k in range(order):
                    system[i, k] = w * v**k
                system[i, order] = (-1) ** i
                right[i] = w * y
            solution = mpmath.lu_solve(system, right)
            c = list(solution[:order])[::-1]
            errors = [w * (mpmath.polyval(c, v) - y) for v, w, y in rows]
            # One extreme of each run of equal sign; where there are too many, pairs of neighbours or an end go.
            extremes: list[int] = []
            for j, e in enumerate(errors):
                if extremes and (errors[extremes[-1]] > 0) == (e > 0):
                    if abs(e) > abs(errors[extremes[-1]]):
                        extremes[-1] = j
                else:
                    extremes.append(j)
            while len(extremes) > order + 1:
                sizes = [abs(errors[j]) for j in extremes]
                least = sizes.index(min(sizes))
                if 0 < least < len(extremes) - 1 and len(extremes) > order + 2:
                    first = least if sizes[least + 1] < sizes[least - 1] else least - 1
                    del extremes[first : first + 2]
                else:
                    del extremes[0 if sizes[0] < sizes[-1] else -1]
            worst = max(map(abs, errors))
            if len(extremes) < order + 1 or worst <= abs(solution[order]) * mpf("1.001"):
                return worst / self.unit, c[::-1]
            chosen = extremes
        raise RuntimeError(f"{self.name}: the exchange does not settle")


# --- what the sources say --------------------------------------------------------------------------


def numbers(text: str, unit: Any) -> list[Any]:
    """The literals, as the compiler rounds them."""
    bits = 24 if unit == mpf(2) ** -24 else 53
    found = re.findall(r"(?<![\w.])[-+]?\d+\.?\d*(?:e[-+]?\d+)?(?=f?\b)", text)
    with mpmath.workprec(bits):
        return [+mpf(number) for number in found]


def table(source: str, name: str, unit: Any) -> list[Any]:
    """The numbers of `name = {...}`."""
    found = re.search(rf"\b{name}(?:\[\d+\])* = \{{(.*?)\}};", source, re.DOTALL)
    if not found:
        raise KeyError(f"no table {name!r}")
    return numbers(found[1], unit)


def square(x: Any) -> Any:
    return x * x


def normal_tail(x: Any) -> Any:
    """P(N > x) e^(x^2/2)."""
    return mpmath.erfc(x / mpmath.sqrt(2)) / 2 * mpmath.exp(x * x / 2)


def tail_place(u: Any) -> Any:
    """x, of which u = (x - 4) / (x + 4)."""
    return 4 * (1 + u) / (1 - u)


def atanh_series(s: Any) -> Any:
    """p(s^2) of log((1 + s) / (1 - s)) = 2 s + s^3 p(s^2)."""
    return (2 * mpmath.atanh(s) - 2 * s) / s**3


def odd(f: Function) -> tuple[Function, Function]:
    """p(x^2) of f(x) = x + x^3 p(x^2), and what it weighs."""
    return lambda x: (f(x) - x) / x**3, lambda x: x**3 / f(x)


def logarithm(base: Any) -> tuple[Function, Function]:
    """p(r) of log_base(1 + r) = r / log(base) + r^2 p(r)."""
    scale = mpmath.log(base)
    return lambda r: (mpmath.log1p(r) - r) / scale / r**2, lambda r: r**2 * scale / mpmath.log1p(r)


def normal_tail_from(tail_0: Any) -> tuple[Function, Function]:
    """p(u) of normal_tail(x) = v (tail_0 + u p(u)), v = 1 / (x + 4)."""

    def target(u: Any) -> Any:
        return (normal_tail(tail_place(u)) * (tail_place(u) + 4) - tail_0) / u

    return target, lambda u: u / (tail_place(u) + 4) / normal_tail(tail_place(u))


def of_the_kernels() -> Iterator[Polynomial]:
    """coefficients.h, power.h and box_muller.h."""
    ln2, pi, half = mpmath.ln2, mpmath.pi, mpf(1) / 2
    float_unit, double_unit = mpf(2) ** -24, mpf(2) ** -53
    short, long = (SOURCE / "coefficients.h").read_text().split("struct Coefficients<double>")
    for kind, text, unit in (("float", short, float_unit), ("double", long, double_unit)):
        highest = mpf(15) if kind == "float" else mpf("39.5")  # tail_highest
        tail = normal_tail_from(sum(table(text, "tail_0", unit)))
        exp = (lambda r: (mpmath.exp(r) - 1 - r) / r**2, lambda r: r**2 / mpmath.exp(r))
        cos = (lambda r: (mpmath.cos(r) - 1 + r * r / 2) / r**4, lambda r: r**4 / mpmath.cos(r))
        for name, (target, weight), low, high, variable in (
            ("exp", exp, -ln2 / 2, ln2 / 2, None),
            ("sin", odd(mpmath.sin), 0, pi / 4, square),
            ("cos", cos, 0, pi / 4, square),
            ("tan", odd(mpmath.tan), 0, pi / 4, square),
            ("atan", odd(mpmath.atan), 0, mpmath.tan(pi / 8), square),
            ("asin", odd(mpmath.asin), 0, half, square),
            ("sinh", odd(mpmath.sinh), 0, mpf("0.46") if kind == "float" else mpf(1), square),
            ("erf", (lambda x: mpmath.erf(x) / x - 1, lambda x: x / mpmath.erf(x)), 0, mpf(1), square),
            ("tail", tail, mpf(-1), (highest - 4) / (highest + 4), None),
        ):
            c = table(text, name, unit)
            yield Polynomial(f"{kind} {name}", unit, c, target, weight, low, high, variable or (lambda x: x))

    def far_tail(z: Any) -> Any:
        """P(N > a) a e^(a^2/2) e^-far_tail_log, z = 1 / a^2."""
        a = 1 / mpmath.sqrt(z)
        return a * normal_tail(a) * far_0 * mpmath.sqrt(2 * mpmath.pi)

    far_0 = numbers(re.search(r"far_tail_0 = (\S+),", short)[1], float_unit)[0]
    c = table(short, "far_tail", float_unit)
    yield Polynomial(
        "float far_tail", float_unit, c, lambda z: (far_tail(z) - far_0) / z, lambda z: z / far_tail(z),
        1 / mpf(15) ** 2, 1 / mpf("4.4") ** 2,
    )  # fmt: skip

    cosh = (lambda r: (mpmath.cosh(r) - 1 - r * r / 2) / r**4, lambda r: r**4 / mpmath.cosh(r))
    c = table(short, "cosh", float_unit)
    yield Polynomial("float cosh", float_unit, c, *cosh, 0, mpf("0.46"), square)

    def exp2_rest(f: Any) -> Any:
        return (mpf(2) ** f - 1) / f

    c = table(short, "exp2", float_unit)
    yield Polynomial("float exp2", float_unit, c, exp2_rest, lambda f: f / mpf(2) ** f, -half, half)
    low, high = -mpf(1) / 30, mpf(1) / 16
    for name, base in (("log", mpmath.e), ("log2", mpf(2)), ("log10", mpf(10))):
        c = table(short, name, float_unit)
        yield Polynomial(f"float {name}", float_unit, c, *logarithm(base), low, high)
    slope = sum(table(short, "power_slope", float_unit))

    def power_rest(r: Any) -> Any:
        return ((mpmath.log1p(r) / ln2 / r - 1 / ln2) / r - slope) / r

    # An absolute error of log2: the exponent multiplies it.
    c = table(short, "power", float_unit)
    yield Polynomial("float power", float_unit, c, power_rest, lambda r: r**3, low, high)

    c = table(long, "log", double_unit)
    yield Polynomial("double log", double_unit, c, *logarithm(mpmath.e), low, high)
    slopes = (
        1 / ln2,
        sum(table(long, "power_slope", double_unit)),
        sum(table(long, "power_cubic", double_unit)),
    )

    def pair_rest(r: Any) -> Any:
        y = mpmath.log1p(r) / ln2 / r
        for known in slopes:
            y = (y - known) / r
        return y

    # Beside the pair's last place: 12 bits past a double's.
    c = table(long, "power", double_unit)
    yield Polynomial("double power", double_unit / 2**12, c, pair_rest, lambda r: r**3 * ln2, low, high)
    largest = (mpmath.sqrt(2) - 1) ** 2  # (sqrt 2 - 1) / (sqrt 2 + 1)
    c = table(long, "log_quotient", double_unit)
    yield Polynomial(
        "double log by a quotient", double_unit, c, atanh_series, lambda s: s**2 / 2, 0, largest, square
    )

    def sine(t: Any) -> Any:
        return mpmath.sin(pi / 2 * t) / t

    def cosine(t: Any) -> Any:
        return mpmath.cos(pi / 2 * t)

    short, long = (SOURCE / "box_muller.h").read_text().split("struct BoxMullerTable<double>")
    for kind, text, unit in (("float", short, float_unit), ("double", long, double_unit)):
        for name, target, weight, end in (
            ("sine", sine, lambda t: 1 / sine(t), half),
            ("cosine", cosine, lambda t: 1 / cosine(t), half),
            ("log", atanh_series, lambda s: s**2 / 2, largest),
        ):
            c = table(text, name, unit)[::-1]
            yield Polynomial(f"{kind} Box-Muller {name}", unit, c, target, weight, 0, end, square)


def segment(f: Function, middle: Any, value: Any) -> tuple[Function, Function]:
    """p(r) of f(middle + r) = value + r p(r)."""
    return lambda r: (f(middle + r) - value) / r, lambda r: r / f(middle + r)


def of_table(name: str, f: Segmented, source: str, unit: Any) -> Iterator[Polynomial]:
    """The 16 polynomials of one function of segments.py."""
    middles, numbers_ = table(source, "kMiddle", unit), table(source, "kCoefficients", unit)
    for row in range(16):
        low, high = f.interval(row)
        c, middle = numbers_[row::16], middles[row]
        crosses = middle == 0 and c[0] == 0

        def target(r: Any, middle: Any = middle, crosses: bool = crosses) -> Any:
            return f.value(middle + r) / (r if crosses else 1)

        def weight(r: Any, middle: Any = middle, crosses: bool = crosses) -> Any:
            return (r if crosses else 1) / f.size(middle + r)

        yield Polynomial(
            f"{name} from {mpmath.nstr(low, 4)}", unit, c[1:] if crosses else c, target, weight, low - middle,
            high - middle,
        )  # fmt: skip


def by_segments() -> Iterator[Polynomial]:
    """segments.h and decay.h: 16 polynomials around the middles of intervals."""
    unit = mpf(2) ** -24
    parts = re.split(r"TS_INLINE V (?=\w+_by_segments)", (SOURCE / "segments.h").read_text())
    sources = {part.split("_by_segments")[0]: part for part in parts[1:]}
    parts = re.split(r"\nstruct (?=\w+Table)", (SOURCE / "decay.h").read_text())
    for part in parts[1:]:
        camel = part.split("Table")[0]
        sources[re.sub(r"(?<!^)(?=[A-Z])", "_", camel).lower()] = part
    for name, f in FUNCTIONS.items():
        yield from of_table(name, f, sources[name], unit)
    source = sources["erf"]
    middles, values = table(source, "kMiddle", unit), table(source, "kValue", unit)
    numbers_ = table(source, "kCoefficients", unit)
    for i in range(16):  # quarter octaves from 1/4 on; a itself is the value in the first
        low, high = (mpf(2) ** (k // 4 - 2) * (1 + mpf(k % 4) / 4) for k in (i, i + 1))
        if i == 0:
            low = mpf(0)
        target, weight = segment(mpmath.erf, middles[i], values[i])
        if i == 0:
            target = lambda r: mpmath.erf(r) / r - 1  # noqa: E731
        name = f"erf from {mpmath.nstr(low, 4)}"
        high = min(high, mpf("3.95"))
        yield Polynomial(
            name, unit, numbers_[i::16], target, weight, low - middles[i], high - middles[i]
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="only those whose name contains one of these")
    parser.add_argument("--fit", action="store_true", help="print the best coefficients as well")
    arguments = parser.parse_args()
    mpmath.mp.dps = DIGITS
    print(f"{'':26} terms  committed   best, in units of the last place")
    for polynomial in (*of_the_kernels(), *by_segments()):
        if arguments.name and not any(name in polynomial.name for name in arguments.name):
            continue
        order = len(polynomial.coefficients)
        grid = polynomial.points(24 * (order + 1))
        error = polynomial.committed(grid)
        best, fitted = polynomial.best(grid)
        print(f"{polynomial.name:26} {order:5}  {float(error):9.5f}  {float(best):9.5f}", flush=True)
        if arguments.fit:
            print("    " + ", ".join(mpmath.nstr(c, 20) for c in fitted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
