"""Other libraries on our tensors through the array standard: scikit-learn, SciPy, einops; skipped where absent."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts

# SciPy reads its switch when it is first imported.
SCRIPT = """
import numpy as np, tensorsmith as ts
ts.set_default_dtype("float64")
import sklearn
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler
x, y = make_classification(200, 8, random_state=0)
X, Y = ts.asarray(x), ts.asarray(y)
with sklearn.config_context(array_api_dispatch=True):
    for estimator in {estimators}:
        ours, theirs = sklearn.clone(estimator), sklearn.clone(estimator)
        a = ours.fit(X, Y)
        b = theirs.fit(x, y)
        for method in ("transform", "predict"):
            if hasattr(ours, method):
                got, expected = getattr(a, method)(X), getattr(b, method)(x)
                assert isinstance(got, ts.Tensor), (estimator, type(got))
                np.testing.assert_allclose(np.abs(got.numpy()), np.abs(expected), rtol=1e-6, atol=1e-8)
"""


def run(script: str) -> None:
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


DECOMPOSING = '[PCA(3, svd_solver="full"), Ridge(solver="svd"), LinearDiscriminantAnalysis()]'


@pytest.mark.parametrize("estimators", ["[StandardScaler(), MinMaxScaler()]", DECOMPOSING])
def test_scikit_learn(estimators: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    if estimators is DECOMPOSING and not hasattr(ts.linalg, "svd"):
        pytest.skip("there is no singular value decomposition yet")
    run(SCRIPT.format(estimators=estimators))


def test_scipy() -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed")
    run(
        """
import numpy as np, tensorsmith as ts
ts.set_default_dtype("float64")
import scipy.special, scipy.stats
x = np.random.default_rng(0).standard_normal((50, 3))
X = ts.asarray(x)
for f in (lambda v: scipy.special.logsumexp(v, axis=0), lambda v: scipy.special.softmax(v, axis=1),
          lambda v: scipy.stats.zscore(v, axis=0), lambda v: scipy.stats.skew(v, axis=0),
          lambda v: scipy.stats.kurtosis(v, axis=0), lambda v: scipy.stats.moment(v, 3, axis=0)):
    got, expected = f(X), f(x)
    assert isinstance(got, ts.Tensor), type(got)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10, atol=1e-12)
"""
    )


def test_einops() -> None:
    einops: Any = pytest.importorskip("einops", reason="einops is not installed")
    import einops.array_api as ops

    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for name, pattern, options in (
        ("rearrange", "b c d -> d (b c)", {}),
        ("repeat", "b c d -> b c d k", {"k": 2}),
    ):
        got = getattr(ops, name)(ts.asarray(x), pattern, **options)
        assert isinstance(got, ts.Tensor)
        np.testing.assert_array_equal(got.numpy(), getattr(einops, name)(x, pattern, **options))
    got = ops.reduce(ts.asarray(x), "b c d -> b", "sum")
    np.testing.assert_allclose(got.numpy(), x.sum((1, 2)))
