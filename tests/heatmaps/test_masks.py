"""Reductions, normalisation, masks of exact area, concentration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pcam_agreement.heatmaps.masks import concentration, gini, normalise, reduce, tied_fraction, top_mask

random = np.random.default_rng(0)


def test_reductions_do_what_they_say():
    attribution = np.array([[[[1.0, -2.0]], [[-3.0, 1.0]]]])  # [1, 2, 1, 2]
    assert reduce(attribution, "max_of_absolute").tolist() == [[[3, 2]]]
    assert reduce(attribution, "absolute_of_sum").tolist() == [[[2, 1]]]
    assert reduce(attribution, "positive_of_sum").tolist() == [[[0, 0]]]
    assert reduce(attribution, "minmax_of_sum").tolist() == [[[0, 1]]]
    with pytest.raises(ValueError, match="unknown reduction"):
        reduce(attribution, "sum")


def test_normalised_maps_have_mean_one_and_keep_their_ratios():
    maps = random.random((5, 96, 96))
    scaled, constant = normalise(maps)
    assert not constant.any()
    np.testing.assert_allclose(scaled.mean((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(scaled / scaled[:, :1, :1], maps / maps[:, :1, :1], rtol=1e-5)


def test_constant_and_not_finite_maps_become_zero_and_are_flagged():
    maps = np.stack([np.full((4, 4), 3.0), np.zeros((4, 4)), np.eye(4), np.where(np.eye(4) > 0, np.nan, 1.0)])
    scaled, constant = normalise(maps)
    assert constant.tolist() == [True, True, False, True]
    assert (scaled[constant] == 0).all()


def test_a_map_that_is_constant_once_it_is_stored_says_nothing():
    maps = np.stack([np.full((96, 96), 3.0), np.full((96, 96), 3.0)])
    maps[0, 4, 4], maps[1, 4, 4] = 3.0 + 1e-5, 3.1
    scaled, constant = normalise(maps)
    assert constant.tolist() == [True, False]
    assert [np.ptp(one.astype(np.float16)) > 0 for one in scaled] == [False, True]


@given(
    arrays.arrays(np.float32, (3, 36), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0])),
    st.sampled_from([0.05, 0.10, 0.25, 0.50]),
)
def test_a_mask_has_exactly_its_area_whatever_the_ties(maps, fraction):
    masks = top_mask(maps, fraction)
    np.testing.assert_allclose(masks.sum(-1), round(fraction * 36), rtol=1e-5)
    assert (masks >= 0).all()
    assert (masks <= 1).all()
    order = random.permutation(36)
    np.testing.assert_array_equal(top_mask(maps[:, order], fraction), masks[:, order])


def test_a_mask_without_ties_holds_the_largest_pixels():
    maps = random.permuted(np.tile(np.arange(9216.0), (4, 1)), axis=1)
    np.testing.assert_array_equal(top_mask(maps, 0.25), maps >= 9216 - 2304)


def test_the_tied_fraction_counts_fractional_pixels_only():
    maps = np.array([[0.0, 1, 1, 2], [0, 1, 2, 3]])
    assert tied_fraction(top_mask(maps, 0.5)).tolist() == [0.5, 0]


def test_gini_agrees_with_its_definition():
    maps = random.exponential(size=(3, 50))
    expected = np.abs(maps[:, :, None] - maps[:, None]).mean((1, 2)) / (2 * maps.mean(1))
    np.testing.assert_allclose(gini(maps), expected)
    assert gini(np.zeros((1, 5))).tolist() == [0]
    assert concentration(maps)["max"].tolist() == maps.max(1).tolist()
