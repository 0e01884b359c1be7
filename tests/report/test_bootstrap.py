"""Intervals and normalised agreement: simulations whose truth is known, and slow counts."""

import numpy as np
import pytest

from conftest import recipe
from pcam_agreement.agreement.pairs import ceilings
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
        found = bootstrap.estimate(results, [[]], 600, run)
        for name, true in (("null", 0.2), ("excess", 0.1)):
            low, high = found.interval(name)
            inside[name] += low[0] <= true <= high[0]
    assert all(0.93 <= count / 600 <= 0.97 for count in inside.values()), inside


@pytest.mark.slow
@pytest.mark.parametrize(("slides", "alike"), [(24, 0.8), (40, 0.3)])
def test_the_bands_cover_all_pairs_at_once_as_often_as_they_say(slides, alike):
    random = np.random.default_rng(slides)
    truth = np.linspace(0.24, 0.4, 9)  # the last is the ceiling of all others
    inside = dict.fromkeys(("iou", "excess", "normalised"), 0)
    alone = 0
    for run in range(500):
        of_slides = alike**0.5 * random.normal(0, 0.04, slides)
        of_slides = of_slides + (1 - alike) ** 0.5 * random.normal(0, 0.04, (9, slides))
        iou = truth[:, None] + np.repeat(of_slides, 4, axis=1) + random.normal(0, 0.05, (9, slides * 4))
        place = np.repeat(np.arange(slides), 4)
        results = results_of(iou, None, place)
        own = random.normal(0, 0.02, iou.shape)
        results["null_iou"] = np.stack([null_of(one, results["labels"], place) for one in own])
        found = bootstrap.estimate(results, [[[8]]] * 9, 600, run)
        for name, true in (("iou", truth), ("excess", truth - 0.2), ("normalised", (truth - 0.2) / 0.2)):
            use = slice(8 if name == "normalised" else 9)
            (low, high), (band_low, band_high) = found.interval(name), found.band(name)
            assert (band_low[use] <= low[use]).all()
            assert (high[use] <= band_high[use]).all()
            inside[name] += ((band_low[use] <= true[use]) & (true[use] <= band_high[use])).all()
            alone += name == "iou" and ((low <= true) & (true <= high)).all()
    assert all(0.93 <= count / 500 <= 0.97 for count in inside.values()), inside
    assert alone / 500 < 0.9  # the intervals of single pairs do not


def test_the_band_of_one_pair_is_its_interval_and_what_is_undefined_has_none():
    draws = np.random.default_rng(0).gamma(3, size=(5000, 1))  # skewed
    for bound, alone in zip(bootstrap.band(draws, 9), bootstrap.interval(draws, 9), strict=True):
        np.testing.assert_allclose(bound, alone, rtol=2e-3)
    with_undefined = np.concatenate([draws, np.full_like(draws, np.nan)], axis=1)
    low, high = bootstrap.band(with_undefined, 9)
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()
    assert np.isnan(bootstrap.band(with_undefined[:, 1:], 9)).all()


def test_percentiles_are_those_of_numpy_without_the_draws_that_are_undefined():
    draws = np.random.default_rng(0).random((500, 3))
    draws[:40, 1], draws[:60, 2], draws[7, 1] = np.nan, np.nan, np.inf
    found = bootstrap._percentiles(draws)
    np.testing.assert_allclose(found[:, 0], np.quantile(draws[:, 0], [0.025, 0.5, 0.975]))
    np.testing.assert_allclose(found[:, 1], np.quantile(draws[40:, 1], [0.025, 0.5, 0.975]))
    assert np.isnan(found[:, 2]).all()


def test_what_lies_above_the_floor_is_drawn_with_it():
    iou, null, slides = agreement_of([0.5, 0.3, 0.34], [0.2] * 3)
    found = bootstrap.estimate(results_of(iou, null, slides), [[]] * 3, 500, 0)
    above, draws = found.above(np.array([False, True, True]))
    excess = iou.mean(1) - null.mean(1)
    np.testing.assert_allclose(above, excess - excess[1:].mean())
    low, high = bootstrap.interval(draws, found.slides)
    assert low[0] < 0.5 - 0.32 < high[0]
    assert high[0] - low[0] < 0.05
    assert np.isnan(found.above(np.zeros(3, bool))[0]).all()


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


def test_normalised_agreement_is_0_at_the_null_and_1_at_the_ceiling():
    # pairs: at the null, half way, at the ceiling; then the ceilings of two architectures, .5 and .7
    iou, null, slides = agreement_of([0.2, 0.4, 0.6, 0.5, 0.7], [0.2] * 5)
    both = [[3], [4]]
    found = bootstrap.estimate(results_of(iou, null, slides), [both, both, both, [[3]], [[4]]], 500, 0)
    np.testing.assert_allclose(found.normalised[:3], [0, 0.5, 1], atol=0.03)
    low, high = found.interval("normalised")
    assert (low[:3] < found.normalised[:3]).all()
    assert (found.normalised[:3] < high[:3]).all()
    assert found.undefined == ["", "", "", "a ceiling itself", "a ceiling itself"]
    j, j0 = np.nanmean(iou, 1), np.nanmean(null, 1)
    assert found.normalised[1] == pytest.approx((j[1] - j0[1]) / ((j[3] + j[4]) / 2 - j0[1]))
    some = np.array([True, True, False, False, False])
    mean_low, mean_high = found.interval_of_mean("normalised", some)
    assert mean_low < found.normalised[:2].mean() < mean_high


def test_agreement_that_cannot_be_normalised_says_why():
    iou, null, slides = agreement_of([0.3, 0.3, 0.3, 0.2], [0.2] * 4)
    iou[1], null[1] = np.nan, np.nan
    found = bootstrap.estimate(results_of(iou, null, slides), [[], [[3]], [[3]], [[3]]], 500, 0)
    assert found.undefined == [
        "neither network was trained twice",
        "no patch on which neither heatmap is constant",
        "two trainings agree no more than their null",
        "a ceiling itself",
    ]
    assert np.isnan(found.normalised).all()
    alone = bootstrap.estimate(results_of(iou, np.full_like(null, np.nan), slides * 0), [[[3]]] * 3 + [[]], 500, 0)
    assert alone.undefined == ["all patches are of one slide"] * 3 + ["neither network was trained twice"]
    assert all(np.isnan(bound).all() for bound in alone.interval("iou"))


def test_what_is_compared_with_the_null_is_of_the_patches_that_have_one():
    iou, null, slides = agreement_of([0.2, 0.6], [0.2] * 2)
    iou[:, slides < 4] += 0.3
    null[:, slides < 4] = np.nan
    found = bootstrap.estimate(results_of(iou, null, slides), [[[1]], [[1]]], 500, 0)
    assert found.iou[0] > 0.25
    assert found.excess[0] == pytest.approx((iou - null)[0, slides >= 4].mean())
    np.testing.assert_allclose(found.normalised[0], 0, atol=0.02)
    low, high = found.interval("excess")
    assert low[0] < 0 < high[0]
    null[:] = np.nan
    assert bootstrap.estimate(results_of(iou, null, slides), [[[1]], []], 500, 0).undefined[0] == (
        "all patches of a label are of one slide"
    )


def test_each_network_of_a_pair_is_normalised_by_its_own_twins(settings):
    names = ("resnet34", "densenet121", "resnet34_twin", "resnet34_untrained")
    networks = {name: recipe(settings, name) for name in names}
    # pairs: 0 resnet ~ densenet, 1 resnet ~ twin, 2 resnet ~ untrained, 3 densenet ~ twin, 4, 5: with the untrained
    assert ceilings(networks) == [[[1]], [[1], [1]], [[1]], [[1]], [], [[1]]]
