import torch
from torch.nn import functional

from pcam_agreement.attribution.methods.grad_cam_plus_plus import weighted_sum
from small_networks import linear_behind_its_map, precise, run


def test_its_weights_are_those_of_the_first_three_derivatives_of_the_exponential(patches, settings):
    network, patches = precise(linear_behind_its_map(), patches[:1])
    conv, _, head = network.backbone
    activation = conv(patches).relu().requires_grad_(True)  # as in the paper, and large enough to matter
    weights = head.weight.view(activation.shape)
    y = (activation * weights).sum().exp()

    def diagonal(derivative):
        each = [torch.autograd.grad(value, activation, create_graph=True)[0] for value in derivative.flatten()]
        return torch.stack([gradient.flatten()[i] for i, gradient in enumerate(each)]).view(activation.shape)

    first = torch.autograd.grad(y, activation, create_graph=True)[0]
    second = diagonal(first)
    third = diagonal(second)
    alpha = second / (2 * second + activation.sum((2, 3), keepdim=True) * third)
    channels = (alpha * first.relu()).sum((2, 3), keepdim=True)
    expected = (channels * activation).sum(1, keepdim=True).relu() / y
    cam = weighted_sum(activation.detach(), weights)
    torch.testing.assert_close(cam, expected.detach(), rtol=1e-8, atol=1e-12)
    assert cam.amax() > 0


def test_the_map_is_enlarged_to_the_patch(patches, settings):
    network = linear_behind_its_map()
    attribution, _ = run("grad_cam_plus_plus", network, patches, settings)
    conv, _, head = network.backbone
    cams = weighted_sum(conv(patches), head.weight.view(1, 4, 3, 3))
    torch.testing.assert_close(attribution, functional.interpolate(cams, (96, 96), mode="bilinear"))


def test_a_channel_whose_gradient_is_nowhere_positive_has_no_weight():
    activation, gradient = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    gradient[:, 1] *= -1
    torch.testing.assert_close(weighted_sum(activation, gradient), weighted_sum(activation[:, :1], gradient[:, :1]))


def test_a_denominator_of_zero_gives_a_finite_map():
    activation, gradient = torch.full((1, 1, 2, 2), -0.5), torch.ones(1, 1, 2, 2)
    assert torch.isfinite(weighted_sum(activation, gradient)).all()
