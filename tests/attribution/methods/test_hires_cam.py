import pytest
import torch
from torch.nn import functional

from conftest import ready
from small_networks import linear_behind_its_map, run


def test_a_network_that_is_linear_behind_its_map_has_its_logit_less_the_bias_for_the_sum(patches, settings):
    network = linear_behind_its_map()
    attribution, _ = run("hires_cam", network, patches, settings)
    conv, _, head = network.backbone
    places = (conv(patches) * head.weight.view(4, 3, 3)).sum(1, keepdim=True)
    torch.testing.assert_close(attribution, functional.interpolate(places, (96, 96), mode="bilinear"))
    torch.testing.assert_close(attribution.mean((1, 2, 3)) * 9, network(patches) - head.bias, rtol=1e-4, atol=1e-5)
    assert (attribution < 0).any()


def test_the_map_of_a_resnet_adds_up_to_its_logit_less_the_bias(patches, settings):
    network = ready("resnet34")
    attribution, _ = run("hires_cam", network, patches[:2], settings)
    expected = network(patches[:2]) - network.backbone.fc.bias
    torch.testing.assert_close(attribution.mean((1, 2, 3)) * 9, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet34", "timm/test_resnet"])
def test_behind_global_pooling_it_is_grad_cam(architecture, patches, settings):
    """All places then have the same gradient. The maps are compared where the ReLU does nothing."""
    network = ready(architecture)
    signed, _ = run("hires_cam", network, patches[:4], settings)
    positive, _ = run("grad_cam", network, patches[:4], settings)
    below = positive.flatten(1).amin(1) == 0
    torch.testing.assert_close(positive[~below], signed[~below], rtol=1e-4, atol=1e-6)
    assert (positive - signed >= -1e-6 * signed.abs().amax()).all()
