"""LIME as published: the lime package's numbers, and closed forms."""

import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from sklearn.metrics import pairwise_distances

from pcam_agreement.attribution.common import sampling
from pcam_agreement.attribution.common.superpixels import superpixels
from small_networks import SEEDS, Linear, run


def test_lime_as_committed_agrees_with_the_lime_package_on_the_same_segments_and_samples(patches, settings, resnet):
    change = {"samples": 60, "max_samples": 60, "segments": 16}
    attribution, diagnostics = run("lime", resnet, patches[:2], settings, **change)
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = superpixels(pixels, "slic", 16)
        count = labels.max() + 1
        z = sampling.independent(np.random.default_rng(SEEDS[row]), 60, count)
        means = np.stack([pixels[labels == segment].mean(0) for segment in range(count)])
        inputs = np.where(z[:, labels, None] > 0, pixels, means[labels])
        with torch.no_grad():
            logits = resnet(torch.from_numpy(inputs).permute(0, 3, 1, 2).float()).numpy()[:, None]
        distances = pairwise_distances(z, z[:1], metric="cosine").ravel()
        package = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=0)
        _, local, r2, _ = package.explain_instance_with_data(z, logits, distances, 0, count)
        expected = np.zeros(count)
        for segment, coefficient in local:
            expected[segment] = coefficient
        np.testing.assert_allclose(attribution[row, 0], expected[labels], rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        assert diagnostics["superpixels"][row] == count
        assert diagnostics["r2"][row].item() == pytest.approx(r2, rel=1e-3)


def test_lime_on_a_linear_network_finds_each_superpixels_share(patches, settings):
    network = Linear()
    attribution, diagnostics = run(
        "lime", network, patches[:2], settings, samples=400, max_samples=400, segments=9, ridge=1e-9
    )
    for row in range(2):
        pixels = patches[row].permute(1, 2, 0).numpy()
        labels = torch.from_numpy(superpixels(pixels, "slic", 9))
        for segment in range(int(labels.max()) + 1):
            inside = labels == segment
            mean = patches[row][:, inside].mean(1, keepdim=True)
            share = (network.weight[0][:, inside] * (patches[row][:, inside] - mean)).sum()
            torch.testing.assert_close(attribution[row, 0][inside][0], share, rtol=1e-2, atol=1e-2)
    assert (diagnostics["r2"] > 0.999).all()
