"""AttnLRP: relevance by hand through a transformer, the same from two libraries, what adds up, what is refused.

Compared once (2026-11-29) with the authors' package lxt 2.1, which needs too many others to be a dependency, and zennit
0.5.1, in float64 on the small transformers of these tests; differences are over the largest value. lxt's rules for
activations, norms and attention, set into timm's layers and torch's attention: 3e-9; with zennit's gamma rules, on
timm's: 2e-9. On torchvision's transformers two things differ:
- lxt's own choice for them, cp_LRP, takes attention as a constant: 0.45, correlation .966; ours with the same: 3e-10.
- zennit's gamma rules are hooks of modules, which torch.nn.MultiheadAttention does not call for its projections; these
  get LRP-0: 0.25, correlation .990; ours with LRP-0 there: 6e-10.
"""

import pytest
import torch
from torch import nn

from conftest import ready
from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.methods.attn_lrp import check_network
from pcam_agreement.networks.classifier import Classifier
from small_networks import heads_of, precise, run, score_of, small_transformer

GAMMAS = {"gamma_convolution": 0.25, "gamma_linear": 0.05}
LRP_0 = {"gamma_convolution": 0.0, "gamma_linear": 0.0}


def linear(inputs, weight, bias, above, gamma):
    """Relevance of inputs [..., i] by every contribution [..., o, i]: those of the output's sign count more."""
    parts = inputs[..., None, :] * weight
    sign = (parts.sum(-1) + bias).sign()
    parts = parts + gamma * sign[..., None] * (sign[..., None] * parts).clamp(min=0)
    total = parts.sum(-1) + bias + gamma * sign * (sign * bias).clamp(min=0)
    return (parts * (above / total)[..., None]).sum(-2)


def layer_norm(inputs, norm, above):
    """Relevance of (inputs - mean) / deviation * weight + bias, where the deviation is a constant."""
    centred = inputs - inputs.mean(-1, keepdim=True)
    scaled = centred / (inputs.var(-1, correction=0, keepdim=True) + norm.eps).sqrt() * norm.weight
    of_centred = above * scaled / (scaled + norm.bias)
    ratio = of_centred / centred
    return inputs * (ratio - ratio.mean(-1, keepdim=True))


def by_hand(network, patches, gamma_convolution, gamma_linear):
    """Every relevance of a small transformer of timm's, from the logit to the pixels, from the paper's equations."""
    backbone, kept = network.backbone, []
    inputs = (patches - network.mean) / network.std
    side = backbone.patch_embed.patch_size[0]
    places = nn.functional.unfold(inputs, side, stride=side).mT  # [n, t, c * side * side]
    projection = backbone.patch_embed.proj
    embedded = places @ projection.weight.flatten(1).mT + projection.bias
    tokens = torch.cat([backbone.cls_token.expand(len(patches), -1, -1), embedded], 1) + backbone.pos_embed
    for block in backbone.blocks:
        normed = block.norm1(tokens)
        q, k, v = (heads_of(part) for part in block.attn.qkv(normed).chunk(3, 2))
        logits = q @ k.mT / q.shape[-1] ** 0.5
        mixed = logits.softmax(-1) @ v
        rows = mixed.transpose(1, 2).flatten(2)
        middle = tokens + block.attn.proj(rows)
        hidden = block.mlp.fc1(block.norm2(middle))
        kept.append((block, tokens, normed, q, k, v, logits, mixed, rows, middle, hidden))
        tokens = middle + block.mlp.fc2(block.mlp.act(hidden))
    head, last = backbone.head, backbone.norm(tokens)[:, 0]
    above = torch.zeros_like(tokens)
    above[:, 0] = linear(last, head.weight, head.bias, last @ head.weight.mT + head.bias, gamma_linear)
    above = layer_norm(tokens, backbone.norm, above)

    def layer(module, values, above):
        return linear(values, module.weight, module.bias, above, gamma_linear)

    for block, before, normed, q, k, v, logits, mixed, rows, middle, hidden in reversed(kept):
        active = block.mlp.act(hidden)
        change = block.mlp.fc2(active)
        direct, above = (above * value / (middle + change) for value in (middle, change))  # a sum: equation 8
        above = layer(block.mlp.fc2, active, above)
        above = layer(block.mlp.fc1, block.norm2(middle), above)  # through the activation as it is: equation 9
        above = direct + layer_norm(middle, block.norm2, above)
        change = middle - before
        direct, above = (above * value / middle for value in (before, change))
        above = heads_of(layer(block.attn.proj, rows, above))
        attention = logits.softmax(-1)
        of_v = v * (attention.mT @ (above / (2 * mixed)))  # proposition 3.3
        of_attention = attention * ((above / (2 * mixed)) @ v.mT)
        of_logits = logits * (of_attention - attention * of_attention.sum(-1, keepdim=True))  # proposition 3.1
        scaled = of_logits / (2 * logits) / q.shape[-1] ** 0.5
        joined = torch.cat([x.transpose(1, 2).flatten(2) for x in (q * (scaled @ k), k * (scaled.mT @ q), of_v)], 2)
        above = direct + layer_norm(before, block.norm1, layer(block.attn.qkv, normed, joined))
    above = above[:, 1:] * embedded / (embedded + backbone.pos_embed[:, 1:])
    pixels = linear(places, projection.weight.flatten(1), projection.bias, above, gamma_convolution)
    return nn.functional.fold(pixels.mT, patches.shape[2:], side, stride=side)


@pytest.mark.parametrize("gammas", [LRP_0, GAMMAS])
def test_relevance_is_that_of_the_papers_equations(gammas, patches, settings):
    network, patches = precise(small_transformer("class_token"), patches[:3])
    attribution, _ = run("attn_lrp", network, patches, settings, **gammas)
    expected = by_hand(network, patches, **gammas)
    torch.testing.assert_close(attribution, expected, rtol=1e-6, atol=1e-8 * expected.abs().max().item())


def test_timms_transformer_is_explained_like_torchvisions_of_the_same_weights(patches, settings):
    theirs, patches = precise(small_transformer("torchvision"), patches[:3])
    ours, _ = precise(small_transformer("class_token"), patches)
    a, b = ours.backbone, theirs.backbone
    pairs = [(a.patch_embed.proj, b.conv_proj), (a.norm, b.encoder.ln), (a.head, b.heads.head)]
    a.cls_token.copy_(b.class_token)
    a.pos_embed.copy_(b.encoder.pos_embedding)
    for block, other in zip(a.blocks, b.encoder.layers, strict=True):
        attention = other.self_attention
        pairs += [(block.norm1, other.ln_1), (block.norm2, other.ln_2), (block.attn.proj, attention.out_proj)]
        block.mlp = other.mlp
        block.attn.qkv.weight.copy_(attention.in_proj_weight)
        block.attn.qkv.bias.copy_(attention.in_proj_bias)
        block.norm1.eps = block.norm2.eps = other.ln_1.eps
    for module, other in pairs:
        module.load_state_dict(other.state_dict())
    a.norm.eps = b.encoder.ln.eps
    expected, _ = run("attn_lrp", theirs, patches, settings)
    attribution, _ = run("attn_lrp", ours, patches, settings)
    torch.testing.assert_close(attribution, expected, rtol=1e-6, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("kind", ["class_token", "registers", "pooled"])
def test_attention_by_matrix_products_is_explained_like_the_fused_kernel(kind, patches, settings):
    network, patches = precise(small_transformer(kind), patches[:3])
    fused, _ = run("attn_lrp", network, patches, settings)
    for block in network.backbone.blocks:
        block.attn.fused_attn = False
    products, _ = run("attn_lrp", network, patches, settings)
    torch.testing.assert_close(fused, products, rtol=1e-6, atol=1e-9 * fused.abs().max().item())
    assert fused.abs().amax() > 0


class Mixer(nn.Module):
    """Without biases and softmax, the one rule that keeps relevance: linear attention, norms, activations, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 32, 32, bias=False), nn.LayerNorm(8, bias=False)
        self.rms, self.qkv = nn.RMSNorm(8), nn.Linear(8, 24, bias=False)
        self.mlp, self.head = nn.Linear(8, 16, bias=False), nn.Linear(8, 1, bias=False)

    def forward(self, patches):
        tokens = self.embed(patches).flatten(2).mT
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        tokens = tokens + q @ k.mT @ v
        gate, values = self.mlp(self.rms(tokens)).chunk(2, -1)
        tokens = tokens + nn.functional.silu(gate) * nn.functional.gelu(values)
        return self.head(tokens.mean(1))


@pytest.mark.parametrize("gammas", [LRP_0, GAMMAS])
def test_without_biases_all_rules_but_that_of_softmax_add_up_to_the_logit(gammas, patches, settings):
    torch.manual_seed(0)
    network = Classifier("mixer", Mixer(), "head", 128, [0.5] * 3, [0.25] * 3).eval().requires_grad_(False)
    network, patches = precise(network, patches)
    attribution, _ = run("attn_lrp", network, patches, settings, **gammas)
    torch.testing.assert_close(attribution.sum((1, 2, 3)), network(patches), rtol=1e-9, atol=0)


def test_without_attention_and_gamma_it_is_normalised_input_times_gradient(patches, settings, resnet):
    network, patches = precise(resnet, patches[:2])
    attribution, _ = run("attn_lrp", network, patches, settings, **LRP_0)
    expected = (patches - network.mean) * gradient(score_of(network, patches), patches, torch.arange(2))
    torch.testing.assert_close(attribution, expected, rtol=1e-6, atol=1e-9 * expected.abs().max().item())


def test_a_divisor_that_depends_on_the_pixels_is_refused():
    """As in linear attention: the gradient of a ratio would leave its input no relevance."""

    class Ratio(nn.Sequential):
        def forward(self, patches):
            maps = self[0](patches)
            return self[1]((maps / (maps.relu() + 1)).mean((2, 3)))

    backbone = Ratio(nn.Conv2d(3, 8, 5, 3), nn.Linear(8, 1))
    network = Classifier("ratio", backbone, "1", 96, [0.5] * 3, [0.25] * 3).eval().requires_grad_(False)
    with pytest.raises(ValueError, match=r"cannot explain ratio .*: a ratio with a divisor that depends on the pixels"):
        check_network(network)


@pytest.mark.parametrize(
    ("architecture", "reason"), [("timm/xcit_nano_12_p16_224", "normalize"), ("mobilenet_v3_small", "hardsigmoid")]
)
def test_a_network_without_a_rule_for_what_it_computes_is_one_sentence(architecture, reason):
    with pytest.raises(ValueError, match=rf"cannot explain {architecture} .*: {reason}; use lrp for a convolutional"):
        check_network(ready(architecture))


@pytest.mark.parametrize(
    "architecture",
    [
        *("vit_b_16", "swin_t", "convnext_tiny", "efficientnet_b1", "timm/vit_tiny_patch16_224"),
        *("timm/vit_small_patch14_dinov2", "timm/vit_small_patch14_reg4_dinov2", "timm/test_vit3", "timm/test_vit4"),
        *("timm/eva02_tiny_patch14_224", "timm/cait_xxs24_224", "timm/pvt_v2_b0"),
    ],
)
def test_transformers_of_other_forms_have_rules(architecture):
    check_network(ready(architecture))
