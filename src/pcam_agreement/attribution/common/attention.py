"""The attention of a vision transformer, timm's or torchvision's, block by block, and its tokens' places in the patch.

Both methods multiply matrices [t, t], one a block, which say how much each of t tokens takes from each. Of the product,
only the rows of the tokens that the head reads are needed: one row is taken through the blocks, from the last one back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcam_agreement.attribution.common.score import Score, make_score
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.spatial import on_grid, prefix_tokens

Relevance = Callable[[Tensor, Tensor], Tensor]  # inputs [b, 3, h, w] and rows [b] -> relevance of the tokens [b, t]


def token_maps(patches: Tensor, backbone: nn.Module, batch: Batch, relevance: Relevance) -> Tensor:
    """The relevance of the patch tokens on their grid, bilinear to the size of the patch: [n, 1, 96, 96]."""
    maps = patches.new_zeros(len(patches), 1, *patches.shape[2:])

    def work(rows: Tensor) -> None:
        grid = on_grid(relevance(patches[rows], rows)[..., None], backbone)
        maps[rows] = functional.interpolate(grid, patches.shape[2:], mode="bilinear").to(maps.dtype)

    batch.each(len(patches), patches.device, work)
    return maps


def check_network(network: Any) -> None:
    """Raise ValueError where the network has no attention from all tokens to all in every block."""
    patch = torch.zeros(1, 3, PATCH, PATCH)
    with torch.no_grad():
        attention_of(
            make_score(network, patch.new_zeros(1), "tumour", "logit"), patch, torch.zeros(1, dtype=torch.int64)
        )


def attention_layers(network: Any) -> list[nn.Module]:
    """The layer of each block that computes attention, in order.

    Raises ValueError where the network is no stack of blocks with one self-attention each, or pools by attention.
    """
    backbone = network.backbone
    if hasattr(backbone, "class_token"):  # torchvision's vision transformers
        blocks = list(backbone.encoder.layers)
    else:
        blocks = list(getattr(backbone, "blocks", []))
    layers = [[layer for layer in block.modules() if _computes_attention(layer)] for block in blocks]
    pools_by_attention = getattr(backbone, "attn_pool", None) is not None
    if not blocks or pools_by_attention or any(len(of_block) != 1 for of_block in layers):
        raise ValueError(_refusal(network))
    return [layer for (layer,) in layers]


@contextmanager
def kept_attention(network: Any) -> Iterator[list[Tensor]]:
    """While open, a forward pass adds each block's attention to the list, [b, heads, t, t]; rows add up to 1.

    What the network computes stays the same, by matrix products in place of the fused kernels, which keep no attention.

    Raises ValueError as `attention_layers`, and in the pass where attention is not from all tokens to all.
    """
    layers: list[Any] = attention_layers(network)
    kept: list[Tensor] = []
    fused = [getattr(layer, "fused_attn", None) for layer in layers]
    handles = []

    def check(_: nn.Module, args: tuple, __: Any) -> None:
        tokens = args[0]
        if tokens.ndim != 3 or kept[-1].ndim != 4 or kept[-1].shape[2:] != (tokens.shape[1], tokens.shape[1]):
            raise ValueError(_refusal(network))  # among channels, to fewer tokens or within windows

    try:
        for layer in layers:
            if isinstance(layer, nn.MultiheadAttention):
                handles.append(layer.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
                handles.append(layer.register_forward_hook(lambda *call: _from_weights(kept, *call)))
            else:
                layer.fused_attn = False
                handles.append(layer.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output)))
            handles.append(layer.register_forward_hook(check))
        yield kept
    finally:
        for handle in handles:
            handle.remove()
        for layer, before in zip(layers, fused, strict=True):
            if before is not None:
                layer.fused_attn = before


def attention_of(score: Score, inputs: Tensor, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The scores [b] of inputs and the attention of every block, [b, heads, t, t].

    Raises ValueError as `attention_layers`, and where attention is not from all tokens to all.
    """
    with kept_attention(score.network) as kept:
        scores = score(inputs, rows)
    if any(len(of_block) != len(inputs) or of_block.shape[2:] != kept[0].shape[2:] for of_block in kept):
        raise ValueError(_refusal(score.network))  # the windows of a patch, or its tokens, become fewer
    return scores, kept


def read_tokens(network: Any, attention: Tensor) -> Tensor:
    """The share that the head reads of each token, [b, 1, t]: of the class token, of each token that is pooled, or half
    of it each.

    attention: a block's, [b, heads, t, t].
    """
    backbone, pooling = network.backbone, network.pooling
    prefix = prefix_tokens(backbone)
    if pooling == "published":
        pooling = "token" if getattr(backbone, "global_pool", "token") == "token" else "mean"
        prefix = 0 if getattr(backbone, "pool_include_prefix", False) else prefix
    shares = attention.new_zeros(len(attention), 1, attention.shape[-1], dtype=torch.float32)
    if pooling != "token":
        shares[..., prefix:] = 1 / (attention.shape[-1] - prefix)
    if pooling != "mean":
        shares[..., 0] = 1
    return shares / 2 if pooling == "token_and_mean" else shares


def _computes_attention(layer: nn.Module) -> bool:
    return isinstance(layer, nn.MultiheadAttention) or (hasattr(layer, "fused_attn") and hasattr(layer, "attn_drop"))


def _ask_for_weights(_: nn.Module, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {**options, "need_weights": True, "average_attn_weights": False}


def _from_weights(kept: list[Tensor], layer: nn.MultiheadAttention, args: tuple, output: tuple) -> tuple[Tensor, None]:
    """The layer's output, computed again from the attention that it gives: its own does not depend on that copy."""
    attention = output[1]
    kept.append(attention)
    weight, bias = layer.in_proj_weight, layer.in_proj_bias
    start = 2 * layer.embed_dim  # behind queries and keys
    values = functional.linear(args[2], weight[start:], None if bias is None else bias[start:])
    values = values.unflatten(2, (layer.num_heads, -1)).transpose(1, 2)  # [b, heads, t, c]
    return layer.out_proj((attention @ values).transpose(1, 2).flatten(2)), None


def _refusal(network: Any) -> str:
    return (
        f"{network.architecture} is no stack of blocks in which all tokens attend to all (as vit_b_16 and timm's ViT, "
        "DeiT, DINOv2, BEiT and EVA are), which attention_rollout and generic_attention need; leave them out and use a "
        "method for all networks, such as integrated_gradients, occlusion or rise."
    )
