"""Heatmaps in 8 bits a pixel: few values are kept, order and ties are kept, masks nearly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pcam_agreement.heatmaps.levels import LEVELS, quantise, restore
from pcam_agreement.heatmaps.masks import normalise, overlap, top_mask

random = np.random.default_rng(0)


def heavy_tailed(n: int) -> np.ndarray:
    """Mean-1 heatmaps of as many values as gradients have."""
    return normalise(random.standard_normal((n, 96, 96)) ** 4)[0].astype(np.float16)


def test_256_values_are_kept_exactly_and_one_more_is_not():
    few = np.arange(96 * 96).reshape(1, 96, 96) % LEVELS
    more = few.copy()
    more[0, 0, 0] = LEVELS
    for maps, exact in ((few, True), (more, False)):
        maps = (maps / 16).astype(np.float16)
        assert np.array_equal(restore(*quantise(maps)), maps) == exact


def test_superpixels_stay_superpixels():
    values = random.exponential(size=64).astype(np.float16)
    maps = values[random.integers(0, 64, (3, 96, 96))]
    np.testing.assert_array_equal(restore(*quantise(maps)), maps)


def test_minus_zero_is_zero():
    maps = np.array([[[-0.0, 0.0, 1.0]]], np.float16)
    numbers, _ = quantise(maps)
    assert numbers.tolist() == [[[0, 0, 1]]]


def test_levels_are_the_means_of_pixels_ordered_by_rank_and_divided_at_cubes():
    maps = random.permutation(np.arange(9216)).astype(np.uint16).view(np.float16).reshape(1, 96, 96)
    numbers, levels = quantise(maps)
    ends = 9216 * (np.arange(1, 255) / 255) ** 3
    of_rank = np.array([(ends <= rank + 0.5).sum() for rank in range(9215)])  # the last rank is that of the zero
    values = np.sort(maps.ravel().astype(float))[::-1]
    expected = [values[:9215][of_rank == level].mean() for level in np.unique(of_rank)[::-1]]
    np.testing.assert_array_equal(levels[0, : len(expected) + 1], np.array([0, *expected]).astype(np.float16))
    assert (numbers == 0).sum() == 1


@given(
    arrays.arrays(
        np.float16, (1, 20, 20), elements=st.one_of(st.just(0.0), st.floats(0, 2**14, width=16, allow_subnormal=True))
    )
)
def test_equal_pixels_stay_equal_and_none_overtakes_another(maps):
    restored = restore(*quantise(maps))
    order = np.argsort(maps.ravel(), kind="stable")
    before, after = maps.ravel()[order].astype(float), restored.ravel()[order].astype(float)
    assert (np.diff(after) >= 0).all()
    assert (np.diff(after)[np.diff(before) == 0] == 0).all()
    assert (after[before == 0] == 0).all()
    assert (after[before > 0] > 0).all()


def test_a_heatmap_that_is_not_constant_does_not_become_constant_and_its_mean_stays():
    maps = heavy_tailed(4)
    restored = restore(*quantise(maps)).astype(float)
    assert (np.ptp(restored, axis=(1, 2)) > 0).all()
    np.testing.assert_allclose(restored.mean((1, 2)), maps.astype(float).mean((1, 2)), rtol=2e-4)


@pytest.mark.parametrize("fraction", [0.05, 0.10, 0.25, 0.50])
def test_masks_of_heavy_tailed_heatmaps_keep_98_percent(fraction):
    maps = heavy_tailed(4)
    restored = restore(*quantise(maps))
    masks = [top_mask(values.reshape(4, -1).astype(np.float32), fraction) for values in (maps, restored)]
    assert overlap(*masks).min() > 0.98


def test_a_patch_is_quantised_by_itself_and_restored_in_place():
    maps = heavy_tailed(3)
    numbers, levels = quantise(maps)
    for row in range(3):
        alone = quantise(maps[row : row + 1])
        np.testing.assert_array_equal(alone[0][0], numbers[row])
        np.testing.assert_array_equal(alone[1][0], levels[row])
    out = np.empty_like(maps)
    assert restore(numbers, levels, out) is out
    np.testing.assert_array_equal(out, restore(numbers, levels))
