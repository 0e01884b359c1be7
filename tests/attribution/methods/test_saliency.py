import captum.attr
import torch

from small_networks import Linear, run


def test_saliency_of_a_linear_network_is_its_weight(patches, settings):
    network = Linear()
    attribution, _ = run("saliency", network, patches, settings)
    torch.testing.assert_close(attribution, network.weight.expand_as(attribution))


def test_saliency_agrees_with_captum(patches, settings, resnet):
    attribution, _ = run("saliency", resnet, patches, settings)
    expected = captum.attr.Saliency(resnet).attribute(patches, abs=False)
    torch.testing.assert_close(attribution, expected, rtol=1e-4, atol=1e-6)
