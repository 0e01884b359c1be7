import captum.attr
import torch

from small_networks import Linear, run


def test_occlusion_agrees_with_captum(patches, settings, resnet):
    attribution, _ = run("occlusion", resnet, patches[:2], settings, window=24, stride=12)
    mean = patches[:2].mean((2, 3), keepdim=True).expand_as(patches[:2])
    expected = captum.attr.Occlusion(resnet).attribute(patches[:2], (3, 24, 24), (3, 12, 12), mean)
    torch.testing.assert_close(attribution, expected[:, :1], rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_occlusion_of_a_linear_network_is_what_the_windows_hold(patches, settings):
    network = Linear()
    attribution, _ = run("occlusion", network, patches[:2], settings, window=32, stride=32)
    loss = (network.weight * (patches[:2] - patches[:2].mean((2, 3), keepdim=True))).sum(1, keepdim=True)
    sums = torch.nn.functional.avg_pool2d(loss, 32) * 32**2
    expected = torch.nn.functional.interpolate(sums, (96, 96), mode="nearest")
    torch.testing.assert_close(attribution, expected, rtol=1e-3, atol=1e-3)


def test_occlusion_covers_every_pixel_where_the_stride_does_not_fit(patches, settings):
    attribution, _ = run("occlusion", Linear(), patches[:1], settings, window=20, stride=17)
    assert torch.isfinite(attribution).all()
    assert (attribution != 0).all()
