"""The consensus of the other recipes against ranks and correlations by other libraries."""

import numpy as np
import pandas as pd
import pytest

from pcam_agreement.agreement.consensus import consensus_maps, consensus_scores
from pcam_agreement.networks.recipes import Network

NETWORKS = [Network(recipe, training, recipe) for recipe in ("a", "b") for training in ("1", "2", "untrained")]


def test_the_consensus_leaves_out_the_networks_own_recipe_and_untrained_ones():
    random = np.random.default_rng(0)
    heatmaps = random.integers(0, 30, (6, 3, 8, 8)).astype(np.float16)  # with ties
    heatmaps[1, 0] = 0  # a constant one
    recipes, trained = ([getattr(network, name) for network in NETWORKS] for name in ("recipe", "trained"))
    maps = consensus_maps(heatmaps, recipes, trained)
    ranks = pd.DataFrame(heatmaps.reshape(18, 64).astype(float)).rank(axis=1).to_numpy().reshape(6, 3, 64)
    for row, others in enumerate(([3, 4], [0, 1])):
        expected = ranks[others].mean(0)
        for patch in range(3):
            assert np.corrcoef(maps[row, patch], expected[patch])[0, 1] == pytest.approx(1, abs=1e-6)
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    with np.errstate(invalid="ignore"):
        spearman = np.array([[np.corrcoef(ranks[i, p], ranks[j, p])[0, 1] for p in range(3)] for i, j in pairs])
        standard = (ranks - ranks.mean(-1, keepdims=True)) / ranks.std(-1, keepdims=True)
    scores = consensus_scores(spearman, recipes, trained)
    for i, others in ((0, [3, 4]), (2, [3, 4]), (4, [0, 1]), (5, [0, 1])):
        for patch in (1, 2):
            expected = np.corrcoef(standard[i, patch], standard[others, patch].sum(0))[0, 1]
            assert scores[i, patch] == pytest.approx(expected)
    assert np.isnan(scores[1, 0])
    assert scores[3, 0] == pytest.approx(spearman[pairs.index((0, 3)), 0])  # of the others, one is constant
    assert np.isnan(consensus_scores(spearman, ["a"] * 6, trained)).all()
