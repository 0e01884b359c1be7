"""The attention of transformers: that of their weights, and what has none."""

import timm
import torch
from pytest import mark, raises
from torch import nn

from conftest import ready
from pcam_agreement.attribution.common.attention import attention_layers, attention_of, kept_attention, read_tokens
from pcam_agreement.networks.classifier import Classifier, build_classifier
from small_networks import TRANSFORMERS, attention_by_hand, run, score_of, small_transformer


@mark.parametrize("kind", TRANSFORMERS)
def test_the_attention_that_is_kept_is_that_of_the_weights(kind, patches):
    network = small_transformer(kind)
    logits, expected = attention_by_hand(network, patches)
    scores, attention = attention_of(score_of(network, patches), patches, torch.arange(8))
    torch.testing.assert_close(scores, logits, rtol=1e-4, atol=1e-5)
    assert len(attention) == 2
    for of_block, by_hand in zip(attention, expected, strict=True):
        torch.testing.assert_close(of_block, by_hand, rtol=1e-4, atol=1e-5)
    assert attention[0].std(-1).mean() > 0.01  # not uniform, so that this compares something


@mark.parametrize("architecture", ["timm/test_vit", "timm/test_vit2", "timm/test_vit4", "vit_b_16"])
def test_looking_at_attention_changes_no_logit_and_leaves_the_network_as_it_was(architecture, patches):
    network = ready(architecture)
    nn.init.normal_(network.backbone.get_submodule(network.head).weight)
    with torch.no_grad():
        before = network(patches[:2])
        with kept_attention(network) as attention:
            during = network(patches[:2])
        after = network(patches[:2])
    torch.testing.assert_close(before, during, rtol=1e-4, atol=1e-4)
    assert torch.equal(before, after)
    assert len(attention) == len(attention_layers(network))
    for of_block in attention:
        torch.testing.assert_close(of_block.sum(-1), torch.ones_like(of_block[..., 0]))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert getattr(module, "fused_attn", True)


def test_rotary_position_embeddings_are_in_the_attention(patches):
    torch.manual_seed(0)
    options = {"embed_dim": 16, "depth": 2, "num_heads": 2, "use_rot_pos_emb": True, "use_abs_pos_emb": False}
    backbone = timm.models.Eva(img_size=96, patch_size=32, num_classes=1, **options)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.5)
    network = Classifier("timm/eva", backbone, "head", 96, [0.0] * 3, [1.0] * 3).eval().requires_grad_(False)
    white = torch.ones(1, 3, 96, 96)  # all patch tokens alike
    _, (first, _) = attention_of(score_of(network, white), white, torch.zeros(1, dtype=int))
    assert first.shape == (1, 2, 10, 10)
    assert (first[..., 1:, 1:].std(-1) > 1e-3).any()


@mark.parametrize("method", ["attention_rollout", "generic_attention"])
@mark.parametrize(
    "architecture",
    [
        *("resnet34", "timm/test_efficientnet", "swin_t"),
        "timm/test_vit3",  # pools by attention
        "timm/xcit_nano_12_p16_224",  # attention among channels
        "timm/cait_xxs24_224",  # the class token alone attends, in blocks of its own
        "timm/pvt_v2_b0",  # fewer keys than queries
    ],
)
def test_a_network_without_attention_from_all_tokens_to_all_is_one_sentence(method, architecture, patches, settings):
    network = ready(architecture)
    with raises(ValueError, match=rf"{architecture} is no stack of blocks.*integrated_gradients, occlusion or rise\.$"):
        run(method, network, patches[:1], settings)
    assert not any(module._forward_hooks for module in network.modules())


def test_attention_within_windows_is_refused(patches, settings):
    backbone = timm.models.VisionTransformerSAM(
        img_size=96, patch_size=16, embed_dim=8, depth=2, num_heads=2, num_classes=1, window_size=3, neck_chans=0
    )
    network = Classifier("timm/windows", backbone, "head.fc", 96, [0.5] * 3, [0.5] * 3).eval().requires_grad_(False)
    with raises(ValueError, match="timm/windows is no stack of blocks"):
        run("attention_rollout", network, patches[:1], settings)


@mark.parametrize("pooling", ["published", "token", "mean", "token_and_mean"])
def test_the_tokens_that_count_are_those_that_the_head_reads(pooling):
    """What the head reads of each token is what a change of that token changes in it; of both, half each."""
    options = [("reg_tokens", 2)]
    network = build_classifier("timm/test_vit", "none", "native", pooling=pooling, options=options).eval()
    backbone, tokens = network.backbone, torch.randn(1, 39, 64, requires_grad=True)
    read = backbone.forward_head(tokens, pre_logits=True)
    if pooling != "published":
        read = backbone.head[0](read)
    read.sum().backward()
    expected = tokens.grad.mean(-1) / tokens.grad.mean(-1).sum()
    torch.testing.assert_close(read_tokens(network, torch.zeros(1, 2, 39, 39))[:, 0], expected)
