"""Every measure against a closed form or another implementation."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, jaccard_score

from pcam_agreement.agreement.measures import MEASURES, chance_iou, measure
from pcam_agreement.heatmaps.masks import gini, normalise, overlap, top_mask

random = np.random.default_rng(0)


CURVE = (0.05, 0.25, 0.5)


def maps(m: int = 3, n: int = 4, side: int = 24, steps: int = 0) -> np.ndarray:
    """Heatmaps float16 [m, n, side, side] with something in common, of that many values (0: as many as there are)."""
    shape = (m, n, side, side)
    each = random.exponential(size=shape) + random.random((1, *shape[1:]))
    if steps:
        each = np.floor(each * steps / each.max()) + 1
    return np.stack([normalise(one)[0] for one in each]).astype(np.float16)


def measured(heatmaps: np.ndarray, fraction: float = 0.25, ties: str = "share") -> dict[str, np.ndarray]:
    return measure(heatmaps, np.zeros(heatmaps.shape[:2], bool), fraction, ties, CURVE)


def slow_mask(heatmap: np.ndarray, fraction: float, ties: str) -> list[float]:
    """Pixel by pixel."""
    pixels = [float(value) for value in heatmap.ravel()]
    k = round(fraction * len(pixels))
    threshold = sorted(pixels, reverse=True)[k - 1]
    share = (k - sum(value > threshold for value in pixels)) / pixels.count(threshold) if ties == "share" else 1.0
    return [1.0 if value > threshold else share if value == threshold else 0.0 for value in pixels]


def test_iou_and_kappa_agree_with_scikit_learn():
    heatmaps = random.permuted(np.broadcast_to(np.arange(576, dtype=np.float16), (2, 4, 576)), axis=-1)  # no ties
    masks = [top_mask(one, 0.25).astype(bool) for one in heatmaps]
    results = measured(heatmaps.reshape(2, 4, 24, 24))
    for patch in range(4):
        a, b = masks[0][patch], masks[1][patch]
        assert results["iou"][0, patch] == pytest.approx(jaccard_score(a, b))
        assert results["kappa"][0, patch] == pytest.approx(cohen_kappa_score(a, b))


@pytest.mark.parametrize("ties", ["share", "all"])
@pytest.mark.parametrize("steps", [0, 3, 12])
@pytest.mark.parametrize("side", [8, 9])
def test_the_iou_at_every_top_fraction_is_a_slow_count_over_pixels(steps, ties, side):
    heatmaps = maps(3, 2, side, steps)
    results = measured(heatmaps, 0.1, ties)
    for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for patch in range(2):
            for values, fraction in zip((results["iou"], *results["curve_iou"]), (0.1, *CURVE), strict=True):
                a, b = (slow_mask(heatmaps[which, patch], fraction, ties) for which in (i, j))
                assert values[row, patch] == pytest.approx(sum(map(min, a, b)) / sum(map(max, a, b)))


def test_masks_of_different_areas_have_no_kappa_and_no_chance_level():
    results = measured(maps(2), ties="all")
    assert np.isfinite(results["iou"]).all()
    assert np.isnan(results["kappa"]).all()
    assert np.isnan(chance_iou(0.25, "all"))


@pytest.mark.parametrize("steps", [0, 3, 12])
def test_rank_correlation_agrees_with_scipy_with_and_without_ties(steps):
    heatmaps = maps(2, steps=steps)
    results = measured(heatmaps)["spearman"][0]
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*heatmaps, strict=True)]
    np.testing.assert_allclose(results, expected, rtol=1e-5)


def test_a_heatmap_agrees_with_itself():
    heatmap = maps(1)
    results = measured(np.concatenate([heatmap, heatmap]))
    for name in ("iou", "kappa", "weighted_iou", "spearman"):
        np.testing.assert_allclose(results[name], 1, rtol=1e-6)


def test_opposite_heatmaps_share_nothing():
    left = np.zeros((1, 1, 4, 4), np.float16)
    left[..., :2] = 2
    results = measured(np.concatenate([left, left[..., ::-1]]), 0.5)
    assert results["iou"] == results["weighted_iou"] == 0
    assert results["kappa"] == results["spearman"] == -1


def test_the_sign_of_a_zero_changes_nothing():
    left = np.zeros((1, 1, 4, 4), np.float16)
    left[..., :2] = 2
    results = measured(np.concatenate([left, np.where(left == 0, np.float16(-0.0), left)]), 0.5)
    for name in ("iou", "weighted_iou", "kappa", "spearman"):
        assert results[name] == 1


def test_pairs_come_in_the_order_of_combinations():
    heatmaps = maps(4)
    results = measured(heatmaps)["weighted_iou"]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for row, (i, j) in enumerate(pairs):
        a, b = heatmaps[i].astype(float), heatmaps[j].astype(float)
        np.testing.assert_allclose(results[row], np.minimum(a, b).sum((1, 2)) / np.maximum(a, b).sum((1, 2)), rtol=1e-5)


def test_one_heatmap_alone_has_no_pairs():
    assert {name: values.shape for name, values in measured(maps(1)).items()} == {
        **dict.fromkeys(MEASURES, (0, 4)),
        "curve_iou": (3, 0, 4),
    }


def test_independent_masks_agree_at_chance_and_no_more():
    noise = np.stack([normalise(one)[0] for one in random.random((2, 200, 96, 96))])
    results = measured(noise)
    assert results["iou"].mean() == pytest.approx(chance_iou(0.25), abs=1e-3)
    assert results["kappa"].mean() == pytest.approx(0, abs=2e-3)
    assert results["weighted_iou"].mean() == pytest.approx(results["weighted_iou_chance"].mean(), abs=2e-3)


def test_weighted_chance_is_the_gini_formula_for_a_map_and_its_shuffle():
    heatmap = maps(1, 1)[0, 0].ravel()
    shuffled = np.stack([heatmap, random.permuted(heatmap)]).reshape(2, 1, 24, 24)
    exact = heatmap[None].astype(float)
    expected = (1 - gini(exact)) / (1 + gini(exact))
    np.testing.assert_allclose(measured(shuffled)["weighted_iou_chance"][0], expected, rtol=1e-5)
    shuffles = [overlap(exact, random.permuted(exact, axis=1))[0] for _ in range(300)]
    assert np.mean(shuffles) == pytest.approx(expected[0], abs=0.01)


@pytest.mark.parametrize("steps", [0, 3])
def test_weighted_chance_of_different_maps_agrees_with_all_pairs_of_pixels(steps):
    heatmaps = maps(2, 3, steps=steps)
    heatmaps[1] = heatmaps[1] ** 2  # whose mean is not 1
    a, b = heatmaps.reshape(2, 3, -1).astype(float)
    lesser = np.minimum(a[:, :, None], b[:, None]).mean((1, 2))
    expected = lesser / np.maximum(a[:, :, None], b[:, None]).mean((1, 2))
    np.testing.assert_allclose(measured(heatmaps)["weighted_iou_chance"][0], expected, rtol=1e-5)


def test_a_constant_heatmap_gives_nan_and_leaves_other_patches_alone():
    heatmaps, constant = maps(3), np.zeros((3, 4), bool)
    heatmaps[1, 2], constant[1, 2] = 0, True
    results = measure(heatmaps, constant, 0.25, "share", CURVE)
    assert set(results) == {*MEASURES, "curve_iou"}
    for values in (*(results[name] for name in MEASURES), *results["curve_iou"]):
        assert np.isnan(values[0, 2])
        assert np.isnan(values[2, 2])
        assert np.isfinite(values).sum() == 3 * 4 - 2
