"""Intervals over slides: simulations whose truth is known, and slow counts."""

import numpy as np
import pytest

from pcam_agreement.report import bootstrap


@pytest.mark.parametrize(
    ("between", "within", "slides"), [(0.05, 0.1, 20), (0.0, 0.1, 40), (0.05, 0.02, 40), (0.05, 0.1, 5)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(between, within, slides):
    random = np.random.default_rng(0)
    covered = 0
    for run in range(800):
        of_slides = random.normal(0.3, between, slides)
        values = (of_slides[:, None] + random.normal(0, within, (slides, 8))).reshape(1, -1)
        drawn = bootstrap.bootstrap_means(values, np.repeat(np.arange(slides), 8), 600, run)
        low, high = bootstrap.interval(drawn, slides)
        covered += low[0] <= 0.3 <= high[0]
    assert 0.93 <= covered / 800 <= 0.97


def results_of(iou, null, slides):
    """What `compare` finds; every fourth patch has the other label."""
    return {"iou": iou, "null_iou": null, "slides": slides, "labels": np.arange(iou.shape[1]) % 4 // 3}


def null_of(own, labels, slides):
    """The mean over patches of the same label and other slides of what is 0.2 and more for either patch's own [n]."""
    partner = (labels[:, None] == labels) & (slides[:, None] != slides)
    return 0.2 + own + partner @ own / partner.sum(1)


@pytest.mark.parametrize("patches", [1, 4])
def test_the_interval_of_the_null_and_of_what_is_beyond_covers_the_truth_as_often_as_it_says(patches):
    random = np.random.default_rng(patches)
    slides = np.repeat(np.arange(24), patches)
    inside = dict.fromkeys(("null", "excess"), 0)
    for run in range(600):
        labels = random.integers(0, 2, len(slides))
        own = random.normal(0, 0.02, 24)[slides] + random.normal(0, 0.02, len(slides)) + 0.02 * (labels - 0.5)
        iou = 0.3 + random.normal(0, 0.02, 24)[slides] + own
        results = {"iou": iou[None], "null_iou": null_of(own, labels, slides)[None], "slides": slides, "labels": labels}
        found = bootstrap.estimate(results, 600, run)
        for name, true in (("null", 0.2), ("excess", 0.1)):
            low, high = found.interval(name)
            inside[name] += low[0] <= true <= high[0]
    assert all(0.93 <= count / 600 <= 0.97 for count in inside.values()), inside


def test_percentiles_are_those_of_numpy_without_the_draws_that_are_undefined():
    draws = np.random.default_rng(0).random((500, 3))
    draws[:40, 1], draws[:60, 2], draws[7, 1] = np.nan, np.nan, np.inf
    found = bootstrap._percentiles(draws)
    np.testing.assert_allclose(found[:, 0], np.quantile(draws[:, 0], [0.025, 0.5, 0.975]))
    np.testing.assert_allclose(found[:, 1], np.quantile(draws[40:, 1], [0.025, 0.5, 0.975]))
    assert np.isnan(found[:, 2]).all()


def test_bootstrap_means_are_means_over_the_slides_that_were_drawn():
    random = np.random.default_rng(1)
    values, slides = random.random((3, 12)), random.integers(0, 4, 12) * 10
    values[0, 3] = np.nan
    drawn = bootstrap.bootstrap_means(values, slides, 50, seed=7)
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


def test_more_slides_than_groups_cost_no_more_and_give_the_same_interval():
    values = np.random.default_rng(2).normal(0.3, 0.1, (1, 3000))
    low, high = bootstrap.interval(bootstrap.bootstrap_means(values, np.arange(3000), 2000, 0), 3000)
    arm = 1.96 * values.std() / np.sqrt(3000)
    np.testing.assert_allclose([low[0], high[0]], [values.mean() - arm, values.mean() + arm], atol=arm / 6)


def test_what_is_compared_with_the_null_is_of_the_patches_that_have_one():
    iou, null, slides = agreement_of([0.2, 0.6], [0.2] * 2)
    iou[:, slides < 4] += 0.3
    null[:, slides < 4] = np.nan
    found = bootstrap.estimate(results_of(iou, null, slides), 500, 0)
    assert found.iou[0] > 0.25
    assert found.excess[0] == pytest.approx((iou - null)[0, slides >= 4].mean())
    low, high = found.interval("excess")
    assert low[0] < 0 < high[0]
    mean_low, mean_high = found.interval_of_mean("excess", np.array([True, True]))
    assert mean_low < found.excess.mean() < mean_high


def test_an_interval_of_an_iou_lies_within_0_and_1_and_one_slide_has_none():
    iou, null, slides = agreement_of([0.01, 0.99], [0.01, 0.5], slides=2, patches=2)
    iou += np.array([0, 0.3, 0, -0.3])
    low, high = bootstrap.estimate(results_of(iou, null, slides), 500, 0).interval("iou")
    assert (low >= 0).all()
    assert (high <= 1).all()
    alone = bootstrap.estimate(results_of(iou, np.full_like(null, np.nan), slides * 0), 500, 0)
    assert all(np.isnan(alone.interval(name)).all() for name in ("iou", "null", "excess"))
