"""Every measure against a closed form or another implementation."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, jaccard_score

from pcam_agreement import agreement
from pcam_agreement.heatmap import gini, normalise, top_mask

random = np.random.default_rng(0)


def maps(m: int = 3, n: int = 4, side: int = 24) -> np.ndarray:
    shape = (m, n, side, side)
    return np.stack([normalise(one)[0] for one in random.exponential(size=shape) + random.random((1, *shape[1:]))])


def test_iou_and_kappa_agree_with_scikit_learn():
    heatmaps = maps(2)
    masks = [top_mask(one.reshape(4, -1), 0.25).astype(bool) for one in heatmaps]
    found = agreement.measure(heatmaps, np.zeros((2, 4), bool), 0.25)
    for patch in range(4):
        a, b = masks[0][patch], masks[1][patch]
        assert found["iou"][0, patch] == pytest.approx(jaccard_score(a, b))
        assert found["kappa"][0, patch] == pytest.approx(cohen_kappa_score(a, b))


def test_rank_correlation_agrees_with_scipy_with_and_without_ties():
    for heatmaps in (maps(2), np.round(maps(2))):
        found = agreement.measure(heatmaps, np.zeros((2, 4), bool), 0.25)["spearman"][0]
        slow = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*heatmaps, strict=True)]
        np.testing.assert_allclose(found, slow, rtol=1e-6)


def test_a_heatmap_agrees_with_itself():
    one = maps(1)
    found = agreement.measure(np.concatenate([one, one]), np.zeros((2, 4), bool), 0.25)
    for name in ("iou", "kappa", "weighted_iou", "spearman"):
        np.testing.assert_allclose(found[name], 1, rtol=1e-6)


def test_opposite_heatmaps_share_nothing():
    left = np.zeros((1, 1, 4, 4))
    left[..., :2] = 2
    found = agreement.measure(np.concatenate([left, left[..., ::-1]]), np.zeros((2, 1), bool), 0.5)
    assert found["iou"] == found["weighted_iou"] == 0
    assert found["kappa"] == found["spearman"] == -1


def test_pairs_come_in_the_order_of_combinations():
    heatmaps = maps(4)
    found = agreement.measure(heatmaps, np.zeros((4, 4), bool), 0.1)["weighted_iou"]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for row, (i, j) in enumerate(pairs):
        slow = np.minimum(heatmaps[i], heatmaps[j]).sum((1, 2)) / np.maximum(heatmaps[i], heatmaps[j]).sum((1, 2))
        np.testing.assert_allclose(found[row], slow, rtol=1e-5)


def test_independent_masks_agree_at_chance_and_no_more():
    noise = np.stack([normalise(one)[0] for one in random.random((2, 200, 96, 96))])
    found = agreement.measure(noise, np.zeros((2, 200), bool), 0.25)
    assert found["iou"].mean() == pytest.approx(agreement.chance_iou(0.25), abs=1e-3)
    assert found["kappa"].mean() == pytest.approx(0, abs=2e-3)
    assert found["weighted_iou"].mean() == pytest.approx(found["weighted_iou_chance"].mean(), abs=2e-3)


def test_weighted_chance_is_the_gini_formula_for_a_map_and_its_shuffle():
    one = random.exponential(size=(1, 576))
    one /= one.mean()
    expected = (1 - gini(one)) / (1 + gini(one))
    np.testing.assert_allclose(agreement.weighted_chance(one, random.permuted(one, axis=1)), expected, rtol=1e-6)
    shuffles = [agreement.overlap(one, random.permuted(one, axis=1))[0] for _ in range(300)]
    assert np.mean(shuffles) == pytest.approx(expected[0], abs=0.01)


def test_weighted_chance_of_different_maps_agrees_with_all_pairs_of_pixels():
    a, b = random.exponential(size=(2, 3, 100))
    a, b = a / a.mean(-1, keepdims=True), b**2 / (b**2).mean(-1, keepdims=True)
    half = np.abs(a[:, :, None] - b[:, None]).mean((1, 2)) / 2
    np.testing.assert_allclose(agreement.weighted_chance(a, b), (1 - half) / (1 + half))


def test_a_heatmap_that_says_nothing_gives_nan_and_leaves_other_patches_alone():
    heatmaps, constant = maps(3), np.zeros((3, 4), bool)
    heatmaps[1, 2], constant[1, 2] = 0, True
    found = agreement.measure(heatmaps, constant, 0.25)
    for values in found.values():
        assert np.isnan(values[0, 2])
        assert np.isnan(values[2, 2])
        assert np.isfinite(values).sum() == 3 * 4 - 2


def test_all_ties_in_the_mask_make_it_larger():
    steps = np.repeat(random.random((2, 1, 4, 4)), 3, axis=2).repeat(3, axis=3)
    shared = agreement.measure(steps, np.zeros((2, 1), bool), 0.25)["iou"]
    assert top_mask(steps[0].reshape(1, -1), 0.2, "all").mean() > 0.2
    assert 0 <= shared[0, 0] <= 1
