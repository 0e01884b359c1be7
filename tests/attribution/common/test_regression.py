import numpy as np
import torch
from sklearn.linear_model import Ridge

from pcam_agreement.attribution.common import regression


def test_a_weighted_ridge_regression_is_scikit_learns():
    random = np.random.default_rng(0)
    z, target, weights = random.integers(0, 2, (3, 40, 7)), random.normal(size=(3, 40)), random.random((3, 40))
    fit = regression.weighted_ridge(*map(torch.from_numpy, (z.astype(float), target, weights)), 1.0)
    for row in range(3):
        model = Ridge(alpha=1.0, fit_intercept=False).fit(z[row], target[row], sample_weight=weights[row])
        np.testing.assert_allclose(fit.coefficients[row], model.coef_, rtol=1e-8)
