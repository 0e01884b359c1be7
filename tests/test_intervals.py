"""Intervals and normalised agreement: simulations whose truth is known, and slow counts."""

import numpy as np
import pytest

from pcam_agreement import intervals, tables


@pytest.mark.parametrize(("between", "within", "slides"), [(0.05, 0.1, 20), (0.0, 0.1, 40), (0.05, 0.02, 40)])
def test_the_interval_covers_the_truth_as_often_as_it_says(between, within, slides):
    random = np.random.default_rng(0)
    covered = 0
    for run in range(800):
        of_slides = random.normal(0.3, between, slides)
        values = (of_slides[:, None] + random.normal(0, within, (slides, 8))).reshape(1, -1)
        drawn = intervals.bootstrap_means(values, np.repeat(np.arange(slides), 8), 600, run)
        low, high = intervals.interval(drawn, slides)
        covered += low[0] <= 0.3 <= high[0]
    assert 0.93 <= covered / 800 <= 0.97


def test_bootstrap_means_are_means_over_the_slides_that_were_drawn():
    random = np.random.default_rng(1)
    values, slides = random.random((3, 12)), random.integers(0, 4, 12) * 10
    values[0, 3] = np.nan
    drawn = intervals.bootstrap_means(values, slides, 50, seed=7)
    names = np.unique(slides)
    times = np.random.default_rng(7).multinomial(len(names), np.full(len(names), 1 / len(names)), 50)
    for row, counts in zip(drawn, times, strict=True):
        chosen = [
            patch
            for name, count in zip(names, counts, strict=True)
            for patch in [*np.flatnonzero(slides == name)] * count
        ]
        np.testing.assert_allclose(row, np.nanmean(values[:, chosen], axis=1))


def agreement_of(levels, nulls, slides=20, patches=4, seed=0):
    random = np.random.default_rng(seed)
    n = slides * patches
    iou = np.array(levels)[:, None] + random.normal(0, 0.02, (len(levels), n))
    null = np.array(nulls)[:, None] + random.normal(0, 0.01, (len(nulls), n))
    return iou, null, np.repeat(np.arange(slides), patches)


def test_normalised_agreement_is_0_at_the_null_and_1_at_the_ceiling():
    # pairs: at the null, half way, at the ceiling; then the ceilings of two architectures, .5 and .7
    iou, null, slides = agreement_of([0.2, 0.4, 0.6, 0.5, 0.7], [0.2] * 5)
    both = [[3], [4]]
    found = intervals.estimate(iou, null, slides, [both, both, both, [[3]], [[4]]], 500, 0)
    np.testing.assert_allclose(found.normalised[:3], [0, 0.5, 1], atol=0.03)
    low, high = found.interval("normalised")
    assert (low[:3] < found.normalised[:3]).all()
    assert (found.normalised[:3] < high[:3]).all()
    assert found.undefined == ["", "", "", "is a ceiling", "is a ceiling"]
    j, j0 = np.nanmean(iou, 1), np.nanmean(null, 1)
    assert found.normalised[1] == pytest.approx((j[1] - j0[1]) / ((j[3] + j[4]) / 2 - j0[1]))
    some = np.array([True, True, False, False, False])
    mean_low, mean_high = found.interval_of_mean("normalised", some)
    assert mean_low < found.normalised[:2].mean() < mean_high


def test_agreement_that_cannot_be_normalised_says_why():
    iou, null, slides = agreement_of([0.3, 0.3, 0.3, 0.2], [0.2] * 4)
    iou[1], null[1] = np.nan, np.nan
    found = intervals.estimate(iou, null, slides, [[], [[3]], [[3]], [[3]]], 500, 0)
    assert found.undefined == ["no twin", "no patch", "ceiling reaches null", "is a ceiling"]
    assert np.isnan(found.normalised).all()
    alone = intervals.estimate(iou, np.full_like(null, np.nan), slides * 0, [[[3]]] * 3 + [[]], 500, 0)
    assert alone.undefined == ["one slide"] * 3 + ["no twin"]
    assert all(np.isnan(bound).all() for bound in alone.interval("iou"))


def test_each_network_of_a_pair_is_normalised_by_its_own_twins(settings):
    names = ("resnet34", "densenet121", "resnet34_twin", "resnet34_untrained")
    networks = {name: settings.network[name] for name in names}
    # pairs: 0 resnet ~ densenet, 1 resnet ~ twin, 2 resnet ~ untrained, 3 densenet ~ twin, 4, 5: with the untrained
    assert tables.ceilings(networks) == [[[1]], [[1], [1]], [[1]], [[1]], [], [[1]]]
