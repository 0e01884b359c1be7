"""Rounds of perturbation samples until the map is stable, by LIME and KernelSHAP on small networks."""

import itertools

import numpy as np
import pytest
import torch

from conftest import chosen
from pcam_agreement.attribution.common import surrogate
from pcam_agreement.core import plugins
from pcam_agreement.heatmaps.masks import overlap, top_mask
from pcam_agreement.inference.batch import Batch
from small_networks import SEEDS, Linear, run, score_of


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_a_patch_of_one_superpixel_has_a_constant_map(method, patches, settings):
    whole, few = np.zeros((1, 96, 96), np.int64), chosen(settings, method, samples=8, max_samples=8)
    score, module = score_of(Linear(), patches[:1]), plugins.load(plugins.METHODS, "method", method)
    attribution, diagnostics = module.attribute(score, patches[:1], SEEDS[:1], few, Batch(8), superpixels=whole)
    assert diagnostics["superpixels"].tolist() == [1]
    assert attribution.unique().numel() == 1


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"sampling": "orthogonal"},
        {"sampling": "orthogonal", "interactions": True},
    ],
    ids=["as published", "orthogonal", "without interactions"],
)
def test_the_stated_stability_is_that_of_maps_from_other_samples(patches, settings, resnet, variant):
    change = {"segments": 25, "samples": 110, "max_samples": 110, **variant}
    maps, stated = [], []
    for repeat in range(4):
        seeds = [seed + repeat for seed in SEEDS]
        attribution, diagnostics = run("lime", resnet, patches[:3], settings, 64, seeds, **change)
        maps.append(top_mask(attribution.abs().flatten(1).numpy(), 0.25))
        stated.append(diagnostics["stability"].mean().item())
    shown = np.mean([overlap(a, b).mean() for a, b in itertools.combinations(maps, 2)])
    assert np.mean(stated) == pytest.approx(shown, abs=0.1)


def test_samples_are_added_until_the_mask_is_stable_and_no_further(patches, settings, resnet):
    change = {"segments": 16, "samples": 40, "max_samples": 320}
    _, easy = run("lime", resnet, patches[:4], settings, 64, tolerance=0.5, **change)
    _, hard = run("lime", resnet, patches[:4], settings, 64, tolerance=0.1, **change)
    assert (easy["samples"] < hard["samples"]).any()
    for diagnostics, tolerance in ((easy, 0.5), (hard, 0.1)):
        converged = diagnostics["stability"] >= 1 - tolerance
        assert (diagnostics["unconverged"].bool() == ~converged).all()
        assert (diagnostics["samples"][~converged] == 320).all()


def test_shares_of_superpixels_are_the_mask_of_their_map():
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, (5, 96 * 96))
    values = random.integers(0, 4, (5, 9)).astype(float)  # with ties
    sizes = torch.from_numpy(np.stack([np.bincount(row, minlength=12) for row in labels])).double()
    padded = torch.nn.functional.pad(torch.from_numpy(values), (0, 3))
    shares = surrogate.top_shares(padded, sizes, 0.25).numpy()
    expected = top_mask(np.take_along_axis(values, labels, 1), 0.25)
    np.testing.assert_allclose(np.take_along_axis(shares, labels, 1), expected, rtol=1e-6)
