import captum.attr
import torch

from small_networks import run


def test_input_x_gradient_agrees_with_captum(patches, settings, resnet):
    attribution, _ = run("input_x_gradient", resnet, patches, settings)
    expected = captum.attr.InputXGradient(resnet).attribute(patches)
    torch.testing.assert_close(attribution, expected, rtol=1e-4, atol=1e-6)
