"""Images in other sizes, padding, the rarer pools, and sparse products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import tensorsmith as ts
from cases import Case, apart, integers, normal, off_zero, uniform
from tensorsmith.nn import functional as F


def windows(n: int, m: int) -> list[slice]:
    return [slice(i * n // m, -((i + 1) * n // -m)) for i in range(m)]


def adaptive(x: np.ndarray, m: int, f: object) -> np.ndarray:
    for axis in (-2, -1):
        parts = [f(np.moveaxis(x, axis, 0)[w], axis=0) for w in windows(x.shape[axis], m)]  # type: ignore[operator]
        x = np.stack(parts, axis)
    return x


def linear(x: np.ndarray, m: int, axis: int, align: bool = False) -> np.ndarray:
    n = x.shape[axis]
    at = np.arange(m) * (n - 1) / (m - 1) if align else np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    points = np.moveaxis(x, axis, -1)
    flat = [np.interp(at, np.arange(n), row) for row in points.reshape(-1, n)]
    return np.moveaxis(np.reshape(flat, (*points.shape[:-1], m)), -1, axis)


def cubic(x: np.ndarray, m: int, axis: int) -> np.ndarray:
    n, a = x.shape[axis], -0.75
    matrix = np.zeros((m, n))
    for i in range(m):
        at = (i + 0.5) * n / m - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            d = abs(at - j)
            near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[i, min(max(j, 0), n - 1)] += near if d <= 1 else far
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def sampled(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    y = np.zeros((n, c, *grid.shape[1:3]))
    for b, p, q in np.ndindex(n, *grid.shape[1:3]):
        col, row = ((grid[b, p, q] + 1) * (w, h) - 1) / 2
        for i in (int(np.floor(row)), int(np.floor(row)) + 1):
            for j in (int(np.floor(col)), int(np.floor(col)) + 1):
                if 0 <= i < h and 0 <= j < w:
                    y[b, :, p, q] += x[b, :, i, j] * (1 - abs(row - i)) * (1 - abs(col - j))
    return y


def inside_of(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The points at the border instead of outside."""
    ends = 1 - 1 / np.array([x.shape[3], x.shape[2]])
    return np.clip(grid, -ends, ends)


def dense(starts: np.ndarray, columns: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    matrix = np.zeros((len(starts) - 1, n))
    for m in range(len(starts) - 1):
        for k in range(starts[m], starts[m + 1]):
            matrix[m, columns[k]] += values[k]
    return matrix


STARTS, COLUMNS = np.array([0, 2, 2, 5, 9]), np.array([1, 4, 0, 1, 4, 2, 2, 3, 0])


def product(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return dense(STARTS, COLUMNS, values, 5) @ x


def segment_means(x: np.ndarray) -> np.ndarray:
    return np.stack([x[a:b].mean(0) if b > a else 0 * x[0] for a, b in pairwise(STARTS)])


def reduced_places(x: np.ndarray, source: np.ndarray, index: np.ndarray, f: np.ufunc) -> np.ndarray:
    y = x.copy()
    for i, j in np.ndindex(index.shape):
        y[index[i, j], j] = f(y[index[i, j], j], source[i, j])
    return y


IMAGE = normal(2, 2, 5, 7)
INDEX = integers(0, 4, 6, 3)
PADS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": "constant"}

CASES = [
    Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), lambda x: adaptive(x, 3, np.mean), [IMAGE], tolerance=8, scale=2.0, large=[normal(8, 16, 30, 31)]),
    Case("adaptive_avg_pool2d 1", lambda x: F.adaptive_avg_pool2d(x, 1), lambda x: x.mean((2, 3), keepdims=True), [IMAGE], tolerance=8, scale=2.0),
    Case("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 3), lambda x: adaptive(x, 3, np.max), [apart(2, 2, 5, 7)], exact=True),
    Case("max_pool1d", lambda x: F.max_pool1d(x, 2), lambda x: x.reshape(2, 3, 4, 2).max(-1), [apart(2, 3, 8)], exact=True),
    Case("avg_pool1d", lambda x: F.avg_pool1d(x, 2), lambda x: x.reshape(2, 3, 4, 2).mean(-1), [normal(2, 3, 8)], scale=1.0),
    Case("max_pool3d", lambda x: F.max_pool3d(x, 2), lambda x: x.reshape(1, 2, 2, 2, 2, 2, 3, 2).max((3, 5, 7)), [apart(1, 2, 4, 4, 6)], exact=True),
    Case("avg_pool3d", lambda x: F.avg_pool3d(x, 2), lambda x: x.reshape(1, 2, 2, 2, 2, 2, 3, 2).mean((3, 5, 7)), [normal(1, 2, 4, 4, 6)], tolerance=8, scale=1.0),
    Case("lp_pool1d", lambda x: F.lp_pool1d(x, 3.0, 2), lambda x: (x.reshape(2, 3, 4, 2) ** 3).sum(-1) ** (1 / 3), [uniform(0.2, 2, 2, 3, 8)], tolerance=24, scale=1.0),
    Case("interpolate nearest", lambda x: F.interpolate(x, (3, 10)), lambda x: x[:, :, np.arange(3) * 5 // 3][..., np.arange(10) * 7 // 10], [IMAGE], exact=True),
    *(Case(f"interpolate bilinear {a}", lambda x, a=a: F.interpolate(x, (8, 4), mode="bilinear", align_corners=a), lambda x, a=a: linear(linear(x, 8, 2, a), 4, 3, a), [IMAGE], tolerance=16, scale=2.0, large=[normal(2, 16, 40, 40)]) for a in (False, True)),
    Case("interpolate trilinear", lambda x: F.interpolate(x, (3, 4, 2), mode="trilinear"), lambda x: linear(linear(linear(x, 3, 2), 4, 3), 2, 4), [normal(1, 2, 2, 3, 4)], tolerance=16, scale=2.0),
    Case("interpolate bicubic", lambda x: F.interpolate(x, (8, 4), mode="bicubic"), lambda x: cubic(cubic(x, 8, 2), 4, 3), [IMAGE], tolerance=32, scale=4.0),
    *(Case(f"pad {m}", lambda x, m=m: F.pad(x, (1, 2, 3, 0), m), lambda x, m=m: np.pad(x, ((0, 0), (0, 0), (3, 0), (1, 2)), PADS[m]), [IMAGE], exact=True) for m in PADS),  # type: ignore[call-overload]
    Case("pad less", lambda x: F.pad(x, (-1, -2)), lambda x: x[..., 1:-2], [IMAGE], exact=True),
    Case("grid_sample", F.grid_sample, sampled, [IMAGE, uniform(-1.3, 1.3, 2, 3, 4, 2)], tolerance=64, scale=4.0),
    Case("grid_sample border", lambda x, g: F.grid_sample(x, g, padding_mode="border"), lambda x, g: sampled(x, inside_of(x, g)), [IMAGE, uniform(-1.3, 1.3, 2, 3, 4, 2)], tolerance=64, scale=4.0),
    Case("affine_grid", lambda t: F.affine_grid(t, (2, 1, 3, 4)), lambda t: np.einsum("hwk,njk->nhwj", np.stack([*np.meshgrid(np.arange(-3, 4, 2) / 4, np.arange(-2, 3, 2) / 3), np.ones((3, 4))], -1), t), [normal(2, 2, 3)], tolerance=16, scale=3.0),
    Case("csr_matmul", lambda x, v: ts.csr_matmul(x, STARTS, COLUMNS, v), product, [normal(5, 6), normal(9)], tolerance=16, scale=4.0),
    Case("csr_matmul last axis", lambda x, v: ts.csr_matmul(x, STARTS, COLUMNS, v, 1), lambda x, v: product(x.T, v).T, [normal(6, 5), normal(9)], tolerance=16, scale=4.0),
    Case("csr_matmul ones", lambda x: ts.csr_matmul(x, STARTS, COLUMNS), lambda x: product(x, np.ones(9)), [normal(5, 3)], tolerance=16, scale=4.0, large=[normal(5, 50_000)]),
    Case("segment_reduce mean", lambda x: ts.segment_reduce(x, STARTS, "mean"), segment_means, [normal(9, 2)], scale=2.0),
    Case("segment_reduce max", lambda x: ts.segment_reduce(x, [0, 3, 4], "max"), lambda x: np.stack([x[:3].max(0), x[3]]), [apart(4, 3)], exact=True),
    Case("scatter_reduce prod", lambda x, s, i: ts.scatter_reduce(x, 0, i, s, "prod"), lambda x, s, i: reduced_places(x, s, i, np.multiply), [off_zero(4, 3), off_zero(6, 3), INDEX], tolerance=16, scale=1.0),
    Case("scatter_reduce amax", lambda x, s, i: ts.scatter_reduce(x, 0, i, s, "amax"), lambda x, s, i: reduced_places(x, s, i, np.maximum), [apart(4, 3), normal(6, 3), INDEX], exact=True),
    Case("scatter_reduce amin", lambda x, s, i: ts.scatter_reduce(x, 0, i, s, "amin"), lambda x, s, i: reduced_places(x, s, i, np.minimum), [apart(4, 3), normal(6, 3), INDEX], exact=True),
    Case("scatter_reduce mean", lambda x, s: ts.scatter_reduce(x, 0, [[0], [0], [2]], s, "mean"), lambda x, s: np.concatenate([(x[:1] + s[:1] + s[1:2]) / 3, x[1:2], (x[2:] + s[2:]) / 2]), [normal(3, 1), normal(3, 1)], scale=2.0),
]  # fmt: skip
