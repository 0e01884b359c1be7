"""SSIM: scikit-image's, and its null."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from pcam_agreement.agreement.measures import pair_indices
from pcam_agreement.agreement.ssim import ssim_of_sets


def test_it_is_that_of_scikit_image_on_the_same_and_on_other_patches():
    heatmaps = np.random.default_rng(0).gamma(2, size=(3, 6, 40, 40))
    heatmaps[2, 3] = 1  # constant
    labels, slides = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 0, 1, 2, 2, 0])
    partner = {0: 2, 1: 2, 2: 5, 5: 2}
    values, null = ssim_of_sets(lambda row: heatmaps[:, row], np.arange(6), labels, slides)
    scaled = heatmaps / heatmaps.max((2, 3), keepdims=True)
    for row, (i, j) in enumerate(zip(*pair_indices(3), strict=True)):
        for patch in range(6):
            for result, other in ((values, patch), (null, partner.get(patch))):
                if other is None or (patch == 3 and 2 in (i, j)):
                    assert np.isnan(result[row, patch])
                else:
                    expected = structural_similarity(scaled[i, patch], scaled[j, other], data_range=1)
                    assert result[row, patch] == pytest.approx(expected, abs=1e-12)
