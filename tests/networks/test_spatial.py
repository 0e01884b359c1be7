"""Grad-CAM's layer: where each library's networks have their last map, and its size."""

import pytest
import torch

from conftest import ready
from pcam_agreement.networks.classifier import blank_classifier
from pcam_agreement.networks.spatial import on_grid, prefix_tokens, spatial_layer, spatial_size


@pytest.mark.parametrize(
    ("architecture", "layer", "size"),
    [
        ("resnet34", "layer4", 3),
        ("densenet121", "features", 3),
        ("alexnet", "features.11", 5),
        ("vgg11", "features.19", 6),
        ("efficientnet_b1", "features", 3),
        ("inception_v3", "Mixed_7c", 1),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1", 6),
        ("vgg11_bn", "features.27", 6),
        ("squeezenet1_1", "features", 5),
        ("mobilenet_v3_small", "features", 3),
        ("shufflenet_v2_x0_5", "conv5", 3),
        ("mnasnet0_5", "layers", 3),
        ("googlenet", "inception5b", 3),
        ("swin_t", "permute", 3),
        ("convnext_tiny", "features", 3),
        ("regnet_y_400mf", "trunk_output", 3),
        ("timm/resnet10t", "layer4", 3),
        ("timm/vit_tiny_patch16_224", "blocks.11.norm1", 6),
        ("timm/test_mambaout", "stages.3", 3),
        ("timm/test_vit2", "blocks.7.norm1", 6),
        ("timm/cait_xxs24_224", "blocks.23.norm1", 6),
    ],
)
def test_the_last_spatial_map_is_that_of_the_layer_before_the_global_pooling(architecture, layer, size):
    blank = blank_classifier(architecture, "native")  # weights take seconds, and places do not depend on them
    assert spatial_layer(blank) == layer
    assert spatial_size(blank) == size


@pytest.mark.parametrize(("architecture", "size"), [("inception_v3", 8), ("maxvit_t", 7), ("vit_b_32", 7)])
def test_at_the_architectures_input_size_the_map_is_larger(architecture, size):
    assert spatial_size(blank_classifier(architecture, "architecture")) == size


def test_a_layer_that_timm_names_wrongly_is_one_sentence(resnet, monkeypatch):
    monkeypatch.setattr(resnet.backbone, "feature_info", [{"module": "stages.9"}])
    with pytest.raises(ValueError, match="timm/test_resnet is not where its library says; leave grad_cam, "):
        spatial_layer(resnet)


@pytest.mark.parametrize(("before", "side"), [(0, 3), (1, 3), (1, 6), (2, 4), (5, 1), (5, 2), (5, 7), (9, 4)])
def test_tokens_are_put_back_on_their_grid_without_those_before_them(before, side):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack([rows, columns])[None]  # [1, 2, side, side]
    tokens = torch.cat([torch.full((1, before, 2), 9), places.flatten(2).mT], dim=1)
    backbone = torch.nn.Identity()
    backbone.num_prefix_tokens = before
    assert torch.equal(on_grid(tokens, backbone), places)


def test_a_class_token_that_comes_behind_the_last_map_is_not_cut_off():
    backbone = torch.nn.Identity()
    backbone.num_prefix_tokens = 1
    assert on_grid(torch.zeros(2, 36, 8), backbone).shape == (2, 8, 6, 6)


def test_torchvisions_class_token_is_the_one_token_before_those_of_the_patch():
    assert prefix_tokens(ready("vit_b_32", input_size="architecture").backbone) == 1
    assert prefix_tokens(ready("timm/test_vit").backbone) == 1
    assert prefix_tokens(ready("timm/test_vit2").backbone) == 1  # a register, no class token


def test_tokens_that_fill_no_square_are_one_sentence():
    with pytest.raises(ValueError, match="12 tokens of Identity, 0 of them before those of the patch, fill no square"):
        on_grid(torch.zeros(1, 12, 4), torch.nn.Identity())
