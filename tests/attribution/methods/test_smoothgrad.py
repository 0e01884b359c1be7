import captum.attr
import numpy as np
import pytest
import torch

from pcam_agreement.attribution.methods import smoothgrad
from small_networks import SEEDS, precise, run


def test_smoothgrad_without_noise_is_the_gradient(patches, settings, resnet):
    smooth, _ = run("smoothgrad", resnet, patches[:2], settings, samples=3, sigma=0.0)
    plain, _ = run("saliency", resnet, patches[:2], settings)
    torch.testing.assert_close(smooth, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())


def test_smoothgrad_is_the_mean_of_the_gradients_at_its_noisy_patches(patches, settings, resnet):
    resnet, patches = precise(resnet, patches[:1])
    attribution, _ = run("smoothgrad", resnet, patches, settings, samples=4, sigma=0.2)
    start, length = int(np.random.default_rng(SEEDS[0]).integers(3 * 96 * 96)), 3 * 96 * 96
    noise = smoothgrad._noise(4, length)[:, start : start + length].view(4, 3, 96, 96)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    noisy = patches + 0.2 * noise
    expected = captum.attr.Saliency(resnet).attribute(noisy.double(), abs=False).mean(0)
    torch.testing.assert_close(attribution[0], expected, rtol=1e-6, atol=1e-9)
