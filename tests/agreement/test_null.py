"""The null: a count over other patches, centre bias, and the groups that patches are dealt into."""

import itertools

import numpy as np
import pytest

from pcam_agreement.agreement.null import PARTNERS, groups, null_iou
from pcam_agreement.heatmaps.masks import normalise, overlap, top_mask

random = np.random.default_rng(0)


def test_the_null_is_a_slow_count_over_the_other_patches_of_the_label():
    """With ties, a constant heatmap, and a patch without another of its label on another slide."""
    heatmaps = np.round([normalise(maps)[0] for maps in random.exponential(size=(3, 7, 24, 24))], 1)
    masks = np.stack([top_mask(maps.reshape(7, -1), 0.25) for maps in heatmaps])
    assert ((masks > 0) & (masks < 1)).any()
    constant = np.zeros((3, 7), bool)
    constant[1, 2] = True
    labels, slides = np.array([0, 0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 2, 2, 3, 2])
    null = null_iou(masks, constant, labels, slides)
    for row, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for patch in range(7):
            others = [q for q in range(7) if labels[q] == labels[patch] and slides[q] != slides[patch]]
            halves = [
                np.mean([overlap(masks[a, patch], masks[b, q]) for q in others if not constant[b, q]] or [np.nan])
                for a, b in ((i, j), (j, i))
            ]
            expected = np.nan if constant[[i, j], patch].any() else np.mean(halves)
            assert null[row, patch] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert np.isnan(null[0, 3])
    assert np.isnan(null[0, 2])
    assert np.isfinite(null[1, 2])


def test_the_null_keeps_a_shared_centre_bias_and_independent_maps_stay_at_chance():
    middle = np.exp(-((np.mgrid[:48, :48] - 23.5) ** 2).sum(0) / 200)
    labels, slides = np.zeros(20, int), np.arange(20)
    for prior, expected in ((0.0, 1 / 7), (1.0, None)):
        noisy = prior * middle + random.random((2, 20, 48, 48))
        masks = np.stack([top_mask(maps.reshape(20, -1), 0.25) for maps in noisy])
        null = null_iou(masks, np.zeros((2, 20), bool), labels, slides).mean()
        same = overlap(*masks).mean()
        assert null == pytest.approx(same, abs=0.01)  # nothing in common but the prior
        assert null == pytest.approx(expected, abs=0.01) if expected else null > 0.25


def partners(labels: np.ndarray, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every patch, its partners in its group, and all patches that could be partners."""
    dealt = groups(labels, slides)
    assert sorted(np.concatenate(dealt)) == list(range(len(labels)))
    actual, possible = np.zeros((2, len(labels)), int)
    for group in dealt:
        assert len(set(labels[group])) == 1
        for patch in group:
            actual[patch] = (slides[group] != slides[patch]).sum()
            possible[patch] = ((slides != slides[patch]) & (labels == labels[patch])).sum()
    return actual, possible


def test_every_patch_has_twenty_partners_where_there_are_as_many():
    for seed in range(200):
        generator = np.random.default_rng(seed)
        count = generator.integers(1, 300)
        labels, slides = (
            generator.random(count) < generator.random(),
            (generator.integers(1, 40) * generator.random(count) ** 2).astype(int),
        )
        actual, possible = partners(labels.astype(int), slides)
        assert (actual >= np.minimum(possible, PARTNERS)).all()


def test_groups_are_not_larger_than_partners_ask_for():
    slides = np.repeat(np.arange(64), 4)
    assert max(map(len, groups(np.arange(256) % 2, slides))) <= 26
    assert max(map(len, groups(np.zeros(256), np.zeros(256)))) <= 26  # one slide: no partners anyway
