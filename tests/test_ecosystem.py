"""Other libraries on our tensors through the array standard: scikit-learn, SciPy, einops; skipped where absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
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
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MinMaxScaler, StandardScaler
x, y = make_classification(200, 8, random_state=0)
X, Y = ts.asarray(x), ts.asarray(y)
with sklearn.config_context(array_api_dispatch=True):
    for estimator in {estimators}:
        ours, theirs = sklearn.clone(estimator), sklearn.clone(estimator)
        a = ours.fit(X, Y)
        b = theirs.fit(x, y)
        for method in ("transform", "predict", "predict_proba", "score_samples"):
            if hasattr(ours, method):
                got, expected = getattr(a, method)(X), getattr(b, method)(x)
                assert isinstance(got, ts.Tensor), (estimator, type(got))
                np.testing.assert_allclose(np.abs(got.numpy()), np.abs(expected), rtol=1e-6, atol=1e-8)
    from sklearn.model_selection import cross_val_score
    for estimator in (LinearDiscriminantAnalysis(), Ridge(solver="svd")):
        np.testing.assert_allclose(cross_val_score(estimator, X, Y), cross_val_score(estimator, x, y), rtol=1e-10)
"""


def run(script: str) -> None:
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


DECOMPOSING = (
    '[PCA(3, svd_solver="full"), PCA(3, svd_solver="covariance_eigh"), Ridge(solver="svd"), RidgeCV(), '
    "LinearDiscriminantAnalysis(), LogisticRegression(), GaussianNB(), "
    'GaussianMixture(2, init_params="random_from_data", random_state=0)]'
)


@pytest.mark.parametrize("estimators", ["[StandardScaler(), MinMaxScaler()]", DECOMPOSING])
def test_scikit_learn(estimators: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    run(SCRIPT.format(estimators=estimators))


def test_scipy() -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed")
    run(
        """
import numpy as np, tensorsmith as ts
ts.set_default_dtype("float64")
import scipy.cluster.vq, scipy.fft, scipy.integrate, scipy.ndimage, scipy.signal, scipy.special, scipy.stats
from scipy import fft, ndimage, signal, special, stats
rng = np.random.default_rng(0)
x, v, w, image = (rng.standard_normal(s) for s in ((50, 3), 64, 9, (12, 16)))
p, sos = np.abs(x) + 0.1, signal.butter(4, 0.3, output="sos")
CASES = [
    *((getattr(special, f), p) for f in ("expit", "entr", "ndtr", "log_ndtr", "erf", "i0", "gammaln", "softmax")),
    *((getattr(special, f), p, p[::-1].copy()) for f in ("xlogy", "rel_entr", "gammainc", "gammaincc", "chdtr")),
    (lambda a: special.logsumexp(a, axis=0), x), (special.logit, 1 / (1 + p)), (special.ndtri, 1 / (1 + p)),
    *((getattr(stats, f), x) for f in ("zscore", "skew", "kurtosis", "moment", "variation", "sem", "iqr", "circmean")),
    *((getattr(stats, f), p) for f in ("gmean", "hmean", "entropy")), (stats.rankdata, x), (stats.zmap, x, x),
    *((lambda a, f=f: f(a).statistic, x) for f in (stats.skewtest, stats.normaltest, stats.jarque_bera)),
    (lambda a, b: stats.ttest_ind(a, b).pvalue, x[:, 0].copy(), x[:, 1].copy()),
    (lambda a, b: stats.pearsonr(a, b).statistic, x[:, 0].copy(), x[:, 1].copy()),
    (lambda a, b: stats.mannwhitneyu(a, b).pvalue, x[:, 0].copy(), x[:, 1].copy()),
    *((getattr(ndimage, f), image) for f in ("sobel", "laplace", "uniform_filter", "spline_filter", "variance")),
    (lambda a: ndimage.gaussian_filter(a, 1.0), image), (lambda a: ndimage.rotate(a, 30.0), image),
    (lambda a: ndimage.zoom(a, 2.0), image), (ndimage.convolve, image, w.reshape(3, 3)),
    *((getattr(signal, f), v, w) for f in ("convolve", "fftconvolve", "oaconvolve", "correlate")),
    *((getattr(signal, f), v) for f in ("hilbert", "detrend", "medfilt", "wiener")), (signal.sosfilt, sos, v),
    (lambda a: signal.resample_poly(a, 3, 2), v), (lambda a: signal.savgol_filter(a, 5, 2), v),
    *((getattr(fft, f), image) for f in ("fft", "ifft", "rfft", "irfft", "hfft", "rfftn", "dct", "idct", "dctn")),
    (scipy.integrate.trapezoid, v), (scipy.integrate.cumulative_trapezoid, v), (scipy.cluster.vq.whiten, x),
]
for f, *arrays in CASES:
    got, expected = f(*(ts.asarray(a.copy()) for a in arrays)), f(*arrays)
    assert isinstance(got, ts.Tensor), (f, type(got))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-11, err_msg=str(f))
"""
    )


def test_einops() -> None:
    einops: Any = pytest.importorskip("einops", reason="einops is not installed")
    import einops.array_api as ops

    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for name, pattern, options in (
        ("rearrange", "b c d -> d (b c)", {}),
        ("rearrange", "b c (d e) -> b d c e", {"e": 2}),
        ("repeat", "b c d -> b c d k", {"k": 2}),
        *(("reduce", "b c d -> d b", {"reduction": r}) for r in ("sum", "mean", "max", "min", "prod")),
    ):
        got = getattr(ops, name)(ts.asarray(x), pattern, **options)
        assert isinstance(got, ts.Tensor)
        np.testing.assert_allclose(got.numpy(), getattr(einops, name)(x, pattern, **options), rtol=1e-12)
    packed, shapes = ops.pack([ts.asarray(x), ts.asarray(x[:, 0])], "b * d")
    expected, same = einops.pack([x, x[:, 0]], "b * d")
    assert shapes == same
    np.testing.assert_array_equal(packed.numpy(), expected)
    for part, whole in zip(ops.unpack(packed, shapes, "b * d"), einops.unpack(expected, same, "b * d")):
        np.testing.assert_array_equal(part.numpy(), whole)
    # What finds its backend by the type of the array knows a list of libraries, and names what it does not know.
    with pytest.raises(RuntimeError, match="tensorsmith"):
        einops.einsum(ts.asarray(x), ts.asarray(x), "b c d, b e d -> b c e")


EXAMPLES = {"scikit_learn": "sklearn", "scipy_on_tensors": "scipy", "einops_on_tensors": "einops"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    pytest.importorskip(EXAMPLES[name], reason=f"{EXAMPLES[name]} is not installed")
    run((Path(__file__).parents[1] / "examples" / f"{name}.py").read_text())
