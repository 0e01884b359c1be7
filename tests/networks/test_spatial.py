"""Grad-CAM's layer: where each library's networks have their last map, and its size."""

import pytest
import torch

from conftest import ready
from pcam_agreement.networks.spatial import on_grid, spatial_layer, spatial_size


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
    ],
)
def test_the_last_spatial_map_is_that_of_the_layer_before_the_global_pooling(architecture, layer, size):
    assert spatial_layer(ready(architecture)) == layer
    assert spatial_size(architecture, "native") == size


@pytest.mark.parametrize(("architecture", "size"), [("inception_v3", 8), ("maxvit_t", 7), ("vit_b_32", 7)])
def test_at_the_architectures_input_size_the_map_is_larger(architecture, size):
    assert spatial_size(architecture, "architecture") == size


def test_a_layer_that_timm_names_wrongly_is_one_sentence(resnet, monkeypatch):
    monkeypatch.setattr(resnet.backbone, "feature_info", [{"module": "stages.9"}])
    with pytest.raises(ValueError, match="timm/test_resnet is not where its library says; leave grad_cam out"):
        spatial_layer(resnet)


def test_tokens_are_put_back_on_their_grid_without_those_before_them():
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    places = torch.stack([rows, columns])[None]  # [1, 2, 3, 3]
    tokens = torch.cat([torch.full((1, 1, 2), 9.0), places.flatten(2).mT], dim=1)
    assert torch.equal(on_grid(tokens, torch.nn.Identity()), places)
