"""KernelSHAP against Shapley values by their definition."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcam_agreement.attribution.common.superpixels import superpixels
from small_networks import Linear, run


def test_kernel_shap_of_a_linear_network_is_each_superpixels_share(patches, settings):
    network = Linear()
    attribution, diagnostics = run(
        "kernel_shap", network, patches[:2], settings, samples=60, max_samples=60, segments=16
    )
    pixels = patches[0].permute(1, 2, 0).numpy()
    labels = torch.from_numpy(superpixels(pixels, "slic", 16))
    for segment in range(int(labels.max()) + 1):
        inside = labels == segment
        mean = patches[0][:, inside].mean(1, keepdim=True)
        share = (network.weight[0][:, inside] * (patches[0][:, inside] - mean)).sum()
        torch.testing.assert_close(attribution[0, 0][inside][0], share, rtol=1e-3, atol=1e-3)
    assert (diagnostics["r2"] > 0.9999).all()


def test_kernel_shap_comes_to_the_shapley_values(patches, settings, resnet):
    segments = 4
    attribution, _ = run(
        "kernel_shap",
        resnet,
        patches[:1],
        settings,
        superpixels="grid",
        segments=segments,
        samples=1200,
        max_samples=1200,
    )
    pixels = patches[0].permute(1, 2, 0).numpy()
    labels = superpixels(pixels, "grid", segments)
    means = np.stack([pixels[labels == segment].mean(0) for segment in range(segments)])
    worth = {}
    for z in itertools.product((0, 1), repeat=segments):
        shown = np.where(np.array(z)[labels][..., None] > 0, pixels, means[labels])
        worth[z] = resnet(torch.from_numpy(shown).permute(2, 0, 1)[None].float()).item()
    for segment in range(segments):
        share = 0.0
        for z in worth:
            if not z[segment]:
                size = sum(z)
                weight = math.factorial(size) * math.factorial(segments - size - 1) / math.factorial(segments)
                share += weight * (worth[*z[:segment], 1, *z[segment + 1 :]] - worth[z])
        ours = attribution[0, 0][torch.from_numpy(labels == segment)][0].item()
        assert ours == pytest.approx(share, rel=0.05, abs=0.02 * max(map(abs, worth.values())))
    total = sum(attribution[0, 0][torch.from_numpy(labels == segment)][0].item() for segment in range(segments))
    assert total == pytest.approx(worth[1, 1, 1, 1] - worth[0, 0, 0, 0], rel=1e-4)
