"""Perturbation samples: balance, and what it does for a regression."""

import itertools

import numpy as np
import pytest
import torch

from pcam_agreement.attribution.common import regression, sampling

SAMPLING = {"independent": sampling.independent, "orthogonal": sampling.orthogonal}


def test_orthogonal_samples_are_balanced_over_any_three_superpixels_and_each_is_uniform_by_itself():
    z = sampling.orthogonal(np.random.default_rng(0), 2 * 16, 11)
    assert (z[1::2] == 1 - z[::2]).all()
    for members in itertools.combinations(range(11), 3):
        patterns = np.unique(z[2:, members], axis=0, return_counts=True)[1]
        assert sorted(patterns) in ([3] * 2 + [4] * 6, [4] * 6 + [3] * 2)  # the first pair is the patch itself
    several = np.stack([sampling.orthogonal(np.random.default_rng(seed), 64, 11)[2:] for seed in range(400)])
    np.testing.assert_allclose(several.mean((0, 1)), 0.5, atol=0.01)
    sizes = several.sum(2)
    assert sizes.var() == pytest.approx(11 / 4, rel=0.05)  # binomial, as of independent samples
    assert np.isin(sizes, (0, 11)).mean() < 0.01  # 2 in 2,048; without random signs every matrix has such a row


def test_orthogonal_samples_balance_the_interaction_of_two_superpixels():
    """A model with a strong interaction: it does not disturb the coefficients, as it does with independent samples."""
    spread = {}
    for kind, sample in SAMPLING.items():
        coefficients = []
        for seed in range(40):
            z = torch.from_numpy(sample(np.random.default_rng(seed), 64, 8))[None].double()
            both = 5 * (z[..., 0] - 0.5) * (z[..., 1] - 0.5)
            centred = z - z.mean(1, keepdim=True)
            target = both + z @ torch.arange(8.0).double()
            fit = regression.weighted_ridge(centred, target - target.mean(), torch.ones_like(target), 1e-9)
            coefficients.append(fit.coefficients[0])
        spread[kind] = torch.stack(coefficients).std(0).mean().item()
    assert spread["orthogonal"] < 1e-6 < 0.1 < spread["independent"]
