"""SciPy on tensors: with SCIPY_ARRAY_API=1 its array-API functions take ours and return them."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # read when SciPy is first imported

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats

import tensorsmith as ts

ts.set_default_dtype("float64")
rng = np.random.default_rng(0)
signal, kernel = rng.standard_normal(256), np.hanning(9)
image, table = rng.standard_normal((32, 48)), rng.standard_normal((50, 3))

for name, function, arrays in [
    ("special.logsumexp", lambda x: scipy.special.logsumexp(x, axis=0), [table]),
    ("special.expit", scipy.special.expit, [table]),
    ("stats.zscore", scipy.stats.zscore, [table]),
    ("stats.ttest_ind", lambda a, b: scipy.stats.ttest_ind(a, b).pvalue, [table, table[::-1] + 0.1]),
    ("ndimage.gaussian_filter", lambda x: scipy.ndimage.gaussian_filter(x, 1.5), [image]),
    ("signal.fftconvolve", scipy.signal.fftconvolve, [signal, kernel]),
    ("signal.hilbert", scipy.signal.hilbert, [signal]),
    ("fft.dctn", scipy.fft.dctn, [image]),
]:
    ours, theirs = function(*map(ts.asarray, arrays)), function(*arrays)
    error = np.abs(ours.numpy() - theirs).max()
    print(f"scipy.{name}: a {type(ours).__name__}, off by {error:.1e} from NumPy's")
    assert isinstance(ours, ts.Tensor) and error < 1e-10
