"""scikit-learn on tensors: with array_api_dispatch its estimators take ours, compute on them and return them."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read when SciPy is first imported

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

import tensorsmith as ts

ts.set_default_dtype("float64")
pixels, digits = load_digits(return_X_y=True)
chosen = digits < 2
x, y = pixels[chosen][:, pixels[chosen].std(0) > 0], digits[chosen]
X, Y = ts.asarray(x), ts.asarray(y)

with sklearn.config_context(array_api_dispatch=True):
    scaled, expected = StandardScaler().fit_transform(X), StandardScaler().fit_transform(x)
    for estimator, method in [
        (PCA(3, svd_solver="full"), "transform"),
        (Ridge(solver="svd"), "predict"),
        (LinearDiscriminantAnalysis(), "predict"),
        (LogisticRegression(), "predict_proba"),
        (GaussianMixture(2, init_params="random_from_data", reg_covar=1e-2, random_state=0), "score_samples"),
    ]:
        ours = getattr(sklearn.clone(estimator).fit(scaled, Y), method)(scaled)
        theirs = getattr(sklearn.clone(estimator).fit(expected, y), method)(expected)
        error = np.abs(np.abs(ours.numpy()) - np.abs(theirs)).max() / np.abs(theirs).max()
        print(
            f"{type(estimator).__name__}.{method}: a {type(ours).__name__}, off by {error:.1e} from NumPy's"
        )
        assert isinstance(ours, ts.Tensor) and error < 1e-6
    scores = cross_val_score(LinearDiscriminantAnalysis(), scaled, Y)
    print(f"cross validation: {scores.mean():.4f} right")
