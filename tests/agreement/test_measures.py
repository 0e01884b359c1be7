"""Every measure against a closed form or another implementation."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, jaccard_score

from pcam_agreement.agreement.measures import MEASURES, chance_iou, measure
from pcam_agreement.agreement.null import PARTNERS, groups, null_iou
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
    found = measured(heatmaps.reshape(2, 4, 24, 24))
    for patch in range(4):
        a, b = masks[0][patch], masks[1][patch]
        assert found["iou"][0, patch] == pytest.approx(jaccard_score(a, b))
        assert found["kappa"][0, patch] == pytest.approx(cohen_kappa_score(a, b))


@pytest.mark.parametrize("ties", ["share", "all"])
@pytest.mark.parametrize("steps", [0, 3, 12])
@pytest.mark.parametrize("side", [8, 9])
def test_the_iou_at_every_top_fraction_is_a_slow_count_over_pixels(steps, ties, side):
    heatmaps = maps(3, 2, side, steps)
    found = measured(heatmaps, 0.1, ties)
    for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for patch in range(2):
            for values, fraction in zip((found["iou"], *found["curve_iou"]), (0.1, *CURVE), strict=True):
                a, b = (slow_mask(heatmaps[which, patch], fraction, ties) for which in (i, j))
                assert values[row, patch] == pytest.approx(sum(map(min, a, b)) / sum(map(max, a, b)))


def test_masks_of_different_areas_have_no_kappa_and_no_chance_level():
    found = measured(maps(2), ties="all")
    assert np.isfinite(found["iou"]).all()
    assert np.isnan(found["kappa"]).all()
    assert np.isnan(chance_iou(0.25, "all"))


@pytest.mark.parametrize("steps", [0, 3, 12])
def test_rank_correlation_agrees_with_scipy_with_and_without_ties(steps):
    heatmaps = maps(2, steps=steps)
    found = measured(heatmaps)["spearman"][0]
    slow = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*heatmaps, strict=True)]
    np.testing.assert_allclose(found, slow, rtol=1e-5)


def test_a_heatmap_agrees_with_itself():
    one = maps(1)
    found = measured(np.concatenate([one, one]))
    for name in ("iou", "kappa", "weighted_iou", "spearman"):
        np.testing.assert_allclose(found[name], 1, rtol=1e-6)


def test_opposite_heatmaps_share_nothing():
    left = np.zeros((1, 1, 4, 4), np.float16)
    left[..., :2] = 2
    found = measured(np.concatenate([left, left[..., ::-1]]), 0.5)
    assert found["iou"] == found["weighted_iou"] == 0
    assert found["kappa"] == found["spearman"] == -1


def test_the_sign_of_a_zero_says_nothing():
    left = np.zeros((1, 1, 4, 4), np.float16)
    left[..., :2] = 2
    found = measured(np.concatenate([left, np.where(left == 0, np.float16(-0.0), left)]), 0.5)
    for name in ("iou", "weighted_iou", "kappa", "spearman"):
        assert found[name] == 1


def test_pairs_come_in_the_order_of_combinations():
    heatmaps = maps(4)
    found = measured(heatmaps)["weighted_iou"]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for row, (i, j) in enumerate(pairs):
        a, b = heatmaps[i].astype(float), heatmaps[j].astype(float)
        np.testing.assert_allclose(found[row], np.minimum(a, b).sum((1, 2)) / np.maximum(a, b).sum((1, 2)), rtol=1e-5)


def test_one_heatmap_alone_has_no_pairs():
    assert {name: values.shape for name, values in measured(maps(1)).items()} == {
        **dict.fromkeys(MEASURES, (0, 4)),
        "curve_iou": (3, 0, 4),
    }


def test_independent_masks_agree_at_chance_and_no_more():
    noise = np.stack([normalise(one)[0] for one in random.random((2, 200, 96, 96))])
    found = measured(noise)
    assert found["iou"].mean() == pytest.approx(chance_iou(0.25), abs=1e-3)
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
    found = null_iou(masks, constant, labels, slides)
    for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for patch in range(7):
            others = [q for q in range(7) if labels[q] == labels[patch] and slides[q] != slides[patch]]
            halves = [
                np.mean([overlap(masks[a, patch], masks[b, q]) for q in others if not constant[b, q]] or [np.nan])
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
        null = null_iou(masks, np.zeros((2, 20), bool), labels, slides).mean()
        same = overlap(*masks).mean()
        assert null == pytest.approx(same, abs=0.01)  # nothing in common but the prior
        assert null == pytest.approx(expected, abs=0.01) if expected else null > 0.25


def test_weighted_chance_is_the_gini_formula_for_a_map_and_its_shuffle():
    one = maps(1, 1)[0, 0].ravel()
    shuffled = np.stack([one, random.permuted(one)]).reshape(2, 1, 24, 24)
    exact = one[None].astype(float)
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
    slow = lesser / np.maximum(a[:, :, None], b[:, None]).mean((1, 2))
    np.testing.assert_allclose(measured(heatmaps)["weighted_iou_chance"][0], slow, rtol=1e-5)


def test_a_heatmap_that_says_nothing_gives_nan_and_leaves_other_patches_alone():
    heatmaps, constant = maps(3), np.zeros((3, 4), bool)
    heatmaps[1, 2], constant[1, 2] = 0, True
    found = measure(heatmaps, constant, 0.25, "share", CURVE)
    assert set(found) == {*MEASURES, "curve_iou"}
    for values in (*(found[name] for name in MEASURES), *found["curve_iou"]):
        assert np.isnan(values[0, 2])
        assert np.isnan(values[2, 2])
        assert np.isfinite(values).sum() == 3 * 4 - 2


def partners(labels: np.ndarray, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every patch, its partners in its group, and all patches that could be partners."""
    dealt = groups(labels, slides)
    assert sorted(np.concatenate(dealt)) == list(range(len(labels)))
    found, possible = np.zeros((2, len(labels)), int)
    for group in dealt:
        assert len(set(labels[group])) == 1
        for patch in group:
            found[patch] = (slides[group] != slides[patch]).sum()
            possible[patch] = ((slides != slides[patch]) & (labels == labels[patch])).sum()
    return found, possible


def test_every_patch_has_twenty_partners_where_there_are_as_many():
    for draw in range(200):
        own = np.random.default_rng(draw)
        count = own.integers(1, 300)
        labels, slides = own.random(count) < own.random(), (own.integers(1, 40) * own.random(count) ** 2).astype(int)
        found, possible = partners(labels.astype(int), slides)
        assert (found >= np.minimum(possible, PARTNERS)).all()


def test_groups_are_not_larger_than_partners_ask_for():
    slides = np.repeat(np.arange(64), 4)
    assert max(map(len, groups(np.arange(256) % 2, slides))) <= 26
    assert max(map(len, groups(np.zeros(256), np.zeros(256)))) <= 26  # one slide: no partners anyway
