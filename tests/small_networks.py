"""Networks whose attributions are known in closed form, and methods run on a network."""

import copy
from typing import Any

import timm
import torch
from torch import nn
from torchvision import models

from conftest import attribute, chosen
from pcam_agreement.attribution.common.score import make_score
from pcam_agreement.core.seeds import seed_of
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.classifier import Classifier

TRANSFORMERS = ("class_token", "registers", "pooled", "torchvision")
SEEDS = [seed_of(0, index) for index in range(8)]


class Linear(nn.Module):
    """A weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        self.eval()

    def forward(self, patches):
        return (patches * self.weight).sum((1, 2, 3)) + 0.5


def precise(network, patches):
    """In float64: in float32 a rounded input can open or close a ReLU, and the gradient jumps."""
    return copy.deepcopy(network).double(), patches.double()


def score_of(network, patches, target="tumour", output="logit"):
    with torch.no_grad():
        return make_score(network, network(patches), target, output)


def run(method, network, patches, settings, batch_size=16, seeds=SEEDS, **change):
    """Attribution and diagnostics by the committed settings with these changed."""
    score = score_of(network, patches)
    return attribute(
        method, score, patches, seeds[: len(patches)], chosen(settings, method, **change), Batch(batch_size)
    )


def small_transformer(kind: str, size: int = 96) -> Classifier:
    """A vision transformer of two blocks with two heads, with weights large enough for attention that is not uniform.

    kind: class_token, registers (four of them behind the class token, queries and keys normalised), pooled (no class
    token, one register, the mean over the patch tokens), or torchvision's.
    """
    torch.manual_seed(0)
    shape = {"patch_size": size // 3, "num_classes": 1}
    timms: dict[str, Any] = {
        "class_token": {},
        "registers": {"reg_tokens": 4, "qk_norm": True, "init_values": 0.5},
        "pooled": {"reg_tokens": 1, "class_token": False, "global_pool": "avg"},
    }
    if kind == "torchvision":
        backbone = models.VisionTransformer(size, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, **shape)
        architecture, head = "vit_b_16", "heads.head"
    else:
        options = {"embed_dim": 8, "depth": 2, "num_heads": 2, **timms[kind], **shape}
        backbone = timm.models.VisionTransformer(img_size=size, **options)
        architecture, head = f"timm/{kind}", "head"
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.8)
    network = Classifier(architecture, backbone, head, size, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    return network.eval().requires_grad_(False)


def attention_by_hand(network, patches):
    """Logits [n] of a small transformer, and both blocks' attention [n, heads, t, t], from its weights."""
    backbone, attention = network.backbone, []
    inputs = (patches - network.mean) / network.std
    if network.architecture.startswith("timm/"):
        tokens = backbone._pos_embed(backbone.patch_embed(inputs))
        for block in backbone.blocks:
            q, k, v = (heads_of(part) for part in block.attn.qkv(block.norm1(tokens)).chunk(3, 2))
            attention.append((block.attn.q_norm(q) @ block.attn.k_norm(k).mT / q.shape[-1] ** 0.5).softmax(-1))
            tokens = tokens + block.ls1(block.attn.proj((attention[-1] @ v).transpose(1, 2).flatten(2)))
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        return backbone.forward_head(backbone.norm(tokens))[:, 0], attention
    tokens = torch.cat([backbone.class_token.expand(len(inputs), -1, -1), backbone._process_input(inputs)], 1)
    tokens = tokens + backbone.encoder.pos_embedding
    for block in backbone.encoder.layers:
        layer = block.self_attention
        projected = block.ln_1(tokens) @ layer.in_proj_weight.mT + layer.in_proj_bias
        q, k, v = (heads_of(part) for part in projected.chunk(3, 2))
        attention.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1))
        tokens = tokens + layer.out_proj((attention[-1] @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.ln_2(tokens))
    return backbone.heads(backbone.encoder.ln(tokens)[:, 0])[:, 0], attention


def heads_of(tokens):
    """Tokens [n, t, c] divided among two heads, [n, 2, t, c / 2]."""
    return tokens.unflatten(2, (2, -1)).transpose(1, 2)


def map_of_rows(matrix, kind: str):
    """What the head reads of a product over the blocks [n, t, t], as a heatmap of 3x3 tokens [n, 1, 96, 96]."""
    prefix = matrix.shape[-1] - 9
    row = matrix[:, prefix:].mean(1) if kind == "pooled" else matrix[:, 0]
    grid = row[:, prefix:].reshape(-1, 1, 3, 3)
    return nn.functional.interpolate(grid, (96, 96), mode="bilinear")


def linear_behind_its_map() -> Classifier:
    """A convolution with a map of 3x3 places and four channels, and a weighted sum of them."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.Flatten(), nn.Linear(36, 1))
    network = Classifier("linear_behind_its_map", backbone, "2", 96, [0.0] * 3, [1.0] * 3)
    return network.eval().requires_grad_(False)
