"""Shapes and orders."""

from __future__ import annotations

import numpy as np

import tensorsmith as ts
from cases import Case, normal

CASES = [
    Case("reshape", lambda x: ts.reshape(x, (4, -1)), lambda x: x.reshape(4, -1), [normal(2, 3, 4)], exact=True),
    Case("flatten", lambda x: ts.flatten(x, 1), lambda x: x.reshape(2, -1), [normal(2, 3, 2)], exact=True),
    Case("permute_dims", lambda x: ts.permute_dims(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), [normal(2, 3, 2)], exact=True),
    Case("swapaxes", lambda x: ts.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1), [normal(2, 3, 2)], exact=True),
    Case("moveaxis", lambda x: ts.moveaxis(x, 0, 2), lambda x: np.moveaxis(x, 0, 2), [normal(2, 3, 2)], exact=True),
    Case("matrix_transpose", ts.matrix_transpose, lambda x: x.swapaxes(-1, -2), [normal(2, 3, 2)], exact=True),
    Case("expand_dims", lambda x: ts.expand_dims(x, (0, 2)), lambda x: x[None, :, None], [normal(3, 2)], exact=True),
    Case("squeeze", lambda x: ts.squeeze(x, 1), lambda x: x[:, 0], [normal(3, 1, 2)], exact=True),
    Case("broadcast_to", lambda x: ts.broadcast_to(x, (2, 3, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), [normal(3, 1)], exact=True),
    Case("expand", lambda x: ts.expand(x, (2, -1, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), [normal(3, 1)], exact=True),
    Case("sum_to", lambda x: ts.sum_to(x, (3, 1)), lambda x: x.sum((0, 2))[:, None], [normal(2, 3, 4)], scale=8.0),
    Case("flip", lambda x: ts.flip(x, 1), lambda x: x[:, ::-1], [normal(2, 3)], exact=True),
    Case("roll", lambda x: ts.roll(x, 2, 1), lambda x: np.roll(x, 2, 1), [normal(2, 5)], exact=True),
    Case("tile", lambda x: ts.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), [normal(2, 3)], exact=True),
    Case("repeat", lambda x: ts.repeat(x, 2, 1), lambda x: np.repeat(x, 2, 1), [normal(2, 3)], exact=True),
    Case("concat", lambda a, b: ts.concat([a, b], 1), lambda a, b: np.concatenate([a, b], 1), [normal(2, 3), normal(2, 2)], exact=True),
    Case("concat flat", lambda a, b: ts.concat([a, b], None), lambda a, b: np.concatenate([a, b], None), [normal(2, 3), normal(2)], exact=True),
    Case("stack", lambda a, b: ts.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), [normal(2, 3), normal(2, 3)], exact=True),
    Case("split", lambda x: ts.split(x, [1, 3], 1), lambda x: np.split(x, [1, 3], 1), [normal(2, 5)], exact=True),
    Case("unstack", lambda x: ts.unstack(x, axis=1), lambda x: [x[:, i] for i in range(3)], [normal(2, 3)], exact=True),
    Case("tril", lambda x: ts.tril(x, 1), lambda x: np.tril(x, 1), [normal(3, 4)], exact=True),
    Case("triu", lambda x: ts.triu(x, -1), lambda x: np.triu(x, -1), [normal(3, 4)], exact=True),
]  # fmt: skip
