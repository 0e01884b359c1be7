import captum.attr
import pytest
import torch

from conftest import CAMS, ready
from pcam_agreement.attribution.common.class_activation import activation_and_gradient
from pcam_agreement.networks.spatial import spatial_layer
from small_networks import run, score_of, small_transformer


@pytest.mark.parametrize("architecture", ["resnet34", "densenet121", "alexnet", "vgg11", "efficientnet_b1"])
def test_grad_cam_agrees_with_captum(architecture, patches, settings):
    network = ready(architecture)
    attribution, _ = run("grad_cam", network, patches[:2], settings)
    layer = network.backbone.get_submodule(spatial_layer(network))
    cams = captum.attr.LayerGradCam(network, layer).attribute(patches[:2], relu_attributions=True)
    assert min(cams.shape[2:]) > 1
    expected = torch.nn.functional.interpolate(cams, (96, 96), mode="bilinear")
    torch.testing.assert_close(attribution, expected.detach(), rtol=1e-4, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize(
    "architecture", ["vit_b_16", "timm/vit_tiny_patch16_224", "timm/resnet10t", "timm/test_mambaout"]
)
def test_grad_cam_finds_the_places_of_tokens_and_of_timms_networks(architecture, patches, settings):
    network = ready(architecture)
    torch.nn.init.normal_(network.backbone.get_submodule(network.head).weight)  # ViT's is built as zeros
    attribution, _ = run("grad_cam", network, patches[:4], settings)
    assert (attribution.flatten(1).amax(1) > 0).any()
    moved = patches[:1].clone()
    moved[:, :, :16, :16] = 1 - moved[:, :, :16, :16]  # the first token's place
    layer = network.backbone.get_submodule(spatial_layer(network))
    before, after = (
        activation_and_gradient(score_of(network, inputs), layer, inputs, torch.zeros(1, dtype=int))[0]
        for inputs in (patches[:1], moved)
    )
    assert before.shape[2] == before.shape[3] > 1
    change = (before - after).abs().sum(1)[0]
    assert change.argmax() == 0


@pytest.mark.parametrize("kind", ["registers", "pooled"])
@pytest.mark.parametrize("size", [96, 126])
def test_tokens_behind_registers_are_put_on_their_places(kind, size, patches, settings):
    network = small_transformer(kind, size)
    attribution, _ = run("hires_cam", network, patches, settings)  # which has negative values as well
    assert (attribution.flatten(1).std(1) > 0).all()
    layer = network.backbone.blocks[0].norm1  # where no token has seen another
    for row, column in ((0, 0), (0, 2), (2, 1)):
        moved = patches[:1].clone()
        moved[:, :, 32 * row + 8 : 32 * row + 24, 32 * column + 8 : 32 * column + 24] = 1
        before, after = (
            activation_and_gradient(score_of(network, inputs), layer, inputs, torch.zeros(1, dtype=int))[0]
            for inputs in (patches[:1], moved)
        )
        changed = (before - after).abs().sum(1)[0] > 1e-4
        assert changed.nonzero().tolist() == [[row, column]]


@pytest.mark.parametrize("method", CAMS)
def test_a_map_of_one_pixel_is_one_sentence(method, patches, settings):
    with pytest.raises(ValueError, match="inception_v3 is one pixel at this input size; set input"):
        run(method, ready("inception_v3"), patches[:1], settings)


def test_grad_cam_of_a_layer_that_is_missing_is_one_sentence(patches, settings):
    network = ready("timm/resnet10t")
    network.backbone.feature_info[-1]["module"] = "stages.9"
    with pytest.raises(ValueError, match="resnet10t is not where its library says; leave grad_cam, "):
        run("grad_cam", network, patches[:1], settings)
