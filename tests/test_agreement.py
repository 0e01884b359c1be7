"""Every measure against a closed form or another implementation."""

import itertools

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


def measured(heatmaps: np.ndarray, constant: np.ndarray, fraction: float, ties: str = "share") -> dict[str, np.ndarray]:
    masks = np.stack([top_mask(one.reshape(len(one), -1), fraction, ties) for one in heatmaps])
    return agreement.measure(heatmaps, masks, constant, fraction)


def test_iou_and_kappa_agree_with_scikit_learn():
    heatmaps = maps(2)
    masks = [top_mask(one.reshape(4, -1), 0.25).astype(bool) for one in heatmaps]
    found = measured(heatmaps, np.zeros((2, 4), bool), 0.25)
    for patch in range(4):
        a, b = masks[0][patch], masks[1][patch]
        assert found["iou"][0, patch] == pytest.approx(jaccard_score(a, b))
        assert found["kappa"][0, patch] == pytest.approx(cohen_kappa_score(a, b))


def test_rank_correlation_agrees_with_scipy_with_and_without_ties():
    for heatmaps in (maps(2), np.round(maps(2))):
        found = measured(heatmaps, np.zeros((2, 4), bool), 0.25)["spearman"][0]
        slow = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*heatmaps, strict=True)]
        np.testing.assert_allclose(found, slow, rtol=1e-6)


def test_a_heatmap_agrees_with_itself():
    one = maps(1)
    found = measured(np.concatenate([one, one]), np.zeros((2, 4), bool), 0.25)
    for name in ("iou", "kappa", "weighted_iou", "spearman"):
        np.testing.assert_allclose(found[name], 1, rtol=1e-6)


def test_opposite_heatmaps_share_nothing():
    left = np.zeros((1, 1, 4, 4))
    left[..., :2] = 2
    found = measured(np.concatenate([left, left[..., ::-1]]), np.zeros((2, 1), bool), 0.5)
    assert found["iou"] == found["weighted_iou"] == 0
    assert found["kappa"] == found["spearman"] == -1


def test_pairs_come_in_the_order_of_combinations():
    heatmaps = maps(4)
    found = measured(heatmaps, np.zeros((4, 4), bool), 0.1)["weighted_iou"]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for row, (i, j) in enumerate(pairs):
        slow = np.minimum(heatmaps[i], heatmaps[j]).sum((1, 2)) / np.maximum(heatmaps[i], heatmaps[j]).sum((1, 2))
        np.testing.assert_allclose(found[row], slow, rtol=1e-5)


def test_independent_masks_agree_at_chance_and_no_more():
    noise = np.stack([normalise(one)[0] for one in random.random((2, 200, 96, 96))])
    found = measured(noise, np.zeros((2, 200), bool), 0.25)
    assert found["iou"].mean() == pytest.approx(agreement.chance_iou(0.25), abs=1e-3)
    assert found["kappa"].mean() == pytest.approx(0, abs=2e-3)
    assert found["weighted_iou"].mean() == pytest.approx(found["weighted_iou_chance"].mean(), abs=2e-3)


def test_the_null_is_a_slow_count_over_the_other_patches_of_the_label():
    """With ties, a heatmap that says nothing, and a patch without another of its label on another slide."""
    heatmaps = np.round(maps(3, 7), 1)
    masks = np.stack([top_mask(one.reshape(7, -1), 0.25) for one in heatmaps])
    assert ((masks > 0) & (masks < 1)).any()
    constant = np.zeros((3, 7), bool)
    constant[1, 2] = True
    labels, slides = np.array([0, 0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 2, 2, 3, 2])
    found = agreement.null_iou(masks, constant, labels, slides)
    for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for patch in range(7):
            others = [q for q in range(7) if labels[q] == labels[patch] and slides[q] != slides[patch]]
            halves = [
                np.mean(
                    [agreement.overlap(masks[a, patch], masks[b, q]) for q in others if not constant[b, q]] or [np.nan]
                )
                for a, b in ((i, j), (j, i))
            ]
            slow = np.nan if constant[[i, j], patch].any() else np.mean(halves)
            assert found[row, patch] == pytest.approx(slow, rel=1e-5, nan_ok=True)
    assert np.isnan(found[0, 3])
    assert np.isnan(found[0, 2])
    assert np.isfinite(found[1, 2])


def test_the_null_keeps_a_shared_centre_bias_and_independent_maps_stay_at_chance():
    middle = np.exp(-((np.mgrid[:48, :48] - 23.5) ** 2).sum(0) / 200)
    labels, slides = np.zeros(20, int), np.arange(20)
    for prior, expected in ((0.0, 1 / 7), (1.0, None)):
        noisy = prior * middle + random.random((2, 20, 48, 48))
        masks = np.stack([top_mask(one.reshape(20, -1), 0.25) for one in noisy])
        null = agreement.null_iou(masks, np.zeros((2, 20), bool), labels, slides).mean()
        same = agreement.overlap(*masks).mean()
        assert null == pytest.approx(same, abs=0.01)  # nothing in common but the prior
        assert null == pytest.approx(expected, abs=0.01) if expected else null > 0.25


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
    found = measured(heatmaps, constant, 0.25)
    for values in found.values():
        assert np.isnan(values[0, 2])
        assert np.isnan(values[2, 2])
        assert np.isfinite(values).sum() == 3 * 4 - 2


def test_all_ties_in_the_mask_make_it_larger():
    steps = np.repeat(random.random((2, 1, 4, 4)), 3, axis=2).repeat(3, axis=3)
    shared = measured(steps, np.zeros((2, 1), bool), 0.25)["iou"]
    assert top_mask(steps[0].reshape(1, -1), 0.2, "all").mean() > 0.2
    assert 0 <= shared[0, 0] <= 1
