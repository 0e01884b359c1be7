"""Patch-specific overlap: a slow count, what it is 0 of, and slides that are left out."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pcam_agreement.agreement import overlaps
from pcam_agreement.agreement.overlaps import (
    Overlaps,
    View,
    all_pairs,
    blur,
    pack,
    repeat_pairs,
    slide_groups,
    sum_overlaps,
    unpack,
    view_masks,
)

VIEW = View(0, 0.25)


def sums(masks: np.ndarray, labels: np.ndarray, slides: np.ndarray, area: int = 1, pairs=None) -> Overlaps:
    pairs = all_pairs(len(masks)) if pairs is None else pairs
    return sum_overlaps(lambda rows: masks[:, rows], area, pairs, labels, slides, slide_groups(slides))


def slow(a: np.ndarray, b: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> float:
    """C of two sets of masks [n, p] by its definition, patch by patch and pair by pair."""
    result = 0.0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        same = np.mean([a[p] @ b[p] for p in rows])
        different = np.mean([a[p] @ b[q] for p, q in product(rows, rows) if slides[p] != slides[q]])
        result += len(rows) / len(labels) * (same - different)
    return result


@pytest.mark.parametrize("most", [100, 3])
def test_it_is_a_slow_count_and_so_it_is_where_a_group_of_slides_is_left_out(monkeypatch, most):
    monkeypatch.setattr(overlaps, "GROUPS", most)
    monkeypatch.setattr(overlaps, "LENGTH", 3)  # a slide is read in parts, and a part has several slides
    rng = np.random.default_rng(0)
    labels, slides = rng.integers(0, 2, 40), rng.integers(0, 7, 40) * 10
    masks = view_masks(np.round(rng.random((3, 40, 12, 12)), 1), VIEW)
    values, without = sums(masks, labels, slides, 36).patch_specific()
    groups = slide_groups(slides)
    assert len(without) == min(most, 7)
    for row, (i, j) in enumerate(all_pairs(3)):
        assert values[row] == pytest.approx(slow(masks[i], masks[j], labels, slides) / 36, abs=1e-6)
        for group, value in enumerate(without[:, row]):
            keep = groups != group
            expected = slow(masks[i][keep], masks[j][keep], labels[keep], slides[keep]) / 36
            assert value == pytest.approx(expected, abs=1e-6)


def test_of_one_label_it_is_the_count_over_its_patches():
    rng = np.random.default_rng(1)
    labels, slides = rng.integers(0, 2, 30), rng.integers(0, 5, 30)
    masks = view_masks(rng.random((2, 30, 8, 8)), VIEW)
    whole = sums(masks, labels, slides, 16)
    parts = [whole.of_label(label).patch_specific()[0] for label in (0, 1)]
    for label, values in enumerate(parts):
        of_label = labels == label
        expected = slow(masks[0][of_label], masks[1][of_label], labels[of_label], slides[of_label]) / 16
        assert values[1] == pytest.approx(expected, abs=1e-6)
    share = np.bincount(labels) / 30
    np.testing.assert_allclose(whole.patch_specific()[0], share @ np.array(parts), atol=1e-7)


def test_a_network_with_itself_has_the_variance_of_its_masks_where_every_slide_is_a_patch():
    masks = view_masks(np.random.default_rng(2).random((1, 50, 16, 16)), VIEW)
    value = sums(masks, np.zeros(50, int), np.arange(50), 64).patch_specific()[0][0]
    assert value == pytest.approx(masks[0].var(0, ddof=1).sum() / 64, rel=1e-4)


@pytest.mark.parametrize("tumour", [10, 20, 28])
def test_masks_that_depend_on_the_label_alone_share_nothing_that_is_about_the_patch(tumour):
    labels = (np.arange(48) < tumour).astype(int)
    by_label = view_masks(np.random.default_rng(3).random((2, 2, 16, 16)), VIEW)
    values, without = sums(by_label[:, labels], labels, np.arange(48) // 2, 64).patch_specific()
    np.testing.assert_allclose(values, 0, atol=1e-6)
    np.testing.assert_allclose(without, 0, atol=1e-6)


def test_independent_masks_share_nothing_on_average_though_their_bias_depends_on_the_label():
    """With labels of unequal numbers, 20 and 28 patches: pooling all pairs of patches would give 0.007."""
    labels, rng = (np.arange(48) < 20).astype(int), np.random.default_rng(4)
    middle = np.exp(-((np.mgrid[:24, :24] - 11.5) ** 2).sum(0) / 60)
    bias = np.stack([middle, np.roll(middle, 8, 1)])[labels]
    values = [
        sums(view_masks(bias + rng.random((2, 48, 24, 24)), VIEW), labels, np.arange(48) // 2, 144).patch_specific()[0]
        for _ in range(60)
    ]
    of_pair = np.array(values)[:, 1]
    assert abs(of_pair.mean()) < 3 * of_pair.std() / 60**0.5
    assert of_pair.std() / 60**0.5 < 0.001


def test_a_label_of_two_slides_is_left_out_and_without_any_label_nothing_is_known():
    rng = np.random.default_rng(5)
    labels, slides = np.repeat([0, 1], [20, 6]), np.append(np.arange(20) % 5, np.arange(6) % 2)
    masks = view_masks(rng.random((2, 26, 8, 8)), VIEW)
    np.testing.assert_array_equal(np.unique(sums(masks, labels, slides).label), 0)
    nothing = sums(masks[:, 20:], labels[20:], slides[20:])
    assert np.isnan(nothing.patch_specific()[0]).all()


def test_a_constant_heatmap_has_an_even_mask_and_so_shares_nothing():
    heatmaps = np.random.default_rng(6).random((2, 30, 12, 12))
    heatmaps[1] = 1
    for view in (VIEW, View(2, 0.25)):
        masks = view_masks(heatmaps, view)
        np.testing.assert_array_equal(masks[1], 0.25)
        np.testing.assert_allclose(masks.sum(-1), 36, rtol=1e-6)
        values = sums(masks, np.zeros(30, int), np.arange(30), 36).patch_specific()[0]
        np.testing.assert_allclose(values[1:], 0, atol=1e-6)


@pytest.mark.parametrize("sigma", [1, 2.5, 8])
def test_the_scale_is_scipys_gaussian_filter(sigma):
    heatmaps = np.random.default_rng(7).random((2, 3, 40, 24)).astype(np.float32)
    expected = gaussian_filter(heatmaps, (0, 0, sigma, sigma))
    np.testing.assert_allclose(blur(heatmaps, sigma), expected, rtol=1e-5)


def test_what_is_packed_comes_out_again_in_its_order():
    rng = np.random.default_rng(8)
    masks = view_masks(rng.random((4, 12, 8, 8)), VIEW)
    views = {
        view: sums(masks, np.zeros(12, int), np.arange(12) // 2, area, repeat_pairs(2))
        for view, area in ((View(2, 0.25), 16), (View(0, 0.5), 32))
    }
    again = unpack(pack(views, "repeat"), "repeat")
    assert list(again) == list(views)
    for view, values in views.items():
        np.testing.assert_array_equal(again[view].patch_specific()[1], values.patch_specific()[1])
    assert unpack({}, "repeat") == {}


def test_more_slides_than_groups_are_left_out_together():
    groups = slide_groups(np.repeat(np.arange(250), 3))
    assert len(np.unique(groups)) == overlaps.GROUPS
    np.testing.assert_array_equal(slide_groups(np.array(["c", "a", "c", "b"])), [2, 0, 2, 1])
